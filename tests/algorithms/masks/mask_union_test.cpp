// Several hash rounds and windows: a row holds the keys of all its masks, and each key counts once.
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/masks/heavy_mask.h"
#include "algorithms/masks/mask_union.h"
#include "core/eigen.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

constexpr int64_t kBuckets = 8;
constexpr int64_t kBlock = 16;

std::string text(const char* word) {
  return word;
}

Settings settings_of(int64_t rounds, int64_t window, const Settings& more = {}) {
  Settings settings = {{"hash_rounds", rounds},
                       {"window", window},
                       {"block_size", kBlock},
                       {"bucket_count", kBuckets},
                       {"min_seq_len", int64_t{32}}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

/// Rows begin … end − 1 in the order of their buckets in a round.
std::vector<int64_t> sorted_rows(MatrixView<const float> rows, int64_t begin, int64_t end,
                                 const RandomStream& stream, int64_t round) {
  std::vector<uint32_t> codes(static_cast<size_t>(rows.rows));
  HashDirections(stream, rows.cols, hash_bits(kBuckets), round).hash(rows, 0, rows.rows, codes.data());
  std::vector<int64_t> order(static_cast<size_t>(end - begin));
  std::iota(order.begin(), order.end(), begin);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return bucket_rank(codes[static_cast<size_t>(a)], BucketOrder::gray) <
           bucket_rank(codes[static_cast<size_t>(b)], BucketOrder::gray);
  });
  return order;
}

/// The entries of a node that are exact, by the definitions of blocks and windows.
Matrix held_entries(const AttentionProblem& p, const HeadNode& place, int64_t rounds, int64_t window) {
  Matrix held = Matrix::Zero(p.query_count(), p.key_count());
  const AttentionNode& node = place.node;
  const RandomStream stream(7, Purpose::hash, 0, static_cast<uint32_t>(place.head), node.stream);
  for (int64_t round = 0; round < rounds; ++round) {
    const auto queries =
        sorted_rows(p.query.matrix(place.head), node.query_begin, node.query_end, stream, round);
    const auto keys = sorted_rows(p.keys_of(place.head), node.key_begin, node.key_end, stream, round);
    for (int64_t a = 0; a < node.query_count(); ++a)
      for (int64_t b = 0; b < node.key_count(); ++b)
        if (a * node.key_count() / node.query_count() / kBlock == b / kBlock)
          held(queries[static_cast<size_t>(a)], keys[static_cast<size_t>(b)]) = 1;
  }
  if (window == 0) return held;
  for (int64_t i = node.query_begin; i < node.query_end; ++i)
    for (int64_t j = node.key_begin; j < node.key_end; ++j) {
      const int64_t at = p.causal ? i + p.causal_offset() : i * p.key_count() / p.query_count();
      if (std::abs(at - j) <= window) held(i, j) = 1;
    }
  return held;
}

/// All weights of one head: exact leaves and nodes, held entries, and with m > 0 the others of a sample.
Matrix expected_weights(const AttentionProblem& p, int64_t head, const NodeTree& tree, int64_t rounds,
                        int64_t window, int64_t m) {
  Matrix weights = Matrix::Zero(p.query_count(), p.key_count());
  for (const CausalLeaf& leaf : tree.leaves)
    for (int64_t at = std::max(leaf.begin, p.causal_offset()); at < leaf.end; ++at)
      weights.row(at - p.causal_offset()).segment(leaf.begin, at - leaf.begin + 1).setOnes();
  for (const auto& level : tree.levels)
    for (const AttentionNode& node : level) {
      if (node.exact) {
        weights.block(node.query_begin, node.key_begin, node.query_count(), node.key_count()).setOnes();
        continue;
      }
      const Matrix held = held_entries(p, {head, node}, rounds, window);
      weights += held;
      const int64_t count = std::min(m, node.key_count());
      for (const int32_t key : sample_without_replacement(
               RandomStream(7, Purpose::key_sample, 0, static_cast<uint32_t>(head), node.stream),
               node.key_count(), count))
        for (int64_t i = node.query_begin; i < node.query_end; ++i)
          if (held(i, node.key_begin + key) == 0)
            weights(i, node.key_begin + key) =
                static_cast<double>(node.key_count()) / static_cast<double>(count);
    }
  return weights;
}

const std::vector<ProblemSize> kSizes = {{100, 100, 5, 3, 1, 2},
                                         {37, 101, 5, 3},
                                         {101, 37, 5, 3},
                                         {1, 1, 5, 3},
                                         {3, 90, 5, 3},
                                         {200, 200, 5, 3, 1, 2, true},
                                         {61, 200, 5, 3, 1, 2, true},
                                         {200, 161, 5, 3, 1, 1, true},
                                         {70, 90, 5, 3, 1, 4, false, 2}};

}  // namespace

TEST_CASE("hash rounds and windows: weights are those of the definitions, each key once") {
  for (const ProblemSize& size : kSizes)
    for (const auto& [rounds, window] :
         {std::pair<int64_t, int64_t>{1, 0}, {2, 0}, {4, 0}, {1, 1}, {1, 9}, {3, 5}, {2, 1000}})
      for (const int64_t m : {0, 12}) {
        if (m > size.keys) continue;
        const RandomProblem p(size, 5);
        const Settings settings = settings_of(rounds, window, {{"sample_size", m}});
        const PlannedCall made = planned("hyper", p.problem, settings, 7);
        const NodeTree tree = nodes_of(p.problem, 32);
        INFO(to_string(size) << ", " << rounds << " rounds, window " << window << ", m " << m);
        for (int64_t head = 0; head < p.problem.heads(); ++head) {
          const Matrix seen = dense_weights(*made.plan, head, size.queries, size.keys);
          const Matrix expected = expected_weights(p.problem, head, tree, rounds, window, m);
          CHECK((seen - expected).cwiseAbs().maxCoeff() < 1e-4);
        }
        if (m == 0) {
          const PlannedCall lsh = planned("lsh", p.problem, settings_of(rounds, window), 7);
          CHECK(dense_weights(*lsh.plan, 0, size.queries, size.keys) ==
                dense_weights(*made.plan, 0, size.queries, size.keys));
        }
      }
}

TEST_CASE("hash rounds and windows: mask and unmasked rest hold every entry once, whatever the mask") {
  for (const ProblemSize& size : kSizes)
    for (const Settings& more :
         std::vector<Settings>{{},
                               {{"blocks", text("banded")}},
                               {{"buckets", text("random")}},
                               {{"centre_keys", true}},
                               {{"query_blocks", text("by_bucket")}},
                               {{"buckets", text("kmeans")}},
                               {{"mask", text("band")}, {"band_width", int64_t{3}}},
                               {{"mask", text("none")}, {"sample_size", int64_t{1}}}}) {
      const RandomProblem p(size, 5);
      Settings settings = settings_of(3, 4, more);
      settings.emplace_back("sample_size", int64_t{1});
      const Call call = call_for("hyper", settings, 7);
      if (!backend_named("hyper").check(p.problem, call.parameters).empty()) continue;
      INFO(to_string(size) << " " << (more.empty() ? "" : more[0].first));
      const auto masks = node_masks(p.problem, call);
      const Plan masked = masks->masked(p.problem);
      const Plan unmasked = masks->unmasked(p.problem);
      for (int64_t head = 0; head < p.problem.heads(); ++head) {
        Matrix ones = Matrix::Ones(size.queries, size.keys);
        for (int64_t i = 0; size.causal && i < size.queries; ++i)
          for (int64_t j = std::max<int64_t>(i + p.problem.causal_offset() + 1, 0); j < size.keys; ++j)
            ones(i, j) = 0;
        const Matrix held = dense_weights(masked, head, size.queries, size.keys);
        CHECK(held.maxCoeff() <= 1);
        CHECK(held + dense_weights(unmasked, head, size.queries, size.keys) == ones);
      }
    }
}

TEST_CASE("a window beside the caller's own mask") {
  const RandomProblem p({20, 30, 5, 3});
  HeavyMask::Pattern pattern;
  pattern.blocks.push_back({0, 10, 0, 12});
  const HeavyMask mask({pattern});
  Call call = call_for("hyper", {{"mask", text("file")},
                                 {"mask_path", text("given.h5")},
                                 {"window", int64_t{2}},
                                 {"sample_size", int64_t{0}}});
  call.mask = &mask;
  const PlannedCall made = backend_named("hyper").method().plan(*bound_of(p.problem), call);
  const Matrix weights = dense_weights(*made.plan, 0, 20, 30);
  for (int64_t i = 0; i < 20; ++i)
    for (int64_t j = 0; j < 30; ++j) {
      CAPTURE(i, j);
      REQUIRE(weights(i, j) == ((i < 10 && j < 12) || std::abs(i * 30 / 20 - j) <= 2 ? 1 : 0));
    }
}

TEST_CASE("hash rounds and windows: run as the plan in double says, gradients too, for any threads") {
  for (const ProblemSize& size :
       {ProblemSize{300, 300, 16, 8, 1, 2}, ProblemSize{130, 301, 9, 5, 2, 4, false, 2},
        ProblemSize{331, 331, 8, 8, 1, 2, true}, ProblemSize{130, 331, 8, 8, 1, 2, true}})
    for (const char* residual : {"sample", "clt_sample", "none"})
      for (const auto& [rounds, window] : {std::pair<int64_t, int64_t>{3, 0}, {1, 20}, {2, 7}}) {
        const RandomProblem p(size, 3, 1.5);
        const Settings settings =
            settings_of(rounds, window, {{"residual", text(residual)}, {"sample_size", int64_t{40}}});
        INFO(to_string(size) << ", " << residual << ", " << rounds << " rounds, window " << window);
        const ForwardState state = run_backend("hyper", p.problem, settings);
        check_run_of_plan("hyper", p, settings, state, 2e-5, 2e-5);
        if (rounds == 2) check_bits_for_any_threads("hyper", p.problem, settings);
      }
}

TEST_CASE("hash rounds and windows with by_bucket: earlier rows keep their bits") {
  for (const char* residual : {"sample", "clt_sample", "none"}) {
    const Settings settings = settings_of(2, 11,
                                          {{"query_blocks", text("by_bucket")},
                                           {"residual", text(residual)},
                                           {"sample_size", int64_t{70}},
                                           {"block_size", int64_t{256}}});
    CAPTURE(residual);
    check_earlier_rows_keep_their_bits(settings);
  }
}

TEST_CASE("hash rounds and windows are refused by name where keys are in means, and by replays") {
  const RandomProblem p({64, 64, 4, 4});
  const auto refusal = [&](const Settings& settings) {
    Settings all = {{"sample_size", int64_t{16}}};
    all.insert(all.end(), settings.begin(), settings.end());
    return backend_named("hyper").check(p.problem, call_for("hyper", all).parameters);
  };
  for (const char* residual :
       {"centroids", "calibrated_centroids", "linear_centroids", "columns+centroids", "moments"}) {
    CHECK_THAT(refusal({{"residual", text(residual)}, {"window", int64_t{4}}}),
               Catch::Contains("window") && Catch::Contains(residual) && Catch::Contains("mean"));
    CHECK_THAT(refusal({{"residual", text(residual)}, {"hash_rounds", int64_t{2}}}),
               Catch::Contains("hash_rounds") && Catch::Contains(residual));
  }
  for (const char* residual : {"sample", "clt_sample", "none"})
    CHECK(
        refusal({{"residual", text(residual)}, {"window", int64_t{4}}, {"hash_rounds", int64_t{2}}}).empty());
  CHECK_THAT(refusal({{"estimator", text("theory")}, {"window", int64_t{4}}}),
             Catch::Contains("estimator: theory") && Catch::Contains("window"));
  CHECK_THAT(refusal({{"estimator", text("theory")}, {"hash_rounds", int64_t{2}}}),
             Catch::Contains("estimator: theory") && Catch::Contains("hash_rounds"));
  Replay replay;
  replay.projections = DenseMatrix<double>(4, 3);
  Call call = call_for("lsh", settings_of(2, 0));
  call.replay = &replay;
  CHECK_THROWS_WITH(backend_named("lsh").method().plan(*bound_of(p.problem), call),
                    Catch::Contains("hash_rounds must be 1"));
}

}  // namespace hyperattn::testing
