#include "experiments/inputs/mask_file.h"
#include "tests/fuzz/hdf5_maker.h"
#include "tests/fuzz/promises.h"
#include "tests/fuzz/scratch_file.h"
#include "tests/fuzz/targets.h"

namespace hyperattn::fuzz {
namespace {

constexpr int64_t kHeads = 2;
constexpr int64_t kQueries = 5;
constexpr int64_t kKeys = 7;

std::string made_file(Choices& choices) {
  Hdf5Maker file;
  const size_t form = choices.below(4);
  const bool of_each_head = choices.rarely(4);
  const auto shape = [&](std::vector<hsize_t> own) {
    if (of_each_head) own.insert(own.begin(), {1, kHeads});
    return Expected{own, true};
  };
  if (form != 1) file.dataset("/mask/blocks", shape({choices.below(4), 4}), choices);
  if (form == 1 || form == 2) file.dataset("/mask/indptr", shape({kQueries + 1}), choices);
  if (form == 1 || form == 2) file.dataset("/mask/indices", shape({choices.below(12)}), choices);
  if (form == 3) file.link("/mask", choices);
  return file.image();
}

}  // namespace

void run_masks(const std::string& bytes) {
  Choices choices(bytes);
  const ScratchFile file(made_file(choices));
  reads_or_refuses([&] {
    const HeavyMask mask = read_mask_file(file.path(), 1, kHeads, kQueries, kKeys);
    mask.validate(kHeads, kQueries, kKeys);  // what was accepted is valid
  });
}

}  // namespace hyperattn::fuzz
