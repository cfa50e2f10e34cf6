// Standard normal numbers from random bits (Box and Muller, 1958), with a logarithm and cosine of additions,
// products, a quotient and a root alone, in one order: the same bits on every processor, GPU, system and
// compiler, whose own functions differ in their last bits. A loop of it becomes vectors.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/everywhere.h"

namespace hyperattn {

/// target[i] = √(−2 ln(1 − u)) · cos(2πv), where u and v in [0, 1) are the upper 53 bits of low[i] and
/// high[i]; within 4 units in the last place.
void box_muller(const uint64_t* low, const uint64_t* high, int64_t count, double* target);

/// Its steps, for sources whose compiler fuses no products with sums. Polynomials are those of fdlibm's
/// e_log.c, k_cos.c and k_sin.c (Sun Microsystems, 1993), of errors below one unit in the last place.
namespace box_muller_steps {

HYPERATTN_EVERYWHERE inline uint64_t bits_of(double x) {
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof(bits));
  return bits;
}
HYPERATTN_EVERYWHERE inline double number_of(uint64_t bits) {
  double x = 0;
  memcpy(&x, &bits, sizeof(x));
  return x;
}

constexpr int kBits = 53;  // of a uniform number
constexpr int kMantissaBits = 52;
constexpr uint64_t kMantissa = (uint64_t{1} << kMantissaBits) - 1;

/// Of a normal number x > 0: with x = 2^k·(1 + f), 1 + f in [√½, √2), and s = f/(2 + f),
/// ln(1 + f) = f − f²/2 + s·(f²/2 + R(s²)).
HYPERATTN_EVERYWHERE inline double logarithm(double x) {
  constexpr uint64_t kRootHalf = 0x3FE6A09E667F3BCD;
  constexpr uint64_t kOne = 0x3FF0000000000000;
  const uint64_t moved = bits_of(x) + (kOne - kRootHalf);
  const auto k = static_cast<double>(static_cast<int32_t>(moved >> kMantissaBits) - 1023);
  const double f = number_of((moved & kMantissa) + kRootHalf) - 1.0;
  const double s = f / (2.0 + f);
  const double z = s * s;
  const double w = z * z;
  const double even = w * (0x1.999999997FA04p-2 + w * (0x1.C71C51D8E78AFp-3 + w * 0x1.39A09D078C69Fp-3));
  const double odd = z * (0x1.5555555555593p-1 +
                          w * (0x1.2492494229359p-2 + w * (0x1.7466496CB03DEp-3 + w * 0x1.2F112DF3E5244p-3)));
  const double half_square = 0.5 * f * f;
  constexpr double kLn2High = 0x1.62E42FEEp-1;
  constexpr double kLn2Low = 0x1.A39EF35793C76p-33;
  return k * kLn2High - ((half_square - (s * (half_square + (even + odd)) + k * kLn2Low)) - f);
}

/// cos(2π·bits/2^53), from the nearest quarter of a turn on.
HYPERATTN_EVERYWHERE inline double cosine_of_turns(int64_t bits) {
  constexpr int kQuarterBits = kBits - 2;
  const int64_t quarter = (bits + (int64_t{1} << (kQuarterBits - 1))) >> kQuarterBits;
  const auto rest = static_cast<double>(bits - (quarter << kQuarterBits));
  const double x = rest * 0x1p-51 * 0x1.921FB54442D18p0;  // π/2
  const double z = x * x;
  const double sine =
      x +
      x * z *
          (-0x1.5555555555549p-3 +
           z * (0x1.111111110F8A6p-7 + z * (-0x1.A01A019C161D5p-13 +
                                            z * (0x1.71DE357B1FE7Dp-19 +
                                                 z * (-0x1.AE5E68A2B9CEBp-26 + z * 0x1.5D93A5ACFD57Cp-33)))));
  const double higher =
      z *
      (0x1.555555555554Cp-5 +
       z * (-0x1.6C16C16C15177p-10 +
            z * (0x1.A01A019CB1590p-16 +
                 z * (-0x1.27E4F809C52ADp-22 + z * (0x1.1EE9EBDB4B1C4p-29 + z * -0x1.8FAE9BE8838D4p-37)))));
  const double half_square = 0.5 * z;
  const double first = 1.0 - half_square;
  const double cosine = first + (((1.0 - first) - half_square) + z * higher);
  const double size = (quarter & 1) != 0 ? sine : cosine;
  const uint64_t sign = static_cast<uint64_t>((quarter + 1) & 2) << 62;
  return number_of(bits_of(size) ^ sign);
}

HYPERATTN_EVERYWHERE inline double number(uint64_t low, uint64_t high) {
  constexpr int kDropped = 64 - kBits;
  // 1 − u lies in (0, 1], so the logarithm is finite.
  const auto rest = static_cast<double>(static_cast<int64_t>((uint64_t{1} << kBits) - (low >> kDropped)));
  const double radius = sqrt(-2.0 * logarithm(rest * 0x1p-53));
  return radius * cosine_of_turns(static_cast<int64_t>(high >> kDropped));
}

}  // namespace box_muller_steps

}  // namespace hyperattn
