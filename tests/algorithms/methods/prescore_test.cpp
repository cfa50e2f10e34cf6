// Pre-scoring: the scores against their formulas in double, and a plan that is that of the kept keys alone.
#include "algorithms/methods/prescore.h"

#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/primitives/kmeans.h"
#include "core/eigen.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

const std::vector<std::string> kKinds = {"leverage", "kmeans_distance", "kmeans_centre"};

std::string text(const char* word) {
  return word;
}

Settings settings_of(const std::string& kind, int64_t kept, const Settings& more = {}) {
  Settings settings = {{"prescore", kind},           {"prescore_keys", kept},
                       {"block_size", int64_t{16}},  {"bucket_count", int64_t{8}},
                       {"min_seq_len", int64_t{32}}, {"sample_size", int64_t{9}}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

/// Scores of keys begin … end − 1 of a head, from the formulas.
std::vector<double> scores_in_double(const AttentionProblem& p, const HeadNode& place,
                                     const std::string& kind, int64_t kept) {
  const Matrix keys =
      as_eigen(p.keys_of(place.head)).middleRows(place.node.key_begin, place.node.key_count()).cast<double>();
  std::vector<double> scores;
  if (kind == "leverage") {
    const Eigen::MatrixXd gram = keys.transpose() * keys;
    const double ridge = 1e-3 * gram.trace() / static_cast<double>(keys.cols());
    const Eigen::MatrixXd inverse =
        (gram + ridge * Eigen::MatrixXd::Identity(keys.cols(), keys.cols())).inverse();
    for (Eigen::Index j = 0; j < keys.rows(); ++j)
      scores.push_back(keys.row(j).dot(inverse * keys.row(j).transpose()));
    return scores;
  }
  const MatrixView<const float> rows{p.keys_of(place.head).row(place.node.key_begin), place.node.key_count(),
                                     p.head_dim(), p.keys_of(place.head).stride};
  const DenseMatrix<float> centres = kmeans_centres(
      rows, std::clamp<int64_t>(kept / 4, 1, 256),
      RandomStream(7, Purpose::prescore, 0, static_cast<uint32_t>(place.head), place.node.stream));
  std::vector<size_t> own;
  std::vector<double> sums(static_cast<size_t>(centres.rows), 0);
  for (Eigen::Index j = 0; j < keys.rows(); ++j) {
    double nearest = INFINITY;
    own.push_back(0);
    for (int64_t c = 0; c < centres.rows; ++c) {
      const MatrixView<const float> all = centres;
      double square = 0;
      for (int64_t d = 0; d < p.head_dim(); ++d)
        square += std::pow(keys(j, d) - static_cast<double>(all.row(c)[d]), 2);
      if (square < nearest) {
        nearest = square;
        own.back() = static_cast<size_t>(c);
      }
    }
    scores.push_back(std::sqrt(nearest));
    sums[own.back()] += scores.back();
  }
  for (size_t j = 0; j < scores.size(); ++j) {
    scores[j] /= sums[own[j]];
    if (kind == "kmeans_centre") scores[j] = std::exp(-scores[j]);
  }
  return scores;
}

/// The keys of the largest scores, rows of the problem in order.
std::vector<int64_t> kept_keys(const AttentionProblem& p, const HeadNode& place, const std::string& kind,
                               int64_t kept) {
  const int64_t count = std::min(kept, place.node.key_count());
  std::vector<int64_t> order(static_cast<size_t>(place.node.key_count()));
  std::iota(order.begin(), order.end(), 0);
  if (count < place.node.key_count()) {
    // The two of a cluster have equal scores but for rounding: the order is that of the method's own scores.
    const std::vector<float> scores = key_scores(
        *bound_of(p), place, kind, count,
        RandomStream(7, Purpose::prescore, 0, static_cast<uint32_t>(place.head), place.node.stream));
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
    });
  }
  order.resize(static_cast<size_t>(count));
  std::sort(order.begin(), order.end());
  for (int64_t& key : order) key += place.node.key_begin;
  return order;
}

Tensor<float> rows_of_heads(const AttentionProblem& p, bool keys,
                            const std::vector<std::vector<int64_t>>& rows) {
  const int64_t dim = keys ? p.head_dim() : p.value_dim();
  Tensor<float> copy({p.query.shape.batch, p.query.shape.heads, static_cast<int64_t>(rows[0].size()), dim});
  for (int64_t head = 0; head < p.heads(); ++head)
    for (size_t j = 0; j < rows[static_cast<size_t>(head)].size(); ++j)
      std::copy_n((keys ? p.keys_of(head) : p.values_of(head)).row(rows[static_cast<size_t>(head)][j]), dim,
                  copy.matrix(head).row(static_cast<int64_t>(j)));
  return copy;
}

}  // namespace

TEST_CASE("prescore: scores of hand-worked keys") {
  RandomProblem p({1, 5, 1, 1});
  for (int64_t j = 0; j < 5; ++j) p.key.data()[j] = j == 4 ? 10.0F : 0.0F;
  const auto bound = bound_of(p.problem);
  const HeadNode place{0, whole_problem(1, 5)};
  const RandomStream stream(1, Purpose::prescore);
  // One centre, the mean 2: distances 2, 2, 2, 2, 8 of a sum of 16.
  const std::vector<float> far = key_scores(*bound, place, "kmeans_distance", 4, stream);
  const std::vector<float> near = key_scores(*bound, place, "kmeans_centre", 4, stream);
  const std::vector<float> leverage = key_scores(*bound, place, "leverage", 4, stream);
  for (size_t j = 0; j < 5; ++j) {
    const double share = j == 4 ? 0.5 : 0.125;
    CHECK(far[j] == Approx(share));
    CHECK(near[j] == Approx(std::exp(-share)));
    CHECK(leverage[j] == Approx(j == 4 ? 100 / (100 + 0.1) : 0).margin(1e-9));
  }
  // No key stands out where all are equal, or zero.
  std::fill_n(p.key.data(), 5, 0.0F);
  for (const std::string& kind : kKinds) {
    const std::vector<float> equal = key_scores(*bound, place, kind, 4, stream);
    for (const float score : equal) CHECK(score == equal[0]);
  }
}

TEST_CASE("prescore: scores are those of the formulas") {
  for (const int64_t keys : {1, 2, 63, 700, 2500})
    for (const std::string& kind : kKinds) {
      const RandomProblem p({3, keys, 6, 2, 1, 2}, 4);
      const HeadNode place{1, whole_problem(3, keys)};
      const int64_t kept = std::max<int64_t>(keys / 3, 1);
      const std::vector<float> seen =
          key_scores(*bound_of(p.problem), place, kind, kept, RandomStream(7, Purpose::prescore, 0, 1, 0));
      const std::vector<double> expected = scores_in_double(p.problem, place, kind, kept);
      double worst = 0;
      for (size_t j = 0; j < seen.size(); ++j)
        if (std::isfinite(expected[j]))
          worst = std::max(
              worst, std::abs(static_cast<double>(seen[j]) - expected[j]) / (1e-6 + std::abs(expected[j])));
      CAPTURE(keys, kind, worst);
      CHECK(worst < 1e-4);
    }
}

TEST_CASE("prescore: what is computed is that of the kept keys alone") {
  const std::vector<Settings> variants = {{},
                                          {{"residual", text("clt_sample")}},
                                          {{"residual", text("none")}},
                                          {{"residual", text("centroids")}},
                                          {{"residual", text("linear_centroids")}},
                                          {{"residual", text("columns+centroids")}},
                                          {{"residual", text("moments")}},
                                          {{"residual", text("thinned")}},
                                          {{"mask", text("none")}},
                                          {{"hash_rounds", int64_t{2}}},
                                          {{"buckets", text("kmeans")}, {"query_blocks", text("by_bucket")}}};
  for (const ProblemSize& size :
       {ProblemSize{60, 100, 5, 3, 1, 2}, ProblemSize{101, 40, 5, 3, 2, 4, false, 2}})
    for (const std::string& kind : kKinds)
      for (const Settings& more : variants) {
        const RandomProblem p(size, 3, 1.5);
        std::vector<std::vector<int64_t>> kept;
        for (int64_t head = 0; head < p.problem.heads(); ++head)
          kept.push_back(kept_keys(p.problem, {head, whole_problem(size.queries, size.keys)}, kind, 30));
        const Tensor<float> key = rows_of_heads(p.problem, true, kept);
        const Tensor<float> value = rows_of_heads(p.problem, false, kept);
        AttentionProblem rest = p.problem;
        rest.key = key.view();
        rest.value = value.view();
        const ForwardState seen = run_backend("hyper", p.problem, settings_of(kind, 30, more), 7);
        const ForwardState expected = run_backend("hyper", rest, settings_of("none", 30, more), 7);
        INFO(to_string(size) << ", " << kind << ", "
                             << (more.empty() ? ""
                                              : more[0].first + " " + hyperattn::to_string(more[0].second)));
        CHECK(largest_difference(seen.result.out, expected.result.out) < 2e-6);
        CHECK(largest_difference(seen.result.lse, expected.result.lse) < 2e-6);
        CHECK(seen.result.diagnostics.entries == expected.result.diagnostics.entries);
      }
}

TEST_CASE("prescore: every causal node keeps the best of its own keys, and drops the others wholly") {
  for (const ProblemSize& size :
       {ProblemSize{200, 200, 5, 3, 1, 2, true}, ProblemSize{61, 200, 5, 3, 1, 4, true, 2},
        ProblemSize{200, 161, 5, 3, 1, 1, true}, ProblemSize{40, 90, 5, 3}, ProblemSize{1, 1, 5, 3}})
    for (const std::string& kind : kKinds)
      for (const int64_t sinks : {0, 3}) {
        const RandomProblem p(size, 3);
        const int64_t most = 21;
        // Every kept key is drawn, so that it has weight 1 in every row.
        const Settings settings = settings_of(kind, most,
                                              {{"mask", text("none")},
                                               {"sample_size", std::min<int64_t>(most, size.keys)},
                                               {"sink_keys", std::min(sinks, size.keys)}});
        const PlannedCall made = planned("hyper", p.problem, settings, 7);
        INFO(to_string(size) << ", " << kind << ", " << sinks << " sinks");
        for (const HeadNode& place : made.masks->nodes()) {
          const Matrix weights = dense_weights(*made.plan, place.head, size.queries, size.keys);
          const std::vector<int64_t> keys = kept_keys(p.problem, place, kind, most);
          const std::set<int64_t> kept(keys.begin(), keys.end());
          double worst = 0;
          for (int64_t i = place.node.query_begin; i < place.node.query_end; ++i)
            for (int64_t j = place.node.key_begin; j < place.node.key_end; ++j)
              worst = std::max(worst, std::abs(weights(i, j) - (kept.count(j) != 0 ? 1 : 0)));
          CHECK(worst < 1e-6);
        }
        // Masks know all keys: what is held and what is not make up the whole.
        const Settings blocks =
            settings_of(kind, most, {{"hash_rounds", int64_t{2}}, {"sample_size", int64_t{1}}});
        const auto masks = node_masks(p.problem, call_for("hyper", blocks, 7));
        const Plan masked = masks->masked(p.problem);
        const Plan unmasked = masks->unmasked(p.problem);
        for (int64_t head = 0; head < p.problem.heads(); ++head) {
          Matrix ones = Matrix::Ones(size.queries, size.keys);
          for (int64_t i = 0; size.causal && i < size.queries; ++i)
            for (int64_t j = std::max<int64_t>(i + p.problem.causal_offset() + 1, 0); j < size.keys; ++j)
              ones(i, j) = 0;
          CHECK(dense_weights(masked, head, size.queries, size.keys) +
                    dense_weights(unmasked, head, size.queries, size.keys) ==
                ones);
        }
      }
}

TEST_CASE("prescore: as many keys as there are change nothing, and bits are those of any threads") {
  for (const bool causal : {false, true}) {
    const RandomProblem p({230, 230, 8, 5, 1, 2, causal}, 3);
    const ForwardState all = run_backend("hyper", p.problem, settings_of("none", 1));
    for (const std::string& kind : kKinds) {
      const ForwardState kept = run_backend("hyper", p.problem, settings_of(kind, 230));
      CHECK(largest_difference(all.result.out, kept.result.out) < 1e-6);
      check_bits_for_any_threads("hyper", p.problem, settings_of(kind, 50));
    }
  }
}

TEST_CASE("prescore: the gradient is that of the kept keys, and 0 for the others") {
  const ProblemSize size{70, 90, 5, 3, 1, 2};
  for (const char* residual : {"sample", "clt_sample", "centroids"}) {
    const RandomProblem p(size, 3);
    std::vector<std::vector<int64_t>> kept;
    for (int64_t head = 0; head < 2; ++head)
      kept.push_back(kept_keys(p.problem, {head, whole_problem(size.queries, size.keys)}, "leverage", 30));
    const Tensor<float> key = rows_of_heads(p.problem, true, kept);
    const Tensor<float> value = rows_of_heads(p.problem, false, kept);
    AttentionProblem rest = p.problem;
    rest.key = key.view();
    rest.value = value.view();
    const auto gradients = [&](const AttentionProblem& problem, const std::string& kind) {
      const Call call = call_for("hyper", settings_of(kind, 30, {{"residual", text(residual)}}), 7);
      const Backend& hyper = backend_named("hyper");
      return hyper.backward(problem, call, hyper.forward(problem, call), p.dout.view());
    };
    const AttentionGradients seen = gradients(p.problem, "leverage");
    const AttentionGradients expected = gradients(rest, "none");
    Tensor<float> dkey(p.key.shape(), 0.0F);
    Tensor<float> dvalue(p.value.shape(), 0.0F);
    for (int64_t head = 0; head < 2; ++head)
      for (size_t j = 0; j < kept[static_cast<size_t>(head)].size(); ++j) {
        const auto from = static_cast<int64_t>(j);
        const int64_t to = kept[static_cast<size_t>(head)][j];
        std::copy_n(expected.dkey.matrix(head).row(from), size.head_dim, dkey.matrix(head).row(to));
        std::copy_n(expected.dvalue.matrix(head).row(from), size.value_dim, dvalue.matrix(head).row(to));
      }
    CAPTURE(residual);
    CHECK(largest_difference(seen.dquery, expected.dquery) < 1e-5);
    CHECK(largest_difference(seen.dkey, dkey) < 1e-5);
    CHECK(largest_difference(seen.dvalue, dvalue) < 1e-5);
  }
}

TEST_CASE("prescore: equal keys, keys and values of zero, and huge scores give what their plan gives") {
  for (const std::string& kind : kKinds)
    for (const char* form : {"equal keys", "zero keys", "zero values", "huge scores"}) {
      RandomProblem p({80, 80, 5, 3, 1, 1, form == text("equal keys")}, 3,
                      form == text("huge scores") ? 1e6 : 1);
      if (form == text("equal keys")) std::fill_n(p.key.data(), p.key.shape().size(), 0.5F);
      if (form == text("zero keys")) std::fill_n(p.key.data(), p.key.shape().size(), 0.0F);
      if (form == text("zero values")) std::fill_n(p.value.data(), p.value.shape().size(), 0.0F);
      INFO(kind << ", " << form);
      const ForwardState state = run_backend("hyper", p.problem, settings_of(kind, 24));
      const DoubleResult expected = run_plan_in_double(p.problem, *state.planned.plan);
      CHECK(largest_difference(state.result.out, expected.out) < 1e-5);
      CHECK(largest_difference(state.result.lse, expected.lse) < 1e-5 * (1 + largest_entry(expected.lse)));
    }
}

TEST_CASE("prescore: earlier rows keep their bits with by_bucket") {
  for (const char* residual : {"sample", "clt_sample", "thinned", "none"}) {
    const Settings settings = settings_of(
        "leverage", 90,
        {{"query_blocks", text("by_bucket")}, {"residual", text(residual)}, {"block_size", int64_t{256}}});
    CAPTURE(residual);
    check_earlier_rows_keep_their_bits(settings);
  }
}

TEST_CASE("prescore: what does not go with it is refused in a sentence") {
  const auto refusal = [](bool causal, const Settings& more) {
    const RandomProblem p({64, 64, 4, 4, 1, 1, causal});
    const Call call = call_for("hyper", settings_of("leverage", 20, more));
    return backend_named("hyper").check(p.problem, call.parameters);
  };
  CHECK_THAT(refusal(false, {{"mask", text("band")}}),
             Catch::Contains("prescore needs mask: sort_lsh or none"));
  CHECK_THAT(refusal(false, {{"window", int64_t{3}}}), Catch::Contains("window: 0 or prescore: none"));
  CHECK_THAT(refusal(false, {{"estimator", text("theory")}}), Catch::Contains("prescore: none"));
  CHECK_THAT(refusal(true, {{"query_blocks", text("by_bucket")}, {"residual", text("calibrated_centroids")}}),
             Catch::Contains("earlier queries") && Catch::Contains("calibrated_centroids"));
  CHECK(refusal(false, {{"query_blocks", text("by_bucket")}, {"residual", text("calibrated_centroids")}})
            .empty());
  const RandomProblem p({64, 64, 4, 4});
  const Replay replay;
  Call call = call_for("hyper", settings_of("leverage", 20));
  call.replay = &replay;
  CHECK_THROWS_WITH(backend_named("hyper").method().plan(*bound_of(p.problem), call),
                    Catch::Contains("prescore: none"));
}

}  // namespace hyperattn::testing
