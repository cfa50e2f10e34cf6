// Normal numbers against the formula in long double, at the borders of every branch and at random.
#include "core/box_muller.h"

#include <array>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "core/random.h"

namespace hyperattn {
namespace {

constexpr uint64_t kTurn = uint64_t{1} << 53;

/// Of numbers of 53 bits. The cosine is taken within an eighth of a turn, where an angle loses no digits.
long double expected(uint64_t u, uint64_t v) {
  const long double rest = std::ldexp(static_cast<long double>(kTurn - u), -53);
  const auto cosine = [](uint64_t from_zero) {
    const auto angle = [](uint64_t bits) {
      return 2 * std::numbers::pi_v<long double> * std::ldexp(static_cast<long double>(bits), -53);
    };
    return from_zero <= kTurn / 8 ? std::cos(angle(from_zero)) : std::sin(angle(kTurn / 4 - from_zero));
  };
  const uint64_t up = v <= kTurn / 2 ? v : kTurn - v;  // cos(−x) = cos x
  const long double turned = up <= kTurn / 4 ? cosine(up) : -cosine(kTurn / 2 - up);
  return std::sqrt(-2 * std::log(rest)) * turned;
}

double of(uint64_t u, uint64_t v) {
  const uint64_t low = u << 11;
  const uint64_t high = v << 11;
  double number = std::numeric_limits<double>::quiet_NaN();
  box_muller(&low, &high, 1, &number);
  return number;
}

void check_number(uint64_t u, uint64_t v) {
  const auto sought = expected(u, v);
  const double seen = of(u, v);
  CAPTURE(u, v, seen, static_cast<double>(sought));
  CHECK(std::abs(static_cast<long double>(seen) - sought) <=
        4 * std::numeric_limits<double>::epsilon() * std::abs(sought));
}

}  // namespace

TEST_CASE("normal numbers are the formula's, at the borders of its branches too", "[random]") {
  const std::array<uint64_t, 12> us = {0, 1, 2, kTurn / 8,
                                       // 1 − u is the root of ½, or a half, and its neighbours
                                       2638142138555085, 2638142138555086, 2638142138555087, kTurn / 2 - 1,
                                       kTurn / 2, kTurn / 2 + 1, kTurn - 2, kTurn - 1};
  for (const uint64_t u : us)
    for (uint64_t eighth = 0; eighth < 8; ++eighth)
      for (const int64_t by : {-1, 0, 1}) {
        const uint64_t v = (eighth * kTurn / 8 + static_cast<uint64_t>(by)) % kTurn;
        check_number(u, v);
      }
  const RandomStream stream(5, Purpose::other);
  for (uint64_t i = 0; i < 20000; ++i) check_number(stream.bits(2 * i) >> 11, stream.bits(2 * i + 1) >> 11);
}

TEST_CASE("normal numbers of hand", "[random]") {
  CHECK(of(0, kTurn / 3) == 0);                             // ln 1
  CHECK(of(kTurn / 2, 0) == std::sqrt(2 * std::log(2.0)));  // cos 0
  CHECK(of(kTurn / 2, kTurn / 2) == -of(kTurn / 2, 0));     // cos π
  CHECK(of(kTurn / 2, kTurn / 4) == 0);                     // cos π/2
  CHECK(of(kTurn - 1, 0) == Approx(8.571674348652905));     // the largest: √(106 ln 2)
}

TEST_CASE("normal numbers in any company have the same bits", "[random]") {
  const RandomStream stream(6, Purpose::other);
  std::vector<uint64_t> low(41);
  std::vector<uint64_t> high(41);
  for (size_t i = 0; i < low.size(); ++i) {
    low[i] = stream.bits(2 * i);
    high[i] = stream.bits(2 * i + 1);
  }
  std::vector<double> alone(low.size());
  for (size_t i = 0; i < low.size(); ++i) box_muller(&low[i], &high[i], 1, &alone[i]);
  for (size_t count = 0; count <= low.size(); ++count) {
    std::vector<double> together(count + 1, 77.0);
    box_muller(low.data(), high.data(), static_cast<int64_t>(count), together.data());
    CAPTURE(count);
    CHECK(std::vector<double>(together.begin(), together.end() - 1) ==
          std::vector<double>(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(count)));
    CHECK(together.back() == 77.0);
  }
}

}  // namespace hyperattn
