// What visits and triangles leave out of a tile, against the definition entry by entry.
#include "algorithms/engines/cpu/masking.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <string>
#include <vector>

#include "tests/algorithms/random_plans.h"

namespace hyperattn {
namespace {

/// 'x' for what is −∞, '.' for what is as it was.
std::string left_out(const std::vector<float>& values) {
  std::string text;
  for (const float value : values) text += std::isinf(value) ? 'x' : '.';
  return text;
}

bool keeps_others(const std::vector<float>& values) {
  for (size_t i = 0; i < values.size(); ++i)
    if (!(std::isinf(values[i]) && values[i] < 0) && values[i] != static_cast<float>(i)) return false;
  return true;
}

std::vector<float> counted(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  return values;
}

}  // namespace

TEST_CASE("masking: a visit leaves out what lies outside it and what it excludes", "[masking]") {
  testing::Dice dice(5);
  int left = 0;
  int whole = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    constexpr int64_t kRanks = 50;
    Pass pass;
    // The exclusions of another visit lie before and behind those of this one.
    pass.excluded = {1, 2, 3, 40};
    Visit visit;
    visit.begin = dice.below(kRanks);
    visit.end = dice.between(visit.begin, kRanks);
    visit.excluded_begin = static_cast<int64_t>(pass.excluded.size());
    std::vector<bool> excluded(kRanks, false);
    for (int64_t rank = visit.begin; rank < visit.end; ++rank)
      if (dice.chance(0.05)) {
        pass.excluded.push_back(static_cast<int32_t>(rank));
        excluded[static_cast<size_t>(rank)] = true;
      }
    visit.excluded_end = static_cast<int64_t>(pass.excluded.size());
    pass.excluded.insert(pass.excluded.end(), {0, 7, 33});

    const int64_t first = dice.below(kRanks);
    const int64_t count = dice.between(1, kRanks - first);
    std::string expected;
    for (int64_t rank = first; rank < first + count; ++rank)
      expected += rank < visit.begin || rank >= visit.end || excluded[static_cast<size_t>(rank)] ? 'x' : '.';
    std::vector<float> bias = counted(count);
    mask_left_out(pass, visit, first, count, bias.data());
    CAPTURE(visit.begin, visit.end, first, count);
    REQUIRE(left_out(bias) == expected);
    REQUIRE(keeps_others(bias));
    const bool any = expected.find('x') != std::string::npos;
    REQUIRE(leaves_out(pass, visit, first, count) == any);
    (any ? left : whole) += 1;
  }
  CAPTURE(left, whole);
  CHECK(left > 100);
  CHECK(whole > 100);
}

TEST_CASE("masking: a triangle leaves out what lies beyond the diagonal and the window", "[masking]") {
  testing::Dice dice(6);
  for (int trial = 0; trial < 2000; ++trial) {
    Pass pass;
    pass.triangular = true;
    pass.diagonal = dice.between(-9, 9);
    pass.window = dice.chance(0.5) ? dice.between(1, 12) : 0;
    const int64_t first_rank = dice.below(20);
    const int64_t position = dice.below(20);
    const int64_t rows = dice.between(1, 5);
    const int64_t columns = dice.between(1, 17);
    const int64_t stride = columns + dice.below(3);
    std::vector<float> scores = counted(rows * stride);
    mask_triangle(pass, first_rank, position, rows, columns, scores.data(), stride);
    std::string expected;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < stride; ++j) {
        const int64_t rank = first_rank + j;
        const int64_t last = position + i + pass.diagonal;
        const bool seen = rank <= last && (pass.window == 0 || rank > last - pass.window);
        expected += j >= columns || seen ? '.' : 'x';
      }
    CAPTURE(pass.diagonal, pass.window, first_rank, position, rows, columns, stride);
    REQUIRE(left_out(scores) == expected);
    REQUIRE(keeps_others(scores));
  }
}

}  // namespace hyperattn
