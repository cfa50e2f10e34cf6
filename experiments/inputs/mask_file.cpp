#include "experiments/inputs/mask_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "experiments/files/hdf5_file.h"

namespace hyperattn {
namespace {

/// An integer dataset seen as `patterns` arrays of `size` values each.
struct PerPattern {
  IntegerArray array;
  int64_t patterns = 1;
  int64_t size = 0;

  [[nodiscard]] const int64_t* pattern(int64_t i) const { return array.values.data() + i * size; }
};

/// The problem's leading dimensions.
struct Leading {
  int64_t batch;
  int64_t heads;
};

/// `rank` is the rank without leading (batch, heads). The number of patterns is checked here, since empty
/// patterns take no room in the file, however many they are.
PerPattern read_patterns(const Hdf5File& file, const std::string& dataset, size_t rank,
                         const Leading& leading) {
  PerPattern result{file.read_integers(dataset)};
  const std::vector<int64_t>& shape = result.array.shape;
  if (shape.size() != rank && shape.size() != rank + 2)
    fail_input(
        fmt::format("{} of '{}' must have {} dimensions, or {} with leading (batch, heads), but has shape {}",
                    dataset, file.path(), rank, rank + 2, shape_text(shape)));
  if (shape.size() == rank + 2) {
    const bool shared = shape[0] == 1 && shape[1] == 1;
    if (!shared && (shape[0] != leading.batch || shape[1] != leading.heads))
      fail_input(
          fmt::format("{} of '{}' must hold one pattern for all heads, or lead with ({}, {}), the (batch, "
                      "heads) of the problem, but has shape {}",
                      dataset, file.path(), leading.batch, leading.heads, shape_text(shape)));
    result.patterns = shape[0] * shape[1];
  }
  result.size = static_cast<int64_t>(result.array.values.size()) / result.patterns;
  return result;
}

std::vector<HeavyMask::Pattern> read_blocks(const Hdf5File& file, const Leading& leading) {
  const PerPattern blocks = read_patterns(file, "/mask/blocks", 2, leading);
  if (blocks.array.shape.back() != 4)
    fail_input(
        fmt::format("/mask/blocks of '{}' must have 4 columns (query_begin, query_end, key_begin, key_end), "
                    "but has shape {}",
                    file.path(), shape_text(blocks.array.shape)));
  std::vector<HeavyMask::Pattern> patterns(static_cast<size_t>(blocks.patterns));
  for (int64_t p = 0; p < blocks.patterns; ++p)
    for (const int64_t* row = blocks.pattern(p); row != blocks.pattern(p) + blocks.size; row += 4) {
      const bool filler =
          blocks.array.shape.size() == 4 && std::all_of(row, row + 4, [](int64_t x) { return x == -1; });
      if (!filler) patterns[static_cast<size_t>(p)].blocks.push_back({row[0], row[1], row[2], row[3]});
    }
  return patterns;
}

HeavyMask::Pattern compressed_rows(const Hdf5File& file, const int64_t* indptr, int64_t offsets,
                                   const int64_t* indices, int64_t available) {
  const int64_t count = offsets > 0 ? indptr[offsets - 1] : 0;
  if (count < 0 || count > available)
    fail_input(
        fmt::format("the last value of /mask/indptr of '{}' is {}, but must be between 0 and the {} entries "
                    "of /mask/indices",
                    file.path(), count, available));
  HeavyMask::Pattern pattern;
  pattern.indptr.assign(indptr, indptr + offsets);
  for (int64_t i = 0; i < count; ++i) {
    if (indices[i] < 0 || indices[i] > std::numeric_limits<int32_t>::max())
      fail_input(fmt::format("/mask/indices of '{}' holds {} at {}, which is not a key row", file.path(),
                             indices[i], i));
    pattern.indices.push_back(static_cast<int32_t>(indices[i]));
  }
  return pattern;
}

std::vector<HeavyMask::Pattern> read_compressed_rows(const Hdf5File& file, const Leading& leading) {
  const PerPattern indptr = read_patterns(file, "/mask/indptr", 1, leading);
  const PerPattern indices = read_patterns(file, "/mask/indices", 1, leading);
  if (indptr.patterns != indices.patterns)
    fail_input(
        fmt::format("/mask/indptr and /mask/indices of '{}' must have the same leading (batch, heads), but "
                    "have shapes {} and {}",
                    file.path(), shape_text(indptr.array.shape), shape_text(indices.array.shape)));
  std::vector<HeavyMask::Pattern> patterns;
  for (int64_t p = 0; p < indptr.patterns; ++p)
    patterns.push_back(
        compressed_rows(file, indptr.pattern(p), indptr.size, indices.pattern(p), indices.size));
  return patterns;
}

}  // namespace

HeavyMask read_mask_file(const std::string& path, int64_t batch, int64_t heads, int64_t query_count,
                         int64_t key_count) {
  const Leading leading{batch, heads};
  const Hdf5File file = Hdf5File::open(path);
  const bool blocks = file.exists("/mask/blocks");
  const bool rows = file.exists("/mask/indptr") && file.exists("/mask/indices");
  if (blocks == rows)
    fail_input(
        fmt::format("mask file '{}' must hold either /mask/blocks or /mask/indptr and /mask/indices, but {}",
                    path, blocks ? "holds both" : "holds neither"));
  HeavyMask mask(blocks ? read_blocks(file, leading) : read_compressed_rows(file, leading));
  try {
    mask.validate(batch * heads, query_count, key_count);
  } catch (const Error& error) {
    fail_input(fmt::format("mask file '{}': {}", path, error.what()));
  }
  return mask;
}

}  // namespace hyperattn
