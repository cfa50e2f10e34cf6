// What a pass's moments (KeyMoments in plan.h) add to query rows: their weight and value, merged into the
// rows' running state.
#pragma once

#include "algorithms/engine/packing.h"
#include "core/memory.h"

namespace hyperattn {

/// Query rows in flight. A row's state holds Σ weight·2^−maximum and Σ weight·value·2^−maximum.
struct RowStates {
  int64_t count = 0;
  const float* queries = nullptr;  ///< scaled to base 2, row-major (count × d)
  float* maximum = nullptr;
  double* sum = nullptr;
  float* accumulator = nullptr;  ///< count × value_columns
};

/// One worker's scratch memory.
class MomentTerm {
 public:
  explicit MomentTerm(const TileLayout& layout) : layout_(layout) {}

  /// Adds the term of `keys` ≥ 1 keys with these moments. 2·d·(d + d_v) FLOPs a row; a row's bits depend on
  /// nothing but its own query and state.
  void add(const KeyMoments& moments, int64_t keys, const RowStates& rows);

 private:
  void pack(const KeyMoments& moments);
  void multiply(const RowStates& rows, const Buffer<float>& panels, int64_t columns, Buffer<float>& product);

  TileLayout layout_;
  const KeyMoments* packed_ = nullptr;  // whose matrices the panels hold
  Buffer<float> covariance_;
  Buffer<float> cross_covariance_;
  Buffer<float> query_covariance_;  // q·Σ of each row
  Buffer<float> query_cross_;       // q·C of each row
};

}  // namespace hyperattn
