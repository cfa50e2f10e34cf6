#include <array>
#include <sstream>

#include "experiments/results/reports.h"
#include "experiments/results/results_file.h"
#include "tests/experiments/results/support.h"
#include "tests/fuzz/hdf5_maker.h"
#include "tests/fuzz/promises.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {
namespace {

ResultsFile good_results() {
  const RunDescription run = results_test::made_up_run(2, 2);
  ResultsFile results;
  results.name = run.name;
  results.config = run.config;
  results.trials_per_case = run.trials_per_case;
  results.provenance = {run.provenance, run.provenance};
  results.files = {{"in.h5", "0123abcd"}, {"text", "4567ef"}};
  results.cases = run.cases;
  for (int trial = 0; trial < 2; ++trial) results.trials.push_back(results_test::made_up_record(0, trial));
  results.trials.push_back(results_test::made_up_record(1, 0, "failed"));
  return results;
}

const std::string& good_image() {
  static const std::string image = [] {
    const testing::ScratchFolder folder;
    write_results(folder / "good.h5", good_results());
    std::ostringstream bytes;
    bytes << std::ifstream(folder / "good.h5", std::ios::binary).rdbuf();
    return bytes.str();
  }();
  return image;
}

void change(Hdf5Maker& file, Choices& choices) {
  static constexpr std::array<const char*, 5> kTables{"/trials", "/cases", "/heads", "/levels", "/timings"};
  static constexpr std::array<const char*, 4> kObjects{"/config", "/provenance", "/provenance/2",
                                                       "/provenance/3"};
  static constexpr std::array<const char*, 8> kAttributes{"trials_per_case", "schema",   "run_id",   "name",
                                                          "created",         "finished", "complete", "shard"};
  switch (choices.below(6)) {
    case 0:
      return file.change_table(choices.of(kTables), choices);
    case 1:
      return file.attribute("/", choices.of(kAttributes), choices);
    case 2:
      return file.dataset(choices.of(kTables), {{2}}, choices);
    case 3:
      return file.dataset(choices.of(kObjects), {{}}, choices);
    case 4:
      return file.attribute(choices.of(kObjects), "warnings", choices);
    default:
      return file.link(choices.rarely(2) ? choices.of(kTables) : choices.of(kObjects), choices);
  }
}

}  // namespace

void run_results(const std::string& bytes) {
  Choices choices(bytes);
  std::string image = good_image();
  if (const size_t changes = choices.below(6); changes > 0) {
    Hdf5Maker file(image);
    for (size_t i = 0; i < changes; ++i) change(file, choices);
    if (choices.below(8) == 1)
      file.change_table("/files", choices);  // last: earlier inputs mean what they meant
    image = file.image();
  }
  reads_or_refuses([&] {
    const ResultsFile results = read_results_image(image, "fuzz.h5");
    std::ostringstream out;
    show_results(results, out);
    compare_results(results, good_results(), out);
    const ScratchFile again("");
    write_results(ScratchFile::path(), results);
    const ResultsFile back = read_results(ScratchFile::path());
    promise(back.trials.size() == results.trials.size() && back.cases == results.cases &&
                back.files == results.files,
            "results that were accepted can be stored and read again");
  });
}

}  // namespace hyperattn::fuzz
