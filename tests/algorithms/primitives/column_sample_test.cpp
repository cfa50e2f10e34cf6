#include "algorithms/primitives/column_sample.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/statistics.h"

namespace hyperattn::testing {
namespace {

TEST_CASE("uniform draws distinct keys, all of them when m = n_k, with weight n_k/m") {
  const RandomStream stream(1, Purpose::key_sample);
  const ColumnSample some = draw_columns(Sampling::uniform, 20, 50, nullptr, stream);
  CHECK(std::set<int32_t>(some.rows.begin(), some.rows.end()).size() == 20);
  CHECK(some.uniform_log_weight == Approx(std::log(2.5)));
  const ColumnSample all = draw_columns(Sampling::uniform, 50, 50, nullptr, stream);
  CHECK(all.rows.size() == 50);
  CHECK(all.uniform_log_weight == 0);
  CHECK(draw_columns(Sampling::uniform, 0, 50, nullptr, stream).rows.empty());
}

TEST_CASE("prefix takes the first m keys with weight 1") {
  const ColumnSample sample =
      draw_columns(Sampling::prefix, 3, 50, nullptr, RandomStream(1, Purpose::key_sample));
  CHECK(sample.rows == std::vector<int32_t>{0, 1, 2});
  CHECK(sample.uniform_log_weight == 0);
  CHECK(sample.log_weights.empty());
}

TEST_CASE("frequencies of i.i.d. draws are the stated probabilities (|z| < 4.5)") {
  constexpr int64_t kDraws = 60000;
  const std::vector<double> norms = {4, 0, 1, 0, 3, 0.5, 0, 1.5};
  const auto n = static_cast<int64_t>(norms.size());
  const double total = 10;
  for (const double share : {-1.0, 0.0, 0.5, 1.0}) {  // −1: uniform_iid
    const RandomStream stream(5, Purpose::value_sample);
    const ColumnSample sample = share < 0 ? draw_columns(Sampling::uniform_iid, kDraws, n, nullptr, stream)
                                          : draw_by_norm(kDraws, n, norms.data(), share, stream);
    std::vector<int64_t> counts(norms.size(), 0);
    for (const int32_t row : sample.rows) ++counts[static_cast<size_t>(row)];
    for (size_t j = 0; j < norms.size(); ++j) {
      const double p = share < 0 ? 1.0 / static_cast<double>(n)
                                 : share / static_cast<double>(n) + (1 - share) * norms[j] / total;
      INFO("share " << share << ", key " << j << ": " << counts[j] << " of " << kDraws << ", expected p "
                    << p);
      if (p == 0) {
        CHECK(counts[j] == 0);
      } else {
        CHECK(std::abs((counts[j] - kDraws * p) / std::sqrt(kDraws * p * (1 - p))) < kZBound);
      }
    }
    for (size_t i = 0; i < 20 && share >= 0; ++i) {
      const auto j = static_cast<size_t>(sample.rows[i]);
      const double p = share / static_cast<double>(n) + (1 - share) * norms[j] / total;
      CHECK(sample.log_weights[i] == Approx(-std::log(kDraws * p)).margin(1e-5));
    }
  }
}

TEST_CASE("a value matrix of zeros is sampled uniformly") {
  const std::vector<double> zeros(10, 0.0);
  const ColumnSample sample =
      draw_columns(Sampling::value_norm, 1000, 10, zeros.data(), RandomStream(1, Purpose::key_sample));
  std::set<int32_t> seen(sample.rows.begin(), sample.rows.end());
  CHECK(seen.size() == 10);
  for (const float weight : sample.log_weights) CHECK(weight == Approx(std::log(10.0 / 1000)));
}

TEST_CASE("squared row norms, for awkward shapes") {
  for (const int64_t rows : {1, 2047, 2048, 2049})
    for (const int64_t cols : {1, 7, 64}) {
      const Tensor<float> x = gaussian({1, 1, rows, cols}, 2, Purpose::value);
      const auto norms = squared_row_norms(x.matrix(0));
      double largest = 0;
      for (int64_t i = 0; i < rows; ++i) {
        double sum = 0;
        for (int64_t c = 0; c < cols; ++c) sum += std::pow(static_cast<double>(x.matrix(0).row(i)[c]), 2);
        largest = std::max(largest, std::abs(norms[static_cast<size_t>(i)] - sum));
      }
      INFO(rows << " x " << cols);
      CHECK(largest < 1e-10);
    }
}

TEST_CASE("numerator and denominator of the residual estimator are unbiased (|z| < 4.5)") {
  constexpr int kSeeds = 600;
  const int64_t n_q = 24;
  const int64_t n_k = 60;
  RandomProblem p({n_q, n_k, 4, 2});
  const DoubleResult exact = attention_in_double(p.problem);
  for (const std::string sampling : {"uniform", "uniform_iid", "value_norm"})
    for (const std::string mask : {"sort_lsh", "none", "band"}) {
      const Settings settings = {{"mask", mask},
                                 {"bucket_count", int64_t{4}},
                                 {"block_size", int64_t{10}},
                                 {"band_width", int64_t{5}},
                                 {"sample_size", int64_t{12}},
                                 {"sampling", sampling}};
      std::vector<Moments> denominator(static_cast<size_t>(n_q));
      std::vector<Moments> numerator(static_cast<size_t>(n_q * 2));
      for (int seed = 0; seed < kSeeds; ++seed) {
        const PlannedCall call = planned("hyper", p.problem, settings, static_cast<uint64_t>(seed));
        const DoubleResult result = run_plan_in_double(p.problem, *call.plan);
        for (int64_t i = 0; i < n_q; ++i) {
          const double row_sum = std::exp(result.lse.data()[i]);
          denominator[static_cast<size_t>(i)].add(row_sum);
          for (int64_t c = 0; c < 2; ++c)
            numerator[static_cast<size_t>(i * 2 + c)].add(row_sum * result.out.data()[i * 2 + c]);
        }
      }
      double worst = 0;
      for (int64_t i = 0; i < n_q; ++i) {
        const double row_sum = std::exp(exact.lse.data()[i]);
        worst = std::max(worst, std::abs(denominator[static_cast<size_t>(i)].z(row_sum)));
        for (int64_t c = 0; c < 2; ++c)
          worst = std::max(
              worst,
              std::abs(numerator[static_cast<size_t>(i * 2 + c)].z(row_sum * exact.out.data()[i * 2 + c])));
      }
      INFO("sampling " << sampling << ", mask " << mask << ": largest |z| " << worst << " of " << n_q * 3);
      CHECK(worst < kZBound);
      CHECK(worst > 0);
    }
}

TEST_CASE("sampling by value norms is unbiased for A V, with the variance that its bound rests on") {
  constexpr int kSeeds = 2000;
  constexpr int64_t kKeys = 40;
  constexpr int64_t kDraws = 10;
  const Tensor<float> a = gaussian({1, 1, 1, kKeys}, 1, Purpose::query);
  const Tensor<float> v = gaussian({1, 1, kKeys, 3}, 1, Purpose::value);
  const auto norms = squared_row_norms(v.matrix(0));
  double exact[3] = {};
  double a_norm = 0;
  double v_norm = 0;
  for (int64_t j = 0; j < kKeys; ++j) {
    a_norm += std::pow(a.data()[j], 2);
    v_norm += norms[static_cast<size_t>(j)];
    for (int c = 0; c < 3; ++c) exact[c] += a.data()[j] * static_cast<double>(v.data()[j * 3 + c]);
  }
  Moments moments[3];
  Moments squared_error;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const RandomStream stream(static_cast<uint64_t>(seed), Purpose::value_sample);
    const ColumnSample sample = draw_by_norm(kDraws, kKeys, norms.data(), 0, stream);
    double estimate[3] = {};
    for (size_t r = 0; r < sample.rows.size(); ++r)
      for (int c = 0; c < 3; ++c)
        estimate[c] += std::exp(static_cast<double>(sample.log_weights[r])) * a.data()[sample.rows[r]] *
                       static_cast<double>(v.data()[sample.rows[r] * 3 + c]);
    double error = 0;
    for (int c = 0; c < 3; ++c) {
      moments[c].add(estimate[c]);
      error += std::pow(estimate[c] - exact[c], 2);
    }
    squared_error.add(error);
  }
  for (int c = 0; c < 3; ++c) CHECK(std::abs(moments[c].z(exact[c])) < kZBound);
  // E‖aᵀSᵀSV − aᵀV‖² = (‖a‖²‖V‖_F² − ‖aᵀV‖²)/m.
  const double product = exact[0] * exact[0] + exact[1] * exact[1] + exact[2] * exact[2];
  const double variance = (a_norm * v_norm - product) / kDraws;
  INFO("mean squared error " << squared_error.mean() << ", expected " << variance);
  CHECK(std::abs(squared_error.z(variance)) < kZBound);
}

TEST_CASE("the error of the denominator falls as m^(-1/2) (|z| < 4.5)") {
  constexpr int kSeeds = 300;
  const int64_t n = 2048;
  RandomProblem p({16, n, 8, 1});
  const DoubleResult exact = attention_in_double(p.problem);
  std::vector<Moments> squared_errors;
  for (const int64_t m : {16, 64, 256, 1024}) {
    const Settings settings = {
        {"mask", std::string("none")}, {"sample_size", m}, {"sampling", std::string("uniform_iid")}};
    Moments squares;
    for (int seed = 0; seed < kSeeds; ++seed) {
      const PlannedCall call = planned("hyper", p.problem, settings, static_cast<uint64_t>(seed));
      const DoubleResult result = run_plan_in_double(p.problem, *call.plan);
      double sum = 0;
      for (int64_t i = 0; i < 16; ++i)
        sum += std::pow(std::expm1(result.lse.data()[i] - exact.lse.data()[i]), 2);
      squares.add(sum / 16);
    }
    squared_errors.push_back(squares);
  }
  // The slope between neighbours, and its standard error: that of half the log of a mean is se/(2·mean).
  for (size_t i = 0; i + 1 < squared_errors.size(); ++i) {
    const Moments& few = squared_errors[i];
    const Moments& many = squared_errors[i + 1];
    const double slope = 0.5 * std::log(many.mean() / few.mean()) / std::log(4.0);
    const double error = 0.5 *
                         std::hypot(few.standard_error() / few.mean(), many.standard_error() / many.mean()) /
                         std::log(4.0);
    INFO("mean squared errors " << few.mean() << " and, with 4 times the keys, " << many.mean() << ": slope "
                                << slope << " ± " << error);
    CHECK(std::abs(slope + 0.5) < kZBound * error);
    CHECK(error < 0.06);
  }
}

}  // namespace
}  // namespace hyperattn::testing
