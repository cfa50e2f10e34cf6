// What a pass adds to query rows besides weighted keys: the weight and value of its moments, and the linear
// part of its values (KeyMoments and LinearValues in plan.h), merged into the rows' running state.
#pragma once

#include "algorithms/kernels/packing.h"
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

/// One worker's scratch memory. A row's bits depend on nothing but its own query and state.
class QueryTerms {
 public:
  explicit QueryTerms(const TileLayout& layout) : layout_(layout) {}

  /// Adds the term of `keys` ≥ 1 keys with these moments. 2·d·(d + d_v) FLOPs a row.
  void add_moments(const KeyMoments& moments, int64_t keys, const RowStates& rows);

  /// Adds the linear part of the values of all weight that came since `maximum_before` and `sum_before` were
  /// the rows' state. 2·d·d_v FLOPs a row.
  void add_linear_values(const LinearValues& linear, const float* maximum_before, const double* sum_before,
                         const RowStates& rows);

 private:
  void pack_cross_covariance(const void* owner, const std::vector<float>& matrix);
  void multiply(const RowStates& rows, const Buffer<float>& panels, int64_t columns, Buffer<float>& product);

  TileLayout layout_;
  const void* packed_ = nullptr;  // whose matrices the panels hold
  Buffer<float> covariance_;
  Buffer<float> cross_covariance_;
  Buffer<float> query_covariance_;  // q·Σ of each row
  Buffer<float> query_cross_;       // q·C of each row
};

}  // namespace hyperattn
