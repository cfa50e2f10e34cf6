// Sums over a row in an order of their own, so that every compiler, instruction set and GPU gives the same
// bits: column c is added to sum c mod 8; then the sums are folded.
#pragma once

#include <cstdint>

#include "core/everywhere.h"

namespace hyperattn {

/// Sum of term(c) over [0, count).
template <class Number, class Term>
HYPERATTN_EVERYWHERE Number folded_sum(int64_t count, const Term& term) {
  constexpr int kSums = 8;
  Number sums[kSums] = {};
  int64_t c = 0;
  for (; c + kSums <= count; c += kSums)
    for (int i = 0; i < kSums; ++i) sums[i] += term(c + i);
  for (int i = 0; c + i < count; ++i) sums[i] += term(c + i);
  for (int width = kSums / 2; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) sums[i] += sums[i + width];
  return sums[0];
}

/// ‖x‖² in double, in which squares of floats are exact.
HYPERATTN_EVERYWHERE inline double squared_norm(const float* x, int64_t count) {
  return folded_sum<double>(count,
                            [x](int64_t c) { return static_cast<double>(x[c]) * static_cast<double>(x[c]); });
}

/// Σ x·y. Sources that call it are compiled so that multiply and add are not fused.
HYPERATTN_EVERYWHERE inline float sum_of_products(const float* x, const float* y, int64_t count) {
  return folded_sum<float>(count, [x, y](int64_t c) { return x[c] * y[c]; });
}

}  // namespace hyperattn
