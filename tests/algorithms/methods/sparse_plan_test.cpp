#include "algorithms/methods/sparse.h"

#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/parallel.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

struct Sizes {
  int64_t bucket_count = 8;
  int64_t block_size = 16;
  int64_t sample_size = 0;
};

Settings settings_of(const Sizes& sizes) {
  return {{"bucket_count", sizes.bucket_count},
          {"block_size", sizes.block_size},
          {"sample_size", sizes.sample_size},
          {"min_seq_len", int64_t{16}}};
}

Matrix weights_of(const Plan& plan, const AttentionProblem& problem, int64_t head = 0) {
  return dense_weights(plan, head, problem.query_count(), problem.key_count());
}

// Rows 0 … n−1 in the order of a node's sorted buckets, by the definitions.
std::vector<int32_t> sorted_rows(MatrixView<const float> rows, const RandomStream& stream, int64_t buckets) {
  std::vector<uint32_t> codes(static_cast<size_t>(rows.rows));
  HashDirections(stream, rows.cols, hash_bits(buckets)).hash(rows, 0, rows.rows, codes.data());
  std::vector<int32_t> order(codes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return bucket_rank(codes[static_cast<size_t>(a)], BucketOrder::gray) <
           bucket_rank(codes[static_cast<size_t>(b)], BucketOrder::gray);
  });
  return order;
}

// The residual estimator's weights of one unmasked problem, entry by entry from the design's sentences.
Matrix expected_weights(const RandomProblem& p, const Sizes& sizes, uint64_t seed, uint32_t head) {
  const int64_t n_q = p.problem.query_count();
  const int64_t n_k = p.problem.key_count();
  const RandomStream hash(seed, Purpose::hash, 0, head, 0);
  const auto queries = sorted_rows(p.problem.query.matrix(head), hash, sizes.bucket_count);
  const auto keys = sorted_rows(p.problem.key.matrix(head), hash, sizes.bucket_count);
  Matrix weights = Matrix::Zero(n_q, n_k);
  for (int64_t a = 0; a < n_q; ++a)
    for (int64_t b = 0; b < n_k; ++b)
      if (a * n_k / n_q / sizes.block_size == b / sizes.block_size)
        weights(queries[static_cast<size_t>(a)], keys[static_cast<size_t>(b)]) = 1;
  const auto sample =
      sample_without_replacement(RandomStream(seed, Purpose::key_sample, 0, head, 0), n_k, sizes.sample_size);
  const Matrix mask = weights;
  for (int64_t i = 0; i < n_q; ++i)
    for (const int32_t j : sample)
      if (mask(i, j) == 0) weights(i, j) = static_cast<double>(n_k) / static_cast<double>(sizes.sample_size);
  return weights;
}

TEST_CASE("the plan of hyper has the weights of the design, entry by entry") {
  for (const ProblemSize& size :
       {ProblemSize{100, 100, 5, 3, 1, 2}, ProblemSize{64, 64, 5, 3}, ProblemSize{37, 101, 5, 3},
        ProblemSize{101, 37, 5, 3}, ProblemSize{3, 90, 5, 3}, ProblemSize{1, 1, 5, 3}}) {
    for (const int64_t m : {0, 1, 20}) {
      const Sizes sizes{.sample_size = std::min(m, size.keys)};
      RandomProblem p(size);
      const PlannedCall call = planned("hyper", p.problem, settings_of(sizes), 7);
      for (int64_t head = 0; head < p.problem.heads(); ++head) {
        const Matrix seen = weights_of(*call.plan, p.problem, head);
        const Matrix expected = expected_weights(p, sizes, 7, static_cast<uint32_t>(head));
        INFO(to_string(size) << ", m " << m << ", head " << head);
        CHECK((seen - expected).cwiseAbs().maxCoeff() < 1e-4);
      }
    }
  }
}

TEST_CASE("collisions are counted, or the entries count twice") {
  RandomProblem p({100, 100, 5, 3});
  const Sizes sizes{.sample_size = 30};
  const PlannedCall masked = planned("hyper", p.problem, settings_of(sizes), 0);
  const auto sample = sample_without_replacement(RandomStream(0, Purpose::key_sample, 0, 0, 0), 100, 30);
  const Matrix mask = weights_of(*planned("hyper", p.problem, settings_of({}), 0).plan, p.problem);
  double collisions = 0;
  for (const int32_t j : sample) collisions += mask.col(j).sum();
  CHECK(count_excluded(*masked.plan) == static_cast<int64_t>(collisions));
  CHECK(masked.notes.collisions == static_cast<int64_t>(collisions));
  CHECK(collisions > 0);
  Settings counted = settings_of(sizes);
  counted.emplace_back("collisions", std::string("count"));
  const PlannedCall twice = planned("hyper", p.problem, counted, 0);
  Matrix expected = mask;
  for (const int32_t j : sample) expected.col(j).array() += 100.0 / 30.0;
  CHECK((weights_of(*twice.plan, p.problem) - expected).cwiseAbs().maxCoeff() < 1e-5);
  CHECK(count_excluded(*twice.plan) == 0);
}

TEST_CASE("m = n_k, or one block that holds everything, is exact attention") {
  for (const ProblemSize& size :
       {ProblemSize{100, 100, 5, 3}, ProblemSize{40, 90, 7, 2, 2, 2}, ProblemSize{200, 200, 5, 3, 1, 1, true},
        ProblemSize{60, 200, 5, 3, 1, 1, true}, ProblemSize{200, 170, 5, 3, 1, 1, true},
        ProblemSize{40, 90, 7, 2, 2, 6, false, 2}, ProblemSize{70, 130, 5, 3, 2, 4, true, 1}}) {
    RandomProblem p(size, 4, 2.0);
    const DoubleResult exact = attention_in_double(p.problem);
    const Settings all_sampled = {{"sample_size", size.keys},
                                  {"block_size", int64_t{16}},
                                  {"min_seq_len", int64_t{20}},
                                  {"bucket_count", int64_t{4}}};
    const Settings one_block = {
        {"block_size", int64_t{5000}}, {"sample_size", int64_t{10}}, {"min_seq_len", int64_t{20}}};
    for (const Settings& settings : {all_sampled, one_block}) {
      INFO(to_string(size) << (settings == all_sampled ? ", m = n_k" : ", one block"));
      const ForwardState state = run_backend("hyper", p.problem, settings);
      CHECK(largest_difference(state.result.out, exact.out) < 3e-6);
      CHECK(largest_difference(state.result.lse, exact.lse) < 3e-6);
    }
  }
}

TEST_CASE("every mask, sampling and layout runs through the engine as the interpreter says") {
  const ProblemSize sizes[] = {{300, 300, 16, 8, 1, 2},
                               {130, 301, 9, 5},
                               {301, 77, 9, 5},
                               {331, 331, 8, 8, 1, 2, true},
                               {130, 331, 8, 8, 1, 2, true},
                               {331, 301, 8, 8, 1, 1, true},
                               {130, 301, 9, 5, 2, 4, true, 2},
                               {130, 301, 9, 5, 1, 3, false, 1}};
  std::vector<Settings> variants;
  for (const char* mask : {"sort_lsh", "none", "band"}) variants.push_back({{"mask", std::string(mask)}});
  for (const char* sampling : {"uniform_iid", "value_norm", "prefix"})
    variants.push_back({{"sampling", std::string(sampling)}});
  variants.push_back({{"collisions", std::string("count")}});
  variants.push_back({{"blocks", std::string("banded")}, {"block_size", int64_t{100}}});
  variants.push_back({{"buckets", std::string("random")}});
  variants.push_back({{"bucket_order", std::string("reference")}, {"bucket_count", int64_t{64}}});
  variants.push_back({{"bucket_count", int64_t{1}}});
  variants.push_back({{"block_size", int64_t{1}}});
  variants.push_back({{"block_size", int64_t{100}}, {"sample_size", int64_t{0}}});
  for (const ProblemSize& size : sizes)
    for (const Settings& variant : variants) {
      Settings settings = {{"block_size", int64_t{32}},
                           {"sample_size", int64_t{40}},
                           {"bucket_count", int64_t{16}},
                           {"band_width", int64_t{20}},
                           {"min_seq_len", int64_t{50}}};
      settings.insert(settings.end(), variant.begin(), variant.end());
      INFO(to_string(size) << ", " << variant[0].first << " " << hyperattn::to_string(variant[0].second));
      RandomProblem p(size, 6, 1.5);
      const ForwardState state = run_backend("hyper", p.problem, settings);
      CHECK(state.result.diagnostics.entries == count_entries(*state.planned.plan));
      check_run_of_plan("hyper", p, settings, state, 1e-5, 1e-4);
    }
}

TEST_CASE("awkward sizes and widths go through lsh and hyper") {
  for (const int64_t n : {1, 31, 32, 33, 97, 257})
    for (const int64_t d : {1, 7, 64, 65, 256}) {
      RandomProblem p({n, n, d, d == 7 ? 13 : d, 1, 2});
      for (const char* name : {"lsh", "hyper"}) {
        INFO(name << ", n " << n << ", d " << d);
        Settings settings = {{"block_size", int64_t{32}}, {"bucket_count", int64_t{8}}};
        if (std::string(name) == "hyper") settings.emplace_back("sample_size", std::min<int64_t>(n, 20));
        const ForwardState state = run_backend(name, p.problem, settings);
        const DoubleResult expected = run_plan_in_double(p.problem, *state.planned.plan);
        CHECK(largest_difference(state.result.out, expected.out) < 1e-5);
        CHECK(largest_difference(state.result.lse, expected.lse) < 1e-5);
      }
    }
}

TEST_CASE("stage seconds add up to the wall time, and the plan is the same for any number of threads") {
  RandomProblem p({5000, 5000, 16, 16, 1, 3, true});
  const Settings settings = {{"min_seq_len", int64_t{512}}, {"sampling", std::string("value_norm")}};
  const ForwardState one = check_any_number_of_threads("hyper", p.problem, settings,
                                                       [](const Diagnostics& of) { return of.collisions; });
  for (const char* stage : {"hash", "sort", "draw", "exact", "block", "sample"}) {
    INFO(stage);
    CHECK(one.result.diagnostics.stage_seconds.count(stage) == 1);
  }
  CHECK(std::isnan(one.result.diagnostics.clipped_share));
}

TEST_CASE("bad parameters are refused with the value and the limit") {
  const RandomProblem shapes({100, 100, 8, 8});
  const auto check = [&](const char* name, const Settings& settings) {
    return backend_named(name).check(shapes.problem, call_for(name, settings).parameters);
  };
  CHECK(check("hyper", {{"sample_size", int64_t{100}}}).empty());
  CHECK_THAT(check("hyper", {{"sample_size", int64_t{101}}}),
             Catch::Contains("100") && Catch::Contains("101"));
  CHECK_THAT(check("hyper", {{"sample_size", int64_t{0}}, {"mask", std::string("none")}}),
             Catch::Contains("sample_size"));
  CHECK_THAT(check("lsh", {{"mask", std::string("file")}}), Catch::Contains("mask_path"));
  const auto problem_of = [](const char* backend, const char* name, const ParameterValue& value) {
    for (const ParameterSpec& spec : backend_named(backend).parameters())
      if (spec.name == name) return check_parameter(spec, value);
    return std::string("no such parameter");
  };
  CHECK_THAT(problem_of("lsh", "mask", std::string("none")), Catch::Contains("sort_lsh, band, file"));
  CHECK_THAT(problem_of("lsh", "bucket_count", int64_t{96}), Catch::Contains("power of two"));
  CHECK_THAT(problem_of("lsh", "block_size", int64_t{0}), Catch::Contains("0"));
  CHECK_THAT(problem_of("hyper", "sample_size", int64_t{-1}), Catch::Contains("-1"));
  CHECK(problem_of("lsh", "sample_size", int64_t{1}) == "no such parameter");
  RandomProblem p({10, 10, 4, 4});
  CHECK_THROWS_WITH(
      run_backend("hyper", p.problem, {{"mask", std::string("file")}, {"sample_size", int64_t{4}}}),
      Catch::Contains("mask: file"));
}

TEST_CASE("estimated entries are those of the plan when blocks are whole") {
  for (const bool causal : {false, true}) {
    RandomProblem p({512, 512, 4, 4, 1, 2, causal});
    const Settings settings = {{"block_size", int64_t{64}},
                               {"sample_size", int64_t{32}},
                               {"min_seq_len", int64_t{128}},
                               {"collisions", std::string("count")}};
    const ForwardState state = run_backend("hyper", p.problem, settings);
    CHECK(backend_named("hyper").estimated_entries(p.problem, call_for("hyper", settings).parameters) ==
          Approx(static_cast<double>(state.result.diagnostics.entries)));
  }
}

TEST_CASE("output rows follow a permutation of the queries wherever blocks do not matter") {
  RandomProblem p({60, 80, 6, 4});
  RandomProblem permuted({60, 80, 6, 4});
  for (int64_t i = 0; i < 60; ++i)
    std::copy_n(p.problem.query.matrix(0).row(i), 6, permuted.query.matrix(0).row(i * 7 % 60));
  const Settings settings = {{"mask", std::string("none")}, {"sample_size", int64_t{20}}};
  const ForwardState a = run_backend("hyper", p.problem, settings);
  const ForwardState b = run_backend("hyper", permuted.problem, settings);
  double largest = 0;
  for (int64_t i = 0; i < 60; ++i)
    for (int64_t c = 0; c < 4; ++c)
      largest = std::max<double>(
          largest, std::abs(a.result.out.matrix(0).row(i)[c] - b.result.out.matrix(0).row(i * 7 % 60)[c]));
  CHECK(largest < 1e-6);
}

}  // namespace
}  // namespace hyperattn::testing
