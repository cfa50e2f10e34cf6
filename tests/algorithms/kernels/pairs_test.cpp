// Kernels of pairs of bfloat16 against plain loops in double; and the code of tiles on tiles in software,
// which add up as the instruction TDPBF16PS is defined to, alone and as the kernel of the engine.
#include "algorithms/kernels/pairs.h"

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <iostream>
#include <vector>

#include "algorithms/kernels/bfloat16.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/kernels/pairs_tiles_internal.h"
#include "algorithms/kernels/tile.h"
#include "core/random.h"
#include "tests/algorithms/engines/precision_checks.h"
#include "tests/algorithms/random_plans.h"

namespace hyperattn::testing {
namespace {

float low_of(uint32_t word) {
  return bfloat16_value(static_cast<uint16_t>(word));
}
float high_of(uint32_t word) {
  return bfloat16_value(static_cast<uint16_t>(word >> 16));
}
uint32_t word_of(float low, float high) {
  return static_cast<uint32_t>(bfloat16_bits(high)) << 16 | bfloat16_bits(low);
}

/// Denormal numbers are zero to the instruction, as operands and as results.
float flushed(float x) {
  return std::fpclassify(x) == FP_SUBNORMAL ? 0.0F : x;
}

/// Eight tiles of 16 rows of 16 words.
struct SoftwareTiles {
  using Tile = uint32_t[16][16];
  static Tile& tile(int t) {
    static thread_local Tile tiles[8];
    return tiles[t];
  }

  template <int T>
  static void zero() {
    std::memset(&tile(T), 0, sizeof(Tile));
  }
  template <int T>
  static void load(const void* rows, int64_t stride) {
    for (int64_t i = 0; i < 16; ++i) std::memcpy(tile(T)[i], static_cast<const char*>(rows) + i * stride, 64);
  }
  template <int T>
  static void store(void* rows, int64_t stride) {
    for (int64_t i = 0; i < 16; ++i) std::memcpy(static_cast<char*>(rows) + i * stride, tile(T)[i], 64);
  }
  /// Intel's definition: the first and the second numbers of pairs add up apart, then both to the sum.
  template <int I, int J>
  static void add_product() {
    const Tile& a = tile(4 + I);
    const Tile& b = tile(6 + J);
    Tile& sums = tile(2 * I + J);
    for (int i = 0; i < 16; ++i)
      for (int n = 0; n < 16; ++n) {
        float first = 0;
        float second = 0;
        for (int k = 0; k < 16; ++k) {
          first = flushed(std::fma(flushed(low_of(a[i][k])), flushed(low_of(b[k][n])), first));
          second = flushed(std::fma(flushed(high_of(a[i][k])), flushed(high_of(b[k][n])), second));
        }
        sums[i][n] =
            std::bit_cast<uint32_t>(flushed(std::bit_cast<float>(sums[i][n]) + flushed(first + second)));
      }
  }
};

float plain_round_row(const float* row, int64_t count, uint32_t* words, int64_t word_count) {
  const auto at = [&](int64_t k) { return k < count ? row[k] : 0.0F; };
  float sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += row[k] * row[k];
  for (int64_t p = 0; p < word_count; ++p) words[p] = word_of(at(2 * p), at(2 * p + 1));
  return sum;
}

/// Words to the next 16 beyond the columns are zero.
void plain_round_weights(float* weights, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    std::vector<float> row(weights + i * stride, weights + i * stride + columns);
    row.resize(static_cast<size_t>((columns + 31) / 32 * 32));
    for (size_t p = 0; 2 * p < row.size(); ++p) {
      const uint32_t word = word_of(row[2 * p], row[2 * p + 1]);
      std::memcpy(weights + i * stride + p, &word, sizeof word);
    }
  }
}

void plain_weigh(const SoftmaxArguments& s) {
  for (int64_t i = 0; i < s.rows; ++i) {
    float* row = s.scores + i * s.score_stride;
    double sum = 0;
    for (int64_t j = 0; j < s.columns; ++j)
      sum += static_cast<double>(row[j] = std::exp2(row[j] - s.maximum[i]));
    s.sum[i] += sum;
  }
  plain_round_weights(s.scores, s.score_stride, s.rows, s.columns);
}

void plain_pack_rows(const PairRowsArguments& rows) {
  const auto at = [&](int64_t row, int64_t c) {
    if (row >= rows.count || rows.first_column + c >= rows.columns) return 0.0F;
    return rows.source[row][rows.first_column + c] * (rows.factor == nullptr ? 1.0F : rows.factor[row]);
  };
  for (int64_t p = 0; p < rows.depth; ++p)
    for (int64_t c = 0; c < rows.width; ++c)
      rows.panel[p * rows.width + c] = word_of(at(2 * p, c), at(2 * p + 1, c));
}

const PairKernels kSoftware = {"tiles in software",
                               kTilePanel,
                               2 * kTileRows,
                               kTileRows,
                               kTileWords,
                               [] {},
                               [] {},
                               multiply_by_tiles<SoftwareTiles>,
                               plain_round_row,
                               plain_weigh,
                               plain_round_weights,
                               plain_pack_rows};

std::vector<const PairKernels*> all_kernels() {
  std::vector<const PairKernels*> all = {&kSoftware};
  for (const PairKernels* kernels : {avx512_pair_kernels(), amx_pair_kernels()})
    if (kernels != nullptr) all.push_back(kernels);
  return all;
}

int64_t up(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
}

std::vector<float> normals(uint64_t seed, int64_t count) {
  const RandomStream stream(seed, Purpose::other);
  std::vector<float> numbers(static_cast<size_t>(count));
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<float>(stream.normal(i));
  return numbers;
}

std::vector<uint32_t> random_words(uint64_t seed, int64_t count) {
  const std::vector<float> numbers = normals(seed, 2 * count);
  std::vector<uint32_t> words(static_cast<size_t>(count));
  for (size_t i = 0; i < words.size(); ++i) words[i] = word_of(numbers[2 * i], numbers[2 * i + 1]);
  return words;
}

/// Runs one product and compares it with sums in double.
void check_product(const PairKernels& kernels, int64_t rows, int64_t columns, int64_t depth, bool with_bias) {
  const int64_t padded = up(rows, kernels.row_step);
  const int64_t a_row = depth + 5;
  const int64_t c_stride = columns + 16;
  const int64_t panel_stride = kernels.panel * depth + 16;
  const std::vector<uint32_t> a = random_words(1, padded * a_row);
  const std::vector<uint32_t> b = random_words(2, up(columns, kernels.panel) / kernels.panel * panel_stride);
  const std::vector<float> bias = normals(3, columns);
  const std::vector<float> before = normals(4, padded * c_stride);
  std::vector<float> c = before;
  PairMultiplyArguments product;
  product.rows = rows;
  product.columns = columns;
  product.depth = depth;
  product.a = a.data();
  product.a_row = a_row;
  product.b = b.data();
  product.b_panel_stride = panel_stride;
  product.c = c.data();
  product.c_stride = c_stride;
  product.bias = with_bias ? bias.data() : nullptr;
  product.factor = 0.37F;
  kernels.begin();
  kernels.multiply(product);
  kernels.end();
  double worst = 0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t panel = j / kernels.panel;
      const int64_t width = std::min(kernels.panel, columns - panel * kernels.panel);
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k) {
        const uint32_t x = a[static_cast<size_t>(i * a_row + k)];
        const uint32_t y = b[static_cast<size_t>(panel * panel_stride + k * width + j % kernels.panel)];
        sum += static_cast<double>(low_of(x)) * static_cast<double>(low_of(y)) +
               static_cast<double>(high_of(x)) * static_cast<double>(high_of(y));
      }
      const auto at = static_cast<size_t>(i * c_stride + j);
      const double expected = with_bias ? static_cast<double>(bias[static_cast<size_t>(j)]) + 0.37 * sum
                                        : static_cast<double>(before[at]) + sum;
      worst = std::max(worst, std::abs(static_cast<double>(c[at]) - expected));
    }
  INFO(kernels.name << ": " << rows << " × " << columns << " × " << depth
                    << (with_bias ? ", bias" : ", added") << " differs by " << worst);
  CHECK(worst < 3e-6 * std::sqrt(static_cast<double>(depth)) * 8);
  for (int64_t i = 0; i < rows; ++i)  // nothing is written beyond the columns
    for (int64_t j = columns; j < c_stride; ++j)
      REQUIRE(c[static_cast<size_t>(i * c_stride + j)] == before[static_cast<size_t>(i * c_stride + j)]);
}

TEST_CASE("pairs: products are those of plain loops", "[pairs]") {
  for (const PairKernels* kernels : all_kernels())
    for (const int64_t rows : {1, 5, 6, 7, 15, 16, 17, 24, 31, 32, 33})
      for (const int64_t columns : {16, 32, 48, 64, 80, 112, 128, 256})
        for (const int64_t depth : {1, 2, 3, 16, 17, 33, 64})
          for (const bool with_bias : {false, true})
            if (depth % kernels->depth_step == 0) check_product(*kernels, rows, columns, depth, with_bias);
}

TEST_CASE("pairs: rounding and packing are those of plain loops, bit for bit", "[pairs]") {
  for (const PairKernels* kernels : all_kernels()) {
    INFO(kernels->name);
    for (const int64_t count : {1, 2, 15, 16, 17, 31, 32, 33, 64, 65, 127}) {
      const std::vector<float> row = normals(5, count);
      const int64_t words = up((count + 1) / 2, kernels->depth_step);
      std::vector<uint32_t> seen(static_cast<size_t>(words + 1), 7);
      std::vector<uint32_t> expected = seen;
      const float square = kernels->round_row(row.data(), count, seen.data(), words);
      const float plain = plain_round_row(row.data(), count, expected.data(), words);
      CHECK(seen == expected);
      CHECK(square == Approx(plain).epsilon(1e-5));
    }
    for (const int64_t columns : {16, 32, 48, 256}) {
      std::vector<float> seen = normals(6, 5 * 256);
      std::vector<float> expected = seen;
      kernels->round_weights(seen.data(), 256, 5, columns);
      plain_round_weights(expected.data(), 256, 5, columns);
      for (size_t i = 0; i < 5; ++i)
        CHECK(std::memcmp(seen.data() + i * 256, expected.data() + i * 256,
                          static_cast<size_t>(up(columns, 32) / 2) * sizeof(float)) == 0);
    }
    for (const int64_t columns : {16, 32, 48, 240}) {
      std::vector<float> seen = normals(6, 3 * 256);
      std::vector<float> expected = seen;
      std::vector<float> maximum = {0.5F, -1.0F, 2.0F};
      std::vector<double> sums(3, 1.5);
      std::vector<double> expected_sums = sums;
      SoftmaxArguments softmax;
      softmax.rows = 3;
      softmax.columns = columns;
      softmax.scores = seen.data();
      softmax.score_stride = 256;
      softmax.maximum = maximum.data();
      softmax.sum = sums.data();
      kernels->weigh(softmax);
      softmax.scores = expected.data();
      softmax.sum = expected_sums.data();
      plain_weigh(softmax);
      for (size_t i = 0; i < 3; ++i) {
        CHECK(sums[i] == Approx(expected_sums[i]).epsilon(1e-6));
        for (size_t w = 0; w < static_cast<size_t>(up(columns, 32) / 2);
             ++w) {  // one unit may round otherwise
          const auto a = std::bit_cast<uint32_t>(seen[i * 256 + w]);
          const auto b = std::bit_cast<uint32_t>(expected[i * 256 + w]);
          CHECK(low_of(a) == Approx(low_of(b)).epsilon(0.008));
          CHECK(high_of(a) == Approx(high_of(b)).epsilon(0.008));
        }
      }
    }
    const std::vector<float> numbers = normals(7, 33 * 100);
    const std::vector<float> factors = normals(8, 33);
    std::vector<const float*> sources;
    for (int64_t i = 0; i < 33; ++i) sources.push_back(numbers.data() + i * 100);
    for (const int64_t count : {1, 2, 17, 32, 33})
      for (const float* factor : {static_cast<const float*>(nullptr), factors.data()}) {
        std::vector<uint32_t> seen(32 * 48, 9);
        std::vector<uint32_t> expected(32 * 48, 9);
        PairRowsArguments rows{sources.data(), factor, count, 64, 100, seen.data(), 48, 32};
        kernels->pack_rows(rows);
        rows.panel = expected.data();
        plain_pack_rows(rows);
        CHECK(seen == expected);
      }
  }
}

/// The engine with tiles in software in place of those of the processor.
TEST_CASE("pairs: plans run on tiles in software as on any kernel", "[pairs]") {
  const std::vector<std::string> levels = usable_instruction_sets();
  if (std::find(levels.begin(), levels.end(), "avx512") == levels.end()) {
    std::cout << "SKIPPED: panels of words are those of avx512, which this processor does not have\n";
    return;
  }
  force_instruction_set("avx512");
  force_pair_kernels(&kSoftware);
  Tally tally;
  for (const PlanFamily& family : plan_families())
    for (const ProblemSize& size : {kSizes[0], kSizes[2], kSizes[3], kSizes[6]}) {
      const RoundedProblem p(size, "bf16", 3);
      const Plan plan = RandomPlan(p.problem, family, 1).make();
      INFO(family.name << ", " << to_string(size));
      compare_plan("bf16", p, plan, tally, *find_engine("cpu"));
    }
  force_pair_kernels(nullptr);
  force_instruction_set("");
}

}  // namespace
}  // namespace hyperattn::testing
