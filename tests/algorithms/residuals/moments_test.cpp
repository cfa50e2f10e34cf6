// The residual `moments`, and the first and second moments that it and linear values are made of.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <numeric>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/primitives/covariance.h"
#include "core/eigen.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Catch::Matchers::Contains;

Settings moments_with(Settings more = {}) {
  more.emplace_back("residual", std::string("moments"));
  return more;
}

// Moments of all keys in double, straight from their definitions.
double covariance_of(MatrixView<const float> a, int64_t i, MatrixView<const float> b, int64_t j) {
  double mean_a = 0;
  double mean_b = 0;
  for (int64_t r = 0; r < a.rows; ++r) {
    mean_a += static_cast<double>(a.row(r)[i]) / static_cast<double>(a.rows);
    mean_b += static_cast<double>(b.row(r)[j]) / static_cast<double>(a.rows);
  }
  double sum = 0;
  for (int64_t r = 0; r < a.rows; ++r)
    sum += (static_cast<double>(a.row(r)[i]) - mean_a) * (static_cast<double>(b.row(r)[j]) - mean_b);
  return sum / static_cast<double>(a.rows);
}

// One query against keys −1 and 1 with values −a and a: mean 0, variance 1, covariance with the values a.
struct TwoKeys {
  static constexpr float kValue = 3;
  RandomProblem p{ProblemSize{1, 2, 1, 1}};

  explicit TwoKeys(float query) {
    p.problem.scale = 1;
    p.query.data()[0] = query;
    for (int i = 0; i < 2; ++i) p.key.data()[i] = static_cast<float>(2 * i - 1);
    for (int i = 0; i < 2; ++i) p.value.data()[i] = static_cast<float>(2 * i - 1) * kValue;
  }
  [[nodiscard]] ForwardState run() const {
    return run_backend("hyper", p.problem,
                       moments_with({{"mask", std::string("none")}, {"sample_size", int64_t{2}}}));
  }
};

}  // namespace

TEST_CASE("moments by hand: two keys, below the critical deviation and beyond it") {
  const double critical = std::sqrt(2 * std::log(2.0));  // 1.177
  {
    const ForwardState seen = TwoKeys(1).run();
    CAPTURE(seen.result.lse.data()[0], seen.result.out.data()[0]);
    REQUIRE(seen.result.lse.data()[0] == Approx(std::log(2.0) + 0.5).epsilon(1e-6));
    REQUIRE(seen.result.out.data()[0] == Approx(3.0).epsilon(1e-6));
  }
  const ForwardState seen = TwoKeys(-3).run();
  CAPTURE(seen.result.lse.data()[0], seen.result.out.data()[0]);
  REQUIRE(seen.result.lse.data()[0] == Approx(3 * critical).epsilon(1e-6));  // ln 2 cancels against g
  REQUIRE(seen.result.out.data()[0] == Approx(-3 * critical).epsilon(1e-6));
}

TEST_CASE("key_moments are the node's means and covariances at awkward sizes, also far from 0") {
  for (const int64_t keys : {1, 2, 255, 256, 257, 8209})
    for (const int64_t dim : {1, 3, 16, 65}) {
      RandomProblem p({1, keys + 5, dim, 7}, 3);
      for (int64_t i = 0; i < p.key.shape().size(); ++i) p.key.data()[i] += 100;  // of deviation 1
      AttentionNode node = whole_problem(1, keys);
      node.key_begin += 5;
      node.key_end += 5;
      MatrixView<const float> k = p.problem.key.matrix(0);
      MatrixView<const float> v = p.problem.value.matrix(0);
      for (MatrixView<const float>* rows : {&k, &v}) {
        rows->data += 5 * rows->stride;
        rows->rows = keys;
      }
      const KeyMoments seen = key_moments(p.problem, 0, node);
      // The mean is rounded to float: 100·ε; each product of two deviations below 6 then errs by 12·100·ε.
      const double allowed = 12 * 100 * 1.2e-7;
      for (int64_t i = 0; i < dim; i += 2) {
        for (int64_t j = 0; j < dim; j += 3) {
          const double expected = covariance_of(k, i, k, j);
          CAPTURE(keys, dim, i, j, expected);
          REQUIRE(static_cast<double>(seen.covariance[static_cast<size_t>(i * dim + j)]) ==
                  Approx(expected).margin(allowed));
        }
        for (int64_t j = 0; j < 7; ++j) {
          const double expected = covariance_of(k, i, v, j);
          CAPTURE(keys, dim, i, j, expected);
          REQUIRE(static_cast<double>(seen.cross_covariance[static_cast<size_t>(i * 7 + j)]) ==
                  Approx(expected).margin(allowed));
        }
      }
      double mean = 0;
      for (int64_t r = 0; r < keys; ++r) mean += static_cast<double>(v.row(r)[6]) / static_cast<double>(keys);
      REQUIRE(static_cast<double>(seen.mean_value[6]) == Approx(mean).margin(1e-6));
    }
}

TEST_CASE("moments agree with the formula in double: every kind of mask, causal, awkward sizes, all levels") {
  struct Shape {
    ProblemSize size;
    double spread;
  };
  const std::vector<Shape> shapes = {{{1, 1, 1, 1}, 1},
                                     {{65, 63, 3, 5, 2, 1}, 1},
                                     {{257, 129, 65, 1}, 1},
                                     {{131, 511, 256, 256}, 1},
                                     {{401, 401, 16, 16, 1, 2, true}, 1},
                                     {{300, 400, 16, 8}, 12},
                                     {{131, 401, 16, 16, 1, 4, true, 2}, 1}};
  const std::vector<Settings> kinds = {
      {{"mask", std::string("none")}},
      {{"mask", std::string("band")}, {"band_width", int64_t{9}}},
      {{"blocks", std::string("banded")}},
      {{"query_blocks", std::string("by_bucket")}},
      {{"buckets", std::string("kmeans")}, {"query_blocks", std::string("by_bucket")}},
      {}};
  for (const Shape& shape : shapes)
    for (const Settings& kind : kinds) {
      const RandomProblem p(shape.size, 11, shape.spread);
      Settings settings = moments_with(kind);
      for (const auto& [name, value] : Settings{{"block_size", int64_t{32}},
                                                {"bucket_count", int64_t{8}},
                                                {"min_seq_len", int64_t{64}},
                                                {"sample_size", int64_t{1}}})
        settings.emplace_back(name, value);
      for (const std::string& level : usable_instruction_sets()) {
        force_instruction_set(level);
        const ForwardState seen = run_backend("hyper", p.problem, settings);
        force_instruction_set("");
        const DoubleResult expected = run_plan_in_double(p.problem, *seen.planned.plan);
        // A log-weight is a sum of d² products in float, relative to its own size (here below 40), and values
        // of order √d times spread carry that error as their weights do.
        const double allowed = 2e-6 * (1 + std::sqrt(static_cast<double>(shape.size.head_dim))) *
                               (1 + shape.spread * shape.spread);
        const double out = largest_difference(seen.result.out, expected.out);
        const double lse = largest_difference(seen.result.lse, expected.lse);
        CAPTURE(to_string(shape.size), kind.empty() ? "plain" : kind[0].first, level, out, lse, allowed);
        REQUIRE(out <= allowed * (1 + largest_entry(expected.out)));
        REQUIRE(lse <= allowed);
        REQUIRE(seen.result.diagnostics.entries == count_entries(*seen.planned.plan));
      }
    }
}

TEST_CASE("moments are exact where the mask holds every key and where all keys are equal") {
  const RandomProblem p({90, 60, 8, 5}, 5);
  const ForwardState exact = run_backend("exact", p.problem);
  const ForwardState whole = run_backend(
      "hyper", p.problem, moments_with({{"block_size", int64_t{60}}, {"sample_size", int64_t{8}}}));
  REQUIRE_FALSE(has_query_terms(*whole.planned.plan));
  REQUIRE(largest_difference(whole.result.out, exact.result.out) < 1e-6);

  RandomProblem equal({90, 60, 8, 5}, 5);
  for (int64_t i = 1; i < 60; ++i) {
    std::copy_n(equal.key.data(), 8, equal.key.data() + i * 8);
    std::copy_n(equal.value.data(), 5, equal.value.data() + i * 5);
  }
  const ForwardState wanted = run_backend("exact", equal.problem);
  const ForwardState seen = run_backend(
      "hyper", equal.problem, moments_with({{"block_size", int64_t{16}}, {"sample_size", int64_t{8}}}));
  REQUIRE(has_query_terms(*seen.planned.plan));
  // 60 equal terms of size 3 at most, each rounded.
  REQUIRE(largest_difference(seen.result.out, wanted.result.out) < 60 * 3 * 1.2e-7);
  REQUIRE(largest_difference(seen.result.lse, wanted.result.lse) < 1e-5);
}

TEST_CASE("moments of Gaussian keys err far less than leaving them out, and stay finite at scores of 300") {
  const ProblemSize size{1024, 1024, 16, 16};
  const auto error = [&](const std::string& residual) {
    const RandomProblem p(size, 23);
    const ForwardState exact = run_backend("exact", p.problem);
    const ForwardState seen =
        run_backend("hyper", p.problem,
                    {{"residual", residual}, {"block_size", int64_t{64}}, {"sample_size", int64_t{64}}});
    return (as_eigen(seen.result.out.view().matrix(0)) - as_eigen(exact.result.out.view().matrix(0))).norm();
  };
  const float none = error("none");
  const float moments = error("moments");
  CAPTURE(none, moments);
  REQUIRE(moments < none / 5);

  const RandomProblem p(size, 23, 80);
  const ForwardState seen = run_backend(
      "hyper", p.problem, moments_with({{"block_size", int64_t{64}}, {"sample_size", int64_t{64}}}));
  const double largest = largest_entry(seen.result.out);
  CAPTURE(largest);
  REQUIRE(std::isfinite(largest));
  for (int64_t i = 0; i < 1024; ++i) REQUIRE(std::isfinite(seen.result.lse.data()[i]));
}

TEST_CASE("moments: sample_size 0 leaves them out, and they have no gradient and say so") {
  const RandomProblem p({70, 70, 8, 5}, 5);
  const Settings blocks = {{"block_size", int64_t{16}}, {"sample_size", int64_t{0}}};
  const ForwardState without = run_backend("hyper", p.problem, moments_with(blocks));
  REQUIRE_FALSE(has_query_terms(*without.planned.plan));

  const Call call =
      call_for("hyper", moments_with({{"block_size", int64_t{16}}, {"sample_size", int64_t{8}}}));
  const Backend& hyper = backend_named("hyper");
  REQUIRE_THAT(hyper.no_gradient(call.parameters), Contains("residual: moments"));
  REQUIRE(hyper.no_gradient(call_for("hyper", {}).parameters).empty());
  const ForwardState seen = hyper.forward(p.problem, call);
  REQUIRE_THROWS_WITH(hyper.backward(p.problem, call, seen, p.dout.view()), Contains("residual: moments"));
  REQUIRE_THROWS_AS(run_backward(p.problem, *seen.planned.plan, seen.result, p.dout.view()), Error);
  REQUIRE_THROWS_AS(
      run_plan_backward_in_double(p.problem, *seen.planned.plan,
                                  run_plan_in_double(p.problem, *seen.planned.plan), p.dout.view()),
      Error);
  const std::vector<double> logs(70, 0.0);
  const RowSums denominators = sums_from_logs({1, 1, 70, 1}, logs.data());
  EngineOptions options;
  options.denominators = &denominators;
  REQUIRE_THROWS_AS(run_forward(p.problem, *seen.planned.plan, options), Error);
}

TEST_CASE("moments give the same bits for any number of threads") {
  const RandomProblem p({9001, 9001, 16, 8, 1, 1, true}, 19);
  const Settings settings = moments_with({{"block_size", int64_t{64}}, {"min_seq_len", int64_t{512}}});
  check_bits_for_any_threads("hyper", p.problem, settings);
}

}  // namespace hyperattn::testing
