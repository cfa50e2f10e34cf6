#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {

const std::vector<Target>& targets() {
  static const std::vector<Target> all{
      {"config", run_config},   {"tensors", run_tensors},       {"masks", run_masks},
      {"results", run_results}, {"hdf5_image", run_hdf5_image}, {"model_files", run_model_files},
  };
  return all;
}

}  // namespace hyperattn::fuzz
