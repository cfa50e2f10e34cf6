#include <sstream>

#include "experiments/files/hdf5_file.h"
#include "experiments/inputs/input_source.h"
#include "experiments/inputs/mask_file.h"
#include "experiments/results/reports.h"
#include "tests/fuzz/promises.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {

void run_hdf5_image(const std::string& bytes) {
  reads_or_refuses([&] {
    const ResultsFile results = read_results_image(bytes, "fuzz.h5");
    std::ostringstream out;
    show_results(results, out);
  });
  const ScratchFile file(bytes);
  reads_or_refuses([&] { static_cast<void>(read_mask_file(file.path(), 1, 2, 5, 7)); });
  reads_or_refuses([&] {
    Parameters parameters;
    parameters.set("path", file.path());
    static_cast<void>(find_input_source("file")->make(parameters, 0, 0));
  });
}

}  // namespace hyperattn::fuzz
