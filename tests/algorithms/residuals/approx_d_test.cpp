#include "algorithms/residuals/approx_d.h"

#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <cmath>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/parallel.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/statistics.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;
constexpr double kInf = std::numeric_limits<double>::infinity();

Settings settings_for(const std::string& mask, int64_t sample_size) {
  return {{"mask", mask},
          {"bucket_count", int64_t{4}},
          {"block_size", int64_t{16}},
          {"band_width", int64_t{6}},
          {"min_seq_len", int64_t{32}},
          {"sample_size", sample_size}};
}

// exp(scores) of one head relative to exp(shift).
Matrix scores_of(const AttentionProblem& problem, int64_t head) {
  const Matrix q = as_eigen(problem.query.matrix(head)).cast<double>();
  const Matrix k = as_eigen(problem.keys_of(head)).cast<double>();
  return static_cast<double>(problem.scale) * q * k.transpose();
}

struct Expected {
  Eigen::VectorXd denominators;
  int64_t clipped = 0;
  int64_t floored = 0;
};

// Algorithm 2 of one node as the formulas say it, on the dense matrix.
Expected algorithm_two(const Matrix& scores, const Matrix& mask, const ApproxDNode& node,
                       const ApproxDOptions& options) {
  const Matrix a = scores.array().exp();
  const Eigen::VectorXd masked = (mask.array() * a.array()).matrix().rowwise().sum();
  const Eigen::VectorXd unmasked = ((1 - mask.array()) * a.array()).matrix().rowwise().sum();
  double tau = 0;
  double smallest = kInf;
  for (const int32_t row : node.test_rows) {
    const double sum = unmasked(row - node.place.node.query_begin);
    tau = std::max(tau, sum);
    smallest = std::min(smallest, sum);
  }
  const double floor = options.kappa ? tau / *options.kappa : smallest;
  const auto n = static_cast<double>(scores.cols());
  const auto m = static_cast<double>(node.sample.rows.size());
  Expected expected;
  expected.denominators.resize(scores.rows());
  for (int64_t i = 0; i < scores.rows(); ++i) {
    const double clip = options.clip_constant > 0 && n > 1
                            ? options.clip_constant * options.epsilon * options.epsilon * m /
                                  (n * std::log(n)) * (masked(i) + floor)
                            : kInf;
    double d = 0;
    for (const int32_t l : node.sample.rows) {
      if (mask(i, l) != 0) continue;
      d += n / m * std::min(a(i, l), clip);
      expected.clipped += a(i, l) > clip ? 1 : 0;
    }
    expected.floored += d < floor ? 1 : 0;
    expected.denominators(i) = masked(i) + std::max(d, floor);
  }
  return expected;
}

TEST_CASE("ApproxD is Algorithm 2, formula by formula") {
  const ApproxDOptions variants[] = {{std::nullopt, 0.5, 1}, {10.0, 0.5, 1}, {1.0, 0.9, 4},
                                     {kInf, 0.5, 1},         {kInf, 0.5, 0}, {std::nullopt, 0.3, 0},
                                     {1e6, 2.0, 100}};
  for (const ProblemSize& size :
       {ProblemSize{70, 70, 5, 3, 1, 2}, ProblemSize{33, 90, 5, 3}, ProblemSize{90, 33, 5, 3},
        ProblemSize{4, 1, 5, 3}, ProblemSize{1, 20, 5, 3}})
    for (const std::string kind : {"sort_lsh", "band", "none"})
      for (const ApproxDOptions& approx : variants) {
        RandomProblem p(size, 3, 2.0);
        const int64_t m = std::min<int64_t>(size.keys, 20);
        const Call call = call_for("hyper", settings_for(kind, m), 0);
        const auto masks = node_masks(p.problem, call);
        const auto nodes = draw_approx_d(call, m, masks->nodes(), masks->masks());
        const ApproxDResult seen = approx_d(*bound_of(p.problem), nodes, approx);
        int64_t clipped = 0;
        int64_t floored = 0;
        double largest = 0;
        for (const ApproxDNode& node : nodes) {
          const Plan mask = plan_of(mask_pass(p.problem, node.place, *node.mask));
          const Expected expected =
              algorithm_two(scores_of(p.problem, node.place.head),
                            dense_weights(mask, node.place.head, size.queries, size.keys), node, approx);
          clipped += expected.clipped;
          floored += expected.floored;
          for (int64_t i = 0; i < size.queries; ++i) {
            const double log_seen =
                seen.log_denominators[static_cast<size_t>(node.place.head * size.queries + i)];
            const double log_expected = std::log(expected.denominators(i));
            if (log_seen != log_expected) largest = std::max(largest, std::abs(log_seen - log_expected));
          }
        }
        INFO(to_string(size) << ", mask " << kind << ", kappa "
                             << (approx.kappa ? std::to_string(*approx.kappa) : "auto") << ", clip "
                             << approx.clip_constant);
        CHECK(largest < 1e-5);
        CHECK(seen.clipped_entries == clipped);
        CHECK(seen.floored_rows == floored);
        CHECK(seen.rows == size.queries * p.problem.heads());
      }
}

TEST_CASE("T has min(m, n_q) distinct rows and the sample m keys") {
  RandomProblem p({30, 90, 5, 3});
  for (const int64_t m : {1, 29, 30, 31, 90}) {
    const Call call = call_for("hyper", settings_for("none", m), 0);
    const auto masks = node_masks(p.problem, call);
    const auto nodes = draw_approx_d(call, m, masks->nodes(), masks->masks());
    CHECK(static_cast<int64_t>(nodes[0].test_rows.size()) == std::min<int64_t>(m, 30));
    CHECK(static_cast<int64_t>(nodes[0].sample.rows.size()) == m);
  }
}

TEST_CASE("without clip and floor ApproxD is the uniform estimate, and unbiased (|z| < 4.5)") {
  constexpr int kSeeds = 500;
  const int64_t n_q = 20;
  const int64_t n_k = 50;
  RandomProblem p({n_q, n_k, 4, 2});
  const DoubleResult exact = attention_in_double(p.problem);
  Settings settings = settings_for("sort_lsh", 10);
  settings.emplace_back("sampling", std::string("uniform_iid"));
  std::vector<Moments> denominators(static_cast<size_t>(n_q));
  double largest = 0;
  for (int seed = 0; seed < kSeeds; ++seed) {
    const Call call = call_for("hyper", settings, static_cast<uint64_t>(seed));
    const auto masks = node_masks(p.problem, call);
    const auto nodes = draw_approx_d(call, 10, masks->nodes(), masks->masks());
    const ApproxDResult d = approx_d(*bound_of(p.problem), nodes, {kInf, 0.5, 0});
    // The residual estimator with the same i.i.d. keys has the same denominators.
    const DoubleResult residual =
        run_plan_in_double(p.problem, *planned("hyper", p.problem, settings, call.seed).plan);
    for (size_t i = 0; i < static_cast<size_t>(n_q); ++i) {
      denominators[i].add(std::exp(d.log_denominators[i]));
      largest = std::max(largest, std::abs(d.log_denominators[i] - residual.lse.data()[i]));
    }
    CHECK(d.clipped_entries == 0);
    CHECK(d.floored_rows == 0);
  }
  CHECK(largest < 1e-5);
  double worst = 0;
  for (size_t i = 0; i < static_cast<size_t>(n_q); ++i)
    worst = std::max(worst, std::abs(denominators[i].z(std::exp(exact.lse.data()[i]))));
  INFO("largest |z| " << worst);
  CHECK(worst < kZBound);
}

Settings theory_settings(int64_t sample_size) {
  return {{"estimator", std::string("theory")},
          {"sample_size", sample_size},
          {"block_size", int64_t{16}},
          {"bucket_count", int64_t{4}},
          {"min_seq_len", int64_t{32}}};
}

TEST_CASE("the theory estimator is D~^-1 A S^T S V with the denominators that it reports") {
  for (const ProblemSize& size :
       {ProblemSize{70, 90, 5, 3, 1, 2}, ProblemSize{200, 200, 5, 7, 1, 2, true},
        ProblemSize{70, 200, 5, 7, 1, 4, true, 2}, ProblemSize{200, 170, 5, 7, 1, 2, true}}) {
    RandomProblem p(size, 2, 1.5);
    const Settings settings = theory_settings(25);
    const ForwardState state = run_backend("hyper", p.problem, settings);
    for (int64_t head = 0; head < p.problem.heads(); ++head) {
      const Matrix weights = dense_weights(*state.planned.plan, head, size.queries, size.keys);
      const Matrix a = (scores_of(p.problem, head).array().exp() * weights.array()).matrix();
      Matrix out = a * as_eigen(p.problem.values_of(head)).cast<double>();
      for (int64_t i = 0; i < size.queries; ++i) {
        const double lse = state.result.lse.matrix(head).row(i)[0];
        out.row(i) *= lse > -kInf ? std::exp(-lse) : 0;  // a row without keys gives 0
      }
      const double error =
          (out - as_eigen(state.result.out.matrix(head)).cast<double>()).cwiseAbs().maxCoeff();
      INFO(to_string(size) << ", head " << head);
      CHECK(error < 1e-4 * (1 + out.cwiseAbs().maxCoeff()));
    }
    const Diagnostics& diagnostics = state.result.diagnostics;
    CHECK(diagnostics.clipped_share >= 0);
    CHECK(diagnostics.clipped_share <= 1);
    CHECK(diagnostics.floored_share >= 0);
    CHECK(diagnostics.floored_share <= 1);
    CHECK(diagnostics.stage_seconds.count("approx_d") == 1);
  }
}

TEST_CASE("causal theory: denominators are leaves plus ApproxD of every node, products likewise") {
  const int64_t n = 150;
  RandomProblem p({n, n, 5, 3, 1, 2, true});
  Settings settings = settings_for("sort_lsh", 12);
  settings.emplace_back("min_seq_len", int64_t{20});
  settings.emplace_back("estimator", std::string("theory"));
  const ApproxDOptions approx;  // as the parameters' defaults
  const Call call = call_for("hyper", settings, 5);
  const ForwardState state = backend_named("hyper").forward(p.problem, call);
  const int64_t head = 1;
  const Matrix a = scores_of(p.problem, head).array().exp();
  const NodeTree tree = nodes_of(p.problem, 20);
  Eigen::VectorXd denominators = Eigen::VectorXd::Zero(n);
  Matrix weights = Matrix::Zero(n, n);
  for (const CausalLeaf& leaf : tree.leaves)
    for (int64_t i = leaf.begin; i < leaf.end; ++i)
      weights.row(i).segment(leaf.begin, i - leaf.begin + 1).setOnes();
  for (const auto& level : tree.levels)
    for (const AttentionNode& node : level)
      if (node.exact)
        weights.block(node.query_begin, node.key_begin, node.query_count(), node.key_count()).setOnes();
  denominators = (weights.array() * a.array()).matrix().rowwise().sum();
  const std::vector<double> norms = squared_row_norms(p.problem.value.matrix(head));
  int approximated = 0;
  const auto all_masks = node_masks(p.problem, call);
  for (const ApproxDNode& drawn : draw_approx_d(call, 12, all_masks->nodes(), all_masks->masks())) {
    if (drawn.place.head != head) continue;
    const AttentionNode& node = drawn.place.node;
    ++approximated;
    const Matrix dense = dense_weights(plan_of(mask_pass(p.problem, drawn.place, *drawn.mask)), head, n, n);
    const auto part = [&](const Matrix& x) -> Matrix {
      return x.block(node.query_begin, node.key_begin, node.query_count(), node.key_count());
    };
    const Expected expected = algorithm_two(part(scores_of(p.problem, head)), part(dense), drawn, approx);
    denominators.segment(node.query_begin, node.query_count()) += expected.denominators;
    const ColumnSample sample = draw_by_norm(12, node.key_count(), norms.data() + node.key_begin, 0,
                                             RandomStream(5, Purpose::value_sample, 0, head, node.stream));
    for (size_t r = 0; r < sample.rows.size(); ++r)
      weights.block(node.query_begin, node.key_begin + sample.rows[r], node.query_count(), 1).array() +=
          std::exp(static_cast<double>(sample.log_weights[r]));
  }
  CHECK(approximated >= 3);
  const Matrix out = denominators.cwiseInverse().asDiagonal() * (weights.array() * a.array()).matrix() *
                     as_eigen(p.problem.value.matrix(head)).cast<double>();
  double lse_error = 0;
  for (int64_t i = 0; i < n; ++i)
    lse_error =
        std::max(lse_error, std::abs(state.result.lse.matrix(head).row(i)[0] - std::log(denominators(i))));
  CHECK(lse_error < 1e-5);
  CHECK((out - as_eigen(state.result.out.matrix(head)).cast<double>()).cwiseAbs().maxCoeff() < 1e-4);
}

template <class T>
bool all_finite(const Tensor<T>& tensor) {
  return std::all_of(tensor.data(), tensor.data() + tensor.shape().size(),
                     [](T x) { return std::isfinite(x); });
}

TEST_CASE("scores of +-80 and beyond give finite outputs in every variant and shape") {
  const ProblemSize sizes[] = {{60, 64, 2, 3},
                               {40, 90, 1, 3},
                               {90, 40, 1, 1},
                               {1, 1, 4, 4},
                               {1, 50, 2, 3},
                               {50, 1, 2, 3},
                               {1, 1, 1, 1, 1, 1, true},
                               {2, 2, 1, 2, 1, 1, true},
                               {3, 3, 2, 2, 1, 2, true},
                               {151, 151, 2, 3, 1, 2, true}};
  for (const ProblemSize& size : sizes)
    for (const bool signs : {false, true}) {
      RandomProblem p(size);
      p.problem.scale = 1;
      // Scores of exactly ±80·d, whole rows of −80·d among them, or normal ones up to about ±300.
      for (int64_t i = 0; i < p.query.shape().size(); ++i)
        p.query.data()[i] = signs ? std::copysign(80.0F, p.query.data()[i]) : 40 * p.query.data()[i];
      for (int64_t i = 0; i < p.key.shape().size() && signs; ++i) p.key.data()[i] = i % 7 == 0 ? -1.0F : 1.0F;
      for (const int64_t m : {int64_t{1}, std::min<int64_t>(16, size.keys)})
        for (const ParameterValue& kappa : {ParameterValue(std::string("auto")), ParameterValue(1.0),
                                            ParameterValue(10.0), ParameterValue(kInf)})
          for (const double clip : {0.0, 1.0}) {
            Settings settings = theory_settings(m);
            settings.emplace_back("approx_kappa", kappa);
            settings.emplace_back("clip_constant", clip);
            settings[4].second = int64_t{16};  // min_seq_len
            const ForwardState state = run_backend("hyper", p.problem, settings);
            INFO(to_string(size) << (signs ? ", signs" : "") << ", m " << m << ", kappa "
                                 << hyperattn::to_string(kappa) << ", clip " << clip);
            CHECK(all_finite(state.result.out));
            CHECK(all_finite(state.result.lse));
          }
    }
}

TEST_CASE("theory: a value matrix of zeros, rows wholly in the mask, and rows without any mask entry") {
  RandomProblem p({40, 40, 4, 3});
  std::fill_n(p.value.data(), p.value.shape().size(), 0.0F);
  const ForwardState zeros = run_backend("hyper", p.problem, theory_settings(10));
  CHECK(largest_entry(zeros.result.out) == 0);
  // One block holds everything: nothing is unmasked, so D~ is exact and no row is lifted or clipped.
  RandomProblem q({40, 40, 4, 3});
  Settings one_block = theory_settings(10);
  one_block.emplace_back("block_size", int64_t{40});
  const ForwardState all = run_backend("hyper", q.problem, one_block);
  CHECK(largest_difference(all.result.lse, attention_in_double(q.problem).lse) < 1e-5);
  CHECK(all.result.diagnostics.clipped_share == 0);
  CHECK(all.result.diagnostics.floored_share == 0);
  // Rows without mask entries under a clip and no floor: every entry is clipped to 0, which is defined.
  const HeavyMask half({HeavyMask::Pattern{{{0, 20, 0, 40}}, {}, {}}});
  Settings file = theory_settings(10);
  file.emplace_back("mask", std::string("file"));
  file.emplace_back("approx_kappa", kInf);
  Call call = call_for("hyper", file);
  call.mask = &half;
  const ForwardState state = backend_named("hyper").forward(q.problem, call);
  CHECK(state.result.lse.data()[30] == -kInf);
  CHECK(state.result.out.data()[30 * 3] == 0);
  CHECK(std::isfinite(state.result.lse.data()[0]));
}

TEST_CASE("theory gives the same bits for any number of threads, and refuses what it cannot do") {
  RandomProblem p({900, 900, 8, 8, 1, 2, true});
  Settings settings = theory_settings(40);
  const ForwardState one = check_any_number_of_threads(
      "hyper", p.problem, settings, [](const Diagnostics& of) { return of.clipped_share; });
  const Backend& hyper = backend_named("hyper");
  CHECK_THROWS_WITH(hyper.backward(p.problem, call_for("hyper", settings), one, p.dout.view()),
                    Catch::Contains("theory") && Catch::Contains("gradient"));
  Replay replay;
  Call replayed = call_for("hyper", settings);
  replayed.replay = &replay;
  CHECK_THROWS_WITH(hyper.forward(p.problem, replayed), Catch::Contains("replay"));
  const auto refusal = [&](const Settings& changed) {
    Settings all = theory_settings(40);
    all.insert(all.end(), changed.begin(), changed.end());
    return hyper.check(p.problem, call_for("hyper", all).parameters);
  };
  CHECK(refusal({}).empty());
  CHECK_THAT(refusal({{"sample_size", int64_t{0}}}), Catch::Contains("sample_size"));
  CHECK_THAT(refusal({{"mask", std::string("none")}, {"approx_kappa", kInf}}),
             Catch::Contains("approx_kappa"));
  CHECK(refusal({{"mask", std::string("none")}, {"approx_kappa", kInf}, {"clip_constant", 0.0}}).empty());
  for (const ParameterSpec& spec : hyper.parameters()) {
    if (spec.name == "approx_kappa") {
      CHECK_THAT(check_parameter(spec, 0.5), Catch::Contains("0.5"));
      CHECK_THAT(check_parameter(spec, std::string("automatic")), Catch::Contains("auto"));
      CHECK(check_parameter(spec, kInf).empty());
    }
    if (spec.name == "approx_epsilon") CHECK_THAT(check_parameter(spec, 0.0), Catch::Contains("but is 0"));
    if (spec.name == "clip_constant") CHECK_THAT(check_parameter(spec, -1.0), Catch::Contains("-1"));
  }
}

}  // namespace
}  // namespace hyperattn::testing
