// The doors from the host to the kernels. Compiled by both compilers: plain structs, and functions that say
// whether the launch was accepted.
#pragma once

#include <cstdint>

#include "algorithms/engines/cuda/flat_types.h"
#include "algorithms/engines/cuda/precision.h"
#include "core/everywhere.h"

namespace hyperattn::cuda {

/// Elements of a row of a device matrix: d padded with zeros, to whole steps of the matrix units.
constexpr int64_t kRowStep = 16;
[[nodiscard]] constexpr int64_t padded_width(int64_t width) {
  return (width + kRowStep - 1) / kRowStep * kRowStep;
}

/// The plan on the device.
struct PlanArrays {
  const FlatTile* tiles = nullptr;
  const FlatPass* passes = nullptr;
  const FlatList* lists = nullptr;
  const FlatVisit* visits = nullptr;
  const FlatPack* packs = nullptr;
  const FlatEntry* entries = nullptr;
  const int32_t* integers = nullptr;
  const float* numbers = nullptr;
};

/// Inputs in the precision of the kernels, rows of padded width; the last two are the plan's synthetic keys.
struct InputArrays {
  const void* query = nullptr;
  const void* key = nullptr;
  const void* value = nullptr;
  const void* synthetic_key = nullptr;
  const void* synthetic_value = nullptr;
  int32_t head_dim = 0;   ///< padded
  int32_t value_dim = 0;  ///< padded
  float scale = 0;        ///< of scores, base 2: log₂e·s
};

/// The running state of every row, in base 2.
struct RowState {
  float* maximum = nullptr;
  double* sum = nullptr;
  double* absolute = nullptr;  ///< Σ|D|e; null without signed weights
  double* linear = nullptr;    ///< Σ of the linear lists of the phase; null without query terms
  float* out = nullptr;        ///< numerators, rows of `value_dim` (padded); null where no values are wanted
};

/// What `FinishArguments::inverse` has for a row that is not finished.
constexpr float kUnfinished = -1;

/// Counts of a forward call.
struct ForwardCounts {
  unsigned long long excluded = 0;  ///< entries that sampled blocks leave out
  unsigned long long capped = 0;
  unsigned long long guarded = 0;
  unsigned long long infinite = 0;  ///< rows with a NaN or infinity in out or lse
};

struct FinishArguments {
  RowState state;
  int64_t rows = 0;
  int32_t value_dim = 0;  ///< not padded
  int32_t out_stride = 0;
  const float* given_maximum = nullptr;  ///< null: the rows' own denominators
  const double* given_sum = nullptr;
  float* lse = nullptr;  ///< natural
  void* out = nullptr;   ///< rows of value_dim
  Precision out_type = Precision::fp32;
  float* inverse = nullptr;  ///< 1/denominator, 0 for a row without
  ForwardCounts* counts = nullptr;
};

struct ForwardArguments {
  PlanArrays plan;
  InputArrays inputs;
  RowState state;
  bool values = true;                ///< false: sums alone are wanted
  int32_t tile_rows = kTileRows;     ///< kWideTileRows or kWidestTileRows: see `takes_wide_tiles`
  const float* score_cap = nullptr;  ///< a row each, base 2; null: none
  ForwardCounts* counts = nullptr;
  int64_t first_tile = 0;
  int64_t tile_count = 0;
  /// What becomes of the rows of last tiles, or of all where these tiles are all that there is (`lse` null:
  /// they are kept).
  FinishArguments finish;
  bool is_only = false;  ///< these tiles are all that there is: rows have no state yet

  [[nodiscard]] HYPERATTN_EVERYWHERE bool finishes(const FlatTile& tile) const {
    return finish.lse != nullptr && (is_only || tile.is_last != 0);
  }
};

/// What the backward pass knows of every row: e = 2^(x − maximum)·inverse, ⟨g, out⟩.
struct BackwardRows {
  const void* upstream = nullptr;  ///< g, in the precision of the kernels, rows of `upstream_dim` (padded)
  int32_t upstream_dim = 0;
  const float* maximum = nullptr;
  const float* inverse = nullptr;  ///< 0: a row without gradient
  const float* delta = nullptr;
};

struct QueryGradientArguments {
  PlanArrays plan;
  InputArrays inputs;
  BackwardRows rows;
  float gradient_scale = 0;  ///< s
  float* dquery = nullptr;   ///< rows of padded head_dim, added to
  int64_t first_tile = 0;
  int64_t tile_count = 0;
  bool wide_tiles = false;  ///< tiles have kWideTileRows rows
  /// Of wide tiles that are all that there is: rows of `finished_width` in some type that are written in
  /// place of `dquery` (null: not yet).
  void* finished = nullptr;
  Precision finished_type = Precision::fp32;
  int32_t finished_width = 0;
};

struct KeyGradientArguments {
  PlanArrays plan;
  InputArrays inputs;
  BackwardRows rows;
  float gradient_scale = 0;
  const KeyJob* jobs = nullptr;
  const KeyItem* items = nullptr;
  int64_t job_count = 0;
  bool is_plain = false;    ///< for the kernels that take wide tiles
  bool of_keys = true;      ///< false: the gradient of values alone is wanted
  float* dkey = nullptr;    ///< a row of padded head_dim for each slot
  float* dvalue = nullptr;  ///< a row of upstream_dim for each slot
  /// What jobs without slots add to: rows of all keys, of `key_width` and `value_width`.
  float* key_gradient = nullptr;
  float* value_gradient = nullptr;
  int32_t key_width = 0;
  int32_t value_width = 0;
  bool adds = true;  ///< false, of plain jobs: these are the first that the keys have, and are written
  /// Of plain jobs that are the last that the keys have: where rows of `key_width` and `value_width` are
  /// written in some type (null: not yet), after what `key_gradient` and `value_gradient` have for the rows
  /// that `begun` marks was added.
  void* finished_key = nullptr;
  void* finished_value = nullptr;
  Precision finished_key_type = Precision::fp32;
  Precision finished_value_type = Precision::fp32;
  const uint8_t* begun = nullptr;
};

/// A launch that was not accepted says why (cudaError_t as an int, 0: accepted). Asynchronous on `stream`.
using LaunchError = int;

[[nodiscard]] LaunchError launch_forward(Precision precision, const ForwardArguments& arguments,
                                         void* stream);
/// Whether the card has kernels for such rows that take more than kTileRows at once, of plain plans, and know
/// no caps.
[[nodiscard]] bool takes_wide_tiles(Precision precision, int64_t head_dim, int64_t value_dim);
[[nodiscard]] LaunchError launch_query_gradient(Precision precision, const QueryGradientArguments& arguments,
                                                void* stream);
[[nodiscard]] LaunchError launch_key_gradient(Precision precision, const KeyGradientArguments& arguments,
                                              void* stream);
/// Bytes of shared memory that the largest of these kernels needs.
[[nodiscard]] int64_t shared_bytes(Precision precision, int64_t head_dim, int64_t value_dim);

/// Rows (rows × width) of some type to rows of the padded width in the precision, filled up with zeros. Where
/// `out` is not null, also ⟨rounded row, out row⟩ in `delta`, and elements with `clipped` become 0 before.
struct RoundArguments {
  const void* rows = nullptr;
  Precision type = Precision::fp32;  ///< of rows and `out`
  void* rounded = nullptr;           ///< null: only `delta` is wanted
  int64_t count = 0;
  int32_t width = 0;
  const void* out = nullptr;
  const uint8_t* clipped = nullptr;
  float* delta = nullptr;
};
[[nodiscard]] LaunchError launch_round(Precision precision, const RoundArguments& arguments, void* stream);

/// Adds moments, and what linear values add, of the tiles to the state.
struct QueryTermArguments {
  PlanArrays plan;
  const float* query = nullptr;  ///< fp32 copy of the rounded rows, padded
  int32_t head_dim = 0;          ///< not padded
  int32_t value_dim = 0;
  int32_t query_stride = 0;
  int32_t out_stride = 0;
  float scale = 0;  ///< s
  RowState state;
  int64_t first_tile = 0;
  int64_t tile_count = 0;
};
[[nodiscard]] LaunchError launch_query_terms(const QueryTermArguments& arguments, void* stream);

/// Divides rows that are not finished by their denominators. A row without keys, and a guarded row, has sum 0
/// and lse −∞ afterwards.
[[nodiscard]] LaunchError launch_finish(const FinishArguments& arguments, void* stream);

struct ClipArguments {
  const float* value = nullptr;  ///< fp32 copy of the rounded values, rows of value_stride
  int32_t value_stride = 0;
  int32_t value_dim = 0;
  int64_t heads = 0;
  int64_t heads_per_key_head = 1;
  int64_t queries = 0;
  int64_t keys = 0;
  int32_t causal = 0;
  int64_t window = 0;
  const double* sum = nullptr;
  void* out = nullptr;
  Precision out_type = Precision::fp32;
  uint8_t* clipped = nullptr;
};
[[nodiscard]] LaunchError launch_clip(const ClipArguments& arguments, void* stream);

/// Adds to each key row the parts that it is made of, in their order; or writes their sum, and marks the row.
struct ReduceArguments {
  const int64_t* rows = nullptr;
  const int64_t* part_begin = nullptr;
  const KeyPart* parts = nullptr;
  int64_t row_count = 0;
  const float* slots = nullptr;  ///< rows of `stride`
  int32_t stride = 0;
  float* target = nullptr;  ///< rows of `width`
  int32_t width = 0;
  uint8_t* begun = nullptr;  ///< null: adds
};
[[nodiscard]] LaunchError launch_reduce(const ReduceArguments& arguments, void* stream);

/// fp32 rows (of `stride`) to rows of `width` in some type.
struct StoreArguments {
  const float* rows = nullptr;
  int32_t stride = 0;
  void* target = nullptr;
  Precision type = Precision::fp32;
  int32_t width = 0;
  int64_t count = 0;
};
[[nodiscard]] LaunchError launch_store(const StoreArguments& arguments, void* stream);

[[nodiscard]] LaunchError launch_fill(float* target, float value, int64_t elements, void* stream);

/// Rows of padded width in the precision back to fp32 rows of the padded width.
[[nodiscard]] LaunchError launch_widen(Precision precision, const void* rounded, float* wide,
                                       int64_t elements, void* stream);

}  // namespace hyperattn::cuda
