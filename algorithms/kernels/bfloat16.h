// bfloat16, the upper half of a float, rounded to nearest even.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace hyperattn {

/// NaN stays NaN; what lies beyond the largest bfloat16 by half a unit becomes infinite.
[[nodiscard]] inline uint16_t bfloat16_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16;
  return static_cast<uint16_t>(std::isnan(x) ? bits >> 16 | 0x40U : rounded);
}

[[nodiscard]] inline float bfloat16_value(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

/// `x` as a bfloat16 holds it.
[[nodiscard]] inline float rounded_to_bfloat16(float x) {
  return bfloat16_value(bfloat16_bits(x));
}

inline void round_to_bfloat16(const float* source, int64_t count, float* target) {
  for (int64_t i = 0; i < count; ++i) target[i] = rounded_to_bfloat16(source[i]);
}

}  // namespace hyperattn
