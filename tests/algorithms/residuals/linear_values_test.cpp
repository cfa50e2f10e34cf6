#include <Eigen/Core>
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <numeric>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/primitives/covariance.h"
#include "algorithms/residuals/runs.h"
#include "core/eigen.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/singular_values.h"

namespace hyperattn::testing {
namespace {

Settings linear_with(Settings more) {
  more.emplace_back("residual", std::string("linear_centroids"));
  return more;
}

RankedList plain_runs(const AttentionProblem& problem, int64_t keys, int64_t budget) {
  std::vector<int32_t> ranks(static_cast<size_t>(keys));
  std::iota(ranks.begin(), ranks.end(), 0);
  return make_centroids(*bound_of(problem), 0, empty_mask(whole_problem(problem.query_count(), keys)), ranks,
                        budget);
}

// Every query sees the runs, with linear values, and nothing else.
Plan plan_of_runs(const AttentionProblem& problem, int64_t budget) {
  PassBuilder pass(problem, 0, 0, RowOrder::run(0, problem.query_count()));
  KeyList runs = plain_runs(problem, problem.key_count(), budget).list;
  runs.linear_value = true;
  pass.with_linear_values(std::make_shared<const LinearValues>(missed_covariance(
      problem, 0, whole_problem(problem.query_count(), problem.key_count()), *runs.synthetic)));
  return plan_of(pass.everything_sees_all(pass.add_list(std::move(runs))).take());
}

}  // namespace

TEST_CASE("linear values by hand: two keys in one run, scores within it small and not") {
  // Keys −1 and 1 with values −3 and 3: mean 0, variance 1, covariance 3.
  RandomProblem p(ProblemSize{2, 2, 1, 1});
  p.problem.scale = 1;
  p.query.data()[0] = 0.5F;
  p.query.data()[1] = -2;
  for (int i = 0; i < 2; ++i) p.key.data()[i] = static_cast<float>(2 * i - 1);
  for (int i = 0; i < 2; ++i) p.value.data()[i] = static_cast<float>(6 * i - 3);
  const AttentionResult seen = run_forward(p.problem, plan_of_runs(p.problem, 1));
  CAPTURE(seen.out.data()[0], seen.out.data()[1]);
  REQUIRE(seen.out.data()[0] == Approx(0.5 * 3).epsilon(1e-6));
  REQUIRE(seen.out.data()[1] == Approx(-2.0 * 3 / 4).epsilon(1e-6));  // σ² = 4: faded to a quarter
  REQUIRE(seen.lse.data()[0] == Approx(std::log(2.0)).epsilon(1e-6));
}

TEST_CASE("missed_covariance is that of all keys less that of the runs, about the runs' mean") {
  for (const int64_t keys : {1, 17, 255, 257, 1031})
    for (const int64_t budget : {int64_t{1}, int64_t{5}, keys}) {
      if (budget > keys) continue;
      const RandomProblem p({1, keys, 5, 3}, 7);
      const RankedList runs = plain_runs(p.problem, keys, budget);
      const SyntheticKeys& means = *runs.list.synthetic;
      const LinearValues seen = missed_covariance(p.problem, 0, whole_problem(1, keys), means);
      const Eigen::MatrixXd k = as_eigen(p.problem.key.matrix(0)).cast<double>();
      const Eigen::MatrixXd v = as_eigen(p.problem.value.matrix(0)).cast<double>();
      Eigen::MatrixXd expected = Eigen::MatrixXd::Zero(5, 3);
      for (int64_t run = 0; run < means.key.shape().rows; ++run)
        for (int64_t m = means.member_begin[static_cast<size_t>(run)];
             m < means.member_begin[static_cast<size_t>(run) + 1]; ++m) {
          const int64_t row = means.member_order[m];
          const Eigen::RowVectorXd dk =
              k.row(row) - as_eigen(means.key.view().matrix(0)).row(run).cast<double>();
          const Eigen::RowVectorXd dv =
              v.row(row) - as_eigen(means.value.view().matrix(0)).row(run).cast<double>();
          expected += dk.transpose() * dv / static_cast<double>(keys);
        }
      for (int64_t i = 0; i < 5; ++i)
        for (int64_t j = 0; j < 3; ++j) {
          CAPTURE(keys, budget, i, j, expected(i, j));
          // Differences of sums of terms of order 1, each rounded to float.
          REQUIRE(static_cast<double>(seen.cross_covariance[static_cast<size_t>(i * 3 + j)]) ==
                  Approx(expected(i, j)).margin(5e-6));
        }
      if (keys == 17 && budget == 1)  // of every 16th key, here the first and the last
        for (int64_t i = 0; i < 5; ++i) {
          const double mean = k.col(i).mean();
          const double expected_variance = (std::pow(k(0, i) - mean, 2) + std::pow(k(16, i) - mean, 2)) / 2;
          CAPTURE(i, expected_variance);
          REQUIRE(static_cast<double>(seen.variance[static_cast<size_t>(i)]) ==
                  Approx(expected_variance).margin(5e-6));
        }
    }
}

TEST_CASE("linear centroids agree with the formula in double: masks, causal, awkward sizes, all levels") {
  struct Shape {
    ProblemSize size;
    double spread;
  };
  const std::vector<Shape> shapes = {{{1, 1, 1, 1}, 1},
                                     {{65, 63, 3, 5, 2, 1}, 1},
                                     {{257, 129, 65, 1}, 1},
                                     {{67, 511, 256, 256}, 1},
                                     {{401, 401, 16, 16, 1, 2, true}, 1},
                                     {{300, 400, 16, 8}, 12},
                                     {{131, 401, 16, 16, 1, 4, true, 2}, 1}};
  const std::vector<Settings> kinds = {
      {{"mask", std::string("none")}},
      {{"query_blocks", std::string("by_bucket")}},
      {{"buckets", std::string("kmeans")}, {"query_blocks", std::string("by_bucket")}},
      {}};
  for (const Shape& shape : shapes)
    for (const Settings& kind : kinds) {
      const RandomProblem p(shape.size, 11, shape.spread);
      Settings settings = linear_with(kind);
      for (const auto& [name, value] : Settings{{"block_size", int64_t{32}},
                                                {"bucket_count", int64_t{8}},
                                                {"min_seq_len", int64_t{64}},
                                                {"sample_size", std::min<int64_t>(shape.size.keys, 56)}})
        settings.emplace_back(name, value);
      for (const std::string& level : usable_instruction_sets()) {
        force_instruction_set(level);
        const ForwardState seen = run_backend("hyper", p.problem, settings);
        force_instruction_set("");
        const DoubleResult expected = run_plan_in_double(p.problem, *seen.planned.plan);
        // Scores are sums of d products in float, up to spread·√d in size; linear values are of the size of
        // such a score times a value, and faded beyond 1.
        const double allowed =
            1e-6 * (1 + std::sqrt(static_cast<double>(shape.size.head_dim))) * (1 + 4 * shape.spread);
        const double out = largest_difference(seen.result.out, expected.out);
        const double lse = largest_difference(seen.result.lse, expected.lse);
        CAPTURE(to_string(shape.size), kind.empty() ? "plain" : kind[0].first, level, out, lse, allowed);
        REQUIRE(out <= allowed * (1 + largest_entry(expected.out)));
        REQUIRE(lse <= allowed);
      }
    }
}

TEST_CASE("linear centroids are exact where all keys are sampled, and refuse a gradient") {
  for (const bool causal : {false, true}) {
    const RandomProblem p({96, 96, 8, 5, 1, 2, causal}, 5);
    const Settings settings = linear_with({{"block_size", int64_t{16}},
                                           {"bucket_count", int64_t{4}},
                                           {"min_seq_len", int64_t{24}},
                                           {"sample_size", int64_t{96}}});
    const ForwardState exact = run_backend("exact", p.problem);
    const ForwardState seen = run_backend("hyper", p.problem, settings);
    const double out = largest_difference(seen.result.out, exact.result.out);
    CAPTURE(causal, out);
    REQUIRE(has_query_terms(*seen.planned.plan));
    REQUIRE(out < 1e-5);
    const Call call = call_for("hyper", settings);
    REQUIRE_THROWS_WITH(backend_named("hyper").backward(p.problem, call, seen, p.dout.view()),
                        Catch::Contains("residual: linear_centroids"));
    REQUIRE_THROWS_AS(run_backward(p.problem, *seen.planned.plan, seen.result, p.dout.view()), Error);
  }
}

TEST_CASE("on Gaussian keys linear values take a fifth or more of the calibrated centroids' error away") {
  const RandomProblem p({2048, 2048, 16, 16}, 23);
  const ForwardState exact = run_backend("exact", p.problem);
  const auto error = [&](const std::string& residual) {
    const ForwardState seen =
        run_backend("hyper", p.problem,
                    {{"residual", residual}, {"block_size", int64_t{64}}, {"sample_size", int64_t{96}}});
    const Eigen::MatrixXf difference =
        as_eigen(seen.result.out.view().matrix(0)) - as_eigen(exact.result.out.view().matrix(0));
    return testing::operator_norm_of(difference.cast<double>());
  };
  const double calibrated = error("calibrated_centroids");
  const double linear = error("linear_centroids");
  CAPTURE(calibrated, linear);
  REQUIRE(linear < 0.8 * calibrated);
}

TEST_CASE("linear centroids give the same bits for any number of threads") {
  const RandomProblem p({9001, 9001, 16, 8, 1, 1, true}, 19);
  const Settings settings =
      linear_with({{"block_size", int64_t{64}}, {"min_seq_len", int64_t{512}}, {"sample_size", int64_t{96}}});
  check_bits_for_any_threads("hyper", p.problem, settings);
}

}  // namespace hyperattn::testing
