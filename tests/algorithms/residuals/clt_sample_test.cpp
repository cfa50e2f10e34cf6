// A sample as large as an error of the denominator needs: budgets and weights against the formulas in double,
// coverage and unbiasedness over many draws, and what no row may take from others.
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/primitives/random_order.h"
#include "core/eigen.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

std::string text(const char* word) {
  return word;
}

struct Asked {
  double epsilon = 0.2;
  double delta = 0.1;
  int64_t base = 8;
  int64_t ceiling = 60;
  Settings more;
};

Settings settings_of(const Asked& asked) {
  Settings settings = {{"residual", text("clt_sample")}, {"clt_epsilon", asked.epsilon},
                       {"clt_delta", asked.delta},       {"base_sample", asked.base},
                       {"sample_size", asked.ceiling},   {"block_size", int64_t{16}},
                       {"bucket_count", int64_t{8}},     {"min_seq_len", int64_t{32}}};
  settings.insert(settings.end(), asked.more.begin(), asked.more.end());
  return settings;
}

double score(const AttentionProblem& p, int64_t head, int64_t query, int64_t key) {
  double dot = 0;
  for (int64_t c = 0; c < p.head_dim(); ++c)
    dot += static_cast<double>(p.query.matrix(head).row(query)[c]) *
           static_cast<double>(p.keys_of(head).row(key)[c]);
  return dot * static_cast<double>(p.scale);
}

/// z of P(|normal| > z) = δ from tables.
double table_z(double delta) {
  if (delta == 0.1) return 1.6448536269514722;
  if (delta == 0.05) return 1.959963984540054;
  throw std::logic_error("no z for this delta");
}

/// A row of a node: the keys that it holds exactly, and the number of its random order.
struct OwnRow {
  int64_t row = 0;
  std::set<int64_t> held;
  uint32_t order = 0;
};

std::vector<OwnRow> rows_of(const AttentionProblem& p, const NodeMask& mask) {
  std::vector<OwnRow> rows;
  for (const MaskGroup& group : mask.groups)
    for (int64_t position = group.begin; position < group.end; ++position) {
      OwnRow own;
      own.row = mask.queries[position];
      const auto hold = [&](const NodeMask& one, const MaskGroup& ranges) {
        for (int64_t r = ranges.first_range; r < ranges.last_range; ++r)
          for (int64_t rank = one.ranges[static_cast<size_t>(r)].begin;
               rank < one.ranges[static_cast<size_t>(r)].end; ++rank)
            own.held.insert(one.keys[rank]);
      };
      hold(mask, group);
      for (const NodeMask& one : mask.further)
        for (const MaskGroup& other : one.groups)
          for (int64_t at = other.begin; at < other.end; ++at)
            if (one.queries[at] == own.row) hold(one, other);
      const int64_t place = own.row + (p.causal ? p.causal_offset() : 0);
      own.order = static_cast<uint32_t>(
          mask.queries.rows ? mask.ranges[static_cast<size_t>(group.first_range)].begin : place / 256);
      rows.push_back(std::move(own));
    }
  return rows;
}

/// The first `count` keys of a random order that the row does not hold.
std::vector<int64_t> drawn_keys(const HeadNode& place, const OwnRow& own, Purpose purpose, int64_t count) {
  RandomOrder order(RandomStream(7, purpose, 0, static_cast<uint32_t>(place.head), place.node.stream),
                    own.order, place.node.key_count());
  order.draw(place.node.key_count());
  std::vector<int64_t> keys;
  for (const int32_t key : order.drawn())
    if (static_cast<int64_t>(keys.size()) < count && own.held.count(place.node.key_begin + key) == 0)
      keys.push_back(place.node.key_begin + key);
  return keys;
}

/// b before it is rounded up and held between floor and ceiling.
double wanted_keys(const AttentionProblem& p, const HeadNode& place, const OwnRow& own, const Asked& asked,
                   int64_t outside) {
  double masked = 0;
  for (const int64_t key : own.held) masked += std::exp(score(p, place.head, own.row, key));
  const std::vector<int64_t> base =
      drawn_keys(place, own, Purpose::base_sample, std::min(asked.base, outside));
  double mean = 0;
  for (const int64_t key : base) mean += std::exp(score(p, place.head, own.row, key));
  mean /= static_cast<double>(base.size());
  double variance = 0;
  for (const int64_t key : base) variance += std::pow(std::exp(score(p, place.head, own.row, key)) - mean, 2);
  variance /= static_cast<double>(base.size() - 1);
  const auto r = static_cast<double>(outside);
  return std::pow(table_z(asked.delta) * std::sqrt(variance) * r / (asked.epsilon * (masked + r * mean)), 2);
}

/// Checks one row of a plan's dense weights; returns its budget.
int64_t check_row(const AttentionProblem& p, const HeadNode& place, const OwnRow& own, const Asked& asked,
                  const Matrix& weights) {
  const int64_t keys = place.node.key_count();
  const auto outside = keys - static_cast<int64_t>(own.held.size());
  int64_t drawn = 0;
  for (int64_t key = place.node.key_begin; key < place.node.key_end; ++key) {
    if (own.held.count(key) != 0) {
      if (weights(own.row, key) != 1)
        FAIL("key " << key << " of the mask has weight " << weights(own.row, key));
    } else if (weights(own.row, key) != 0) {
      ++drawn;
    }
  }
  CAPTURE(place.head, place.node.stream, own.row, outside, drawn);
  const auto least = static_cast<double>(std::min(asked.base, outside));
  const double wanted =
      outside < 2 ? static_cast<double>(outside) : wanted_keys(p, place, own, asked, outside);
  const double expected = std::min(std::max(std::min(std::ceil(wanted), static_cast<double>(outside)), least),
                                   static_cast<double>(asked.ceiling));
  // A budget that lies at a whole number may be rounded up or not.
  CAPTURE(wanted, expected);
  REQUIRE(std::abs(static_cast<double>(drawn) - expected) <=
          (std::abs(wanted - std::round(wanted)) < 1e-3 ? 1 : 0));
  double worst = 0;
  for (const int64_t key : drawn_keys(place, own, Purpose::key_sample, drawn))
    worst = std::max(
        worst,
        std::abs(weights(own.row, key) * static_cast<double>(drawn) / static_cast<double>(outside) - 1));
  REQUIRE(worst < 1e-5);
  return drawn;
}

}  // namespace

TEST_CASE("a random order's beginnings are uniform samples that do not follow how far it is drawn") {
  RandomOrder far(RandomStream(3, Purpose::other), 5, 40);
  far.draw(40);
  CHECK(std::set<int32_t>(far.drawn().begin(), far.drawn().end()).size() == 40);
  for (const int64_t length : {0, 1, 7, 39}) {
    RandomOrder near(RandomStream(3, Purpose::other), 5, 40);
    near.draw(length);
    CHECK(std::equal(near.drawn().begin(), near.drawn().end(), far.drawn().begin()));
  }
  // All 20 ordered pairs of 5 numbers are equally likely: 4000 draws, χ² of 19 degrees below its mean + 4σ.
  std::map<std::pair<int32_t, int32_t>, int> seen;
  const int draws = 4000;
  for (uint32_t number = 0; number < draws; ++number) {
    RandomOrder order(RandomStream(4, Purpose::other), number, 5);
    order.draw(2);
    ++seen[{order.drawn()[0], order.drawn()[1]}];
  }
  REQUIRE(seen.size() == 20);
  double chi = 0;
  for (const auto& [pair, count] : seen) chi += std::pow(count - draws / 20.0, 2) / (draws / 20.0);
  CAPTURE(chi);
  CHECK(chi < 19 + 4 * std::sqrt(2 * 19.0));
}

TEST_CASE("clt_sample: budgets and weights are those of the formula, entry by entry") {
  std::vector<Asked> variants = {{}, {0.5, 0.05, 3, 20, {}}, {0.05, 0.1, 12, 40, {}}};
  variants.push_back({0.2, 0.1, 8, 37, {{"mask", text("none")}}});
  variants.push_back({0.2, 0.1, 8, 37, {{"mask", text("band")}, {"band_width", int64_t{6}}}});
  variants.push_back({0.2, 0.1, 8, 30, {{"blocks", text("banded")}}});
  variants.push_back({0.2, 0.1, 8, 30, {{"query_blocks", text("by_bucket")}}});
  variants.push_back({0.2, 0.1, 8, 30, {{"hash_rounds", int64_t{2}}}});
  variants.push_back({0.2, 0.1, 8, 30, {{"window", int64_t{5}}, {"mask", text("none")}}});
  variants.push_back({0.2, 0.1, 8, 30, {{"window", int64_t{5}}, {"hash_rounds", int64_t{2}}}});
  std::set<int64_t> budgets;
  for (const ProblemSize& size :
       {ProblemSize{100, 100, 5, 3, 1, 2}, ProblemSize{37, 101, 5, 3}, ProblemSize{301, 97, 5, 3},
        ProblemSize{3, 90, 5, 3}, ProblemSize{1, 1, 5, 3}, ProblemSize{600, 70, 5, 3, 1, 4, false, 2},
        ProblemSize{200, 200, 5, 3, 1, 2, true}, ProblemSize{61, 200, 5, 3, 1, 2, true, 1},
        ProblemSize{200, 161, 5, 3, 1, 1, true}})
    for (Asked asked : variants) {
      asked.ceiling = std::min(asked.ceiling, size.keys);
      const RandomProblem p(size, 5, 1.5);
      const Call call = call_for("hyper", settings_of(asked), 7);
      const auto masks = node_masks(p.problem, call);
      const PlannedCall made = planned("hyper", p.problem, settings_of(asked), 7);
      std::vector<Matrix> weights;
      for (int64_t head = 0; head < p.problem.heads(); ++head)
        weights.push_back(dense_weights(*made.plan, head, size.queries, size.keys));
      INFO(to_string(size) << ", epsilon " << asked.epsilon << ", ceiling " << asked.ceiling);
      double drawn = 0;
      double rows = 0;
      for (size_t i = 0; i < masks->nodes().size(); ++i) {
        const HeadNode& place = masks->nodes()[i];
        for (const OwnRow& own : rows_of(p.problem, masks->masks()[i])) {
          const int64_t budget =
              check_row(p.problem, place, own, asked, weights[static_cast<size_t>(place.head)]);
          budgets.insert(budget);
          drawn += static_cast<double>(budget);
          rows += 1;
        }
      }
      if (rows > 0) CHECK(made.notes.drawn_keys == Approx(drawn / rows));
    }
  CHECK(budgets.size() > 20);  // of all sizes, not floors and ceilings alone
}

TEST_CASE("clt_sample: with clt_budget block, all rows of a block draw the largest of their budgets") {
  const RandomProblem p({100, 200, 5, 3}, 5, 1.5);
  Asked asked;
  const PlannedCall own = planned("hyper", p.problem, settings_of(asked), 7);
  asked.more = {{"clt_budget", text("block")}};
  const PlannedCall shared = planned("hyper", p.problem, settings_of(asked), 7);
  const auto masks = node_masks(p.problem, call_for("hyper", settings_of(asked), 7));
  const Matrix of_rows = dense_weights(*own.plan, 0, 100, 200);
  const Matrix of_blocks = dense_weights(*shared.plan, 0, 100, 200);
  const auto drawn = [](const Matrix& weights, int64_t row) {
    return (weights.row(row).array() > 0 && weights.row(row).array() != 1).count();
  };
  const NodeMask& mask = masks->masks()[0];
  for (const MaskGroup& group : mask.groups) {
    Eigen::Index largest = 0;
    for (int64_t i = group.begin; i < group.end; ++i)
      largest = std::max(largest, drawn(of_rows, mask.queries[i]));
    for (int64_t i = group.begin; i < group.end; ++i) CHECK(drawn(of_blocks, mask.queries[i]) == largest);
  }
  CHECK(shared.notes.drawn_keys > own.notes.drawn_keys);
}

TEST_CASE("clt_sample: equal keys need the floor alone, and an error of nothing needs every key") {
  RandomProblem p({50, 80, 5, 3});
  const RandomProblem different({50, 80, 5, 3});
  for (int64_t j = 1; j < 80; ++j) std::copy_n(p.key.matrix(0).row(0), 5, p.key.matrix(0).row(j));
  Asked asked;
  const PlannedCall equal = planned("hyper", p.problem, settings_of(asked));
  CHECK(equal.notes.drawn_keys == 8);
  CHECK(equal.notes.ceiling_share == 0);
  asked.epsilon = 1e-6;
  asked.ceiling = 80;
  const ForwardState all = run_backend("hyper", different.problem, settings_of(asked));
  const DoubleResult exact = attention_in_double(different.problem);
  CHECK(largest_difference(all.result.out, exact.out) < 2e-6);
  CHECK(largest_difference(all.result.lse, exact.lse) < 2e-6);
  CHECK(all.result.diagnostics.ceiling_share == 0);
  asked.ceiling = 30;
  const PlannedCall cut = planned("hyper", different.problem, settings_of(asked));
  CHECK(cut.notes.drawn_keys == 30);
  CHECK(cut.notes.ceiling_share == 1);
}

// One row of every block, so that all checks are independent.
struct Coverage {
  int64_t checked = 0;
  int64_t kept = 0;
  double mean_budget = 0;
};

Coverage coverage_of(const RandomProblem& p, const Asked& asked, uint64_t draws) {
  const DoubleResult exact = attention_in_double(p.problem);
  Coverage coverage;
  for (uint64_t seed = 1; seed <= draws; ++seed) {
    const ForwardState state = run_backend("hyper", p.problem, settings_of(asked), seed);
    const auto masks = node_masks(p.problem, call_for("hyper", settings_of(asked), seed));
    for (const MaskGroup& group : masks->masks()[0].groups) {
      const int64_t row = masks->masks()[0].queries[group.begin];
      const double error =
          std::abs(std::expm1(static_cast<double>(state.result.lse.data()[row]) - exact.lse.data()[row]));
      ++coverage.checked;
      if (error <= asked.epsilon) ++coverage.kept;
    }
    coverage.mean_budget += state.result.diagnostics.drawn_keys / static_cast<double>(draws);
  }
  return coverage;
}

TEST_CASE("clt_sample: the denominator is right within epsilon in a share 1 − delta of rows and draws") {
  // Weights exp(N(0, 1/4)) of 1500 keys: light tails, and budgets well above the floor and below all keys.
  const RandomProblem p({60, 1500, 16, 4}, 3, 0.5);
  for (const auto& [epsilon, delta] : {std::pair{0.06, 0.1}, {0.06, 0.05}, {0.1, 0.1}}) {
    Asked asked{epsilon, delta, 48, 1500, {{"bucket_count", int64_t{16}}, {"block_size", int64_t{64}}}};
    const Coverage seen = coverage_of(p, asked, 60);
    const auto checked = static_cast<double>(seen.checked);
    const double kept = static_cast<double>(seen.kept) / checked;
    const double spread = std::sqrt(delta * (1 - delta) / checked);
    CAPTURE(epsilon, delta, seen.checked, kept, spread, seen.mean_budget);
    CHECK(seen.mean_budget > 50);
    CHECK(seen.mean_budget < 700);
    CHECK(kept >= 1 - delta - 3 * spread);
  }
}

TEST_CASE("clt_sample: sums of weights and of weighted values are unbiased") {
  const RandomProblem p({24, 120, 6, 2}, 9, 1.2);
  const Asked asked{0.3, 0.1, 6, 60, {}};
  const int draws = 300;
  Matrix sum = Matrix::Zero(24, 120);
  Matrix squares = Matrix::Zero(24, 120);
  for (uint64_t seed = 1; seed <= draws; ++seed) {
    const Matrix weights =
        dense_weights(*planned("hyper", p.problem, settings_of(asked), seed).plan, 0, 24, 120);
    sum += weights;
    squares += weights.cwiseProduct(weights);
  }
  const Matrix mean = sum / draws;
  const Matrix error = ((squares / draws - mean.cwiseProduct(mean)) / draws).cwiseSqrt();
  double largest = 0;
  double z_squares = 0;
  for (Eigen::Index i = 0; i < mean.rows(); ++i)
    for (Eigen::Index j = 0; j < mean.cols(); ++j) {
      const double z = (mean(i, j) - 1) / std::max(error(i, j), 1e-9);
      largest = std::max(largest, std::abs(z));
      z_squares += z * z / static_cast<double>(mean.size());
    }
  // Every key's weight has mean 1: the largest of 2880 normal numbers is below 5 but for 1 in 600 cases.
  CAPTURE(largest, z_squares);
  CHECK(largest < 5);
  CHECK(z_squares < 1.3);
}

TEST_CASE("clt_sample: runs as the plan in double says, gradients too, and the same for any threads") {
  for (const ProblemSize& size :
       {ProblemSize{300, 300, 16, 8, 1, 2}, ProblemSize{130, 301, 9, 5, 2, 4, false, 2},
        ProblemSize{331, 331, 8, 8, 1, 2, true}, ProblemSize{130, 331, 8, 8, 1, 2, true}})
    for (const char* budget : {"row", "block"})
      for (const char* mask : {"sort_lsh", "none", "band"}) {
        const RandomProblem p(size, 3, 1.5);
        const Settings settings =
            settings_of({0.15, 0.1, 10, 70, {{"clt_budget", text(budget)}, {"mask", text(mask)}}});
        INFO(to_string(size) << ", " << budget << ", " << mask);
        const ForwardState state = run_backend("hyper", p.problem, settings);
        check_run_of_plan("hyper", p, settings, state, 2e-5, 2e-5);
        check_bits_for_any_threads("hyper", p.problem, settings);
      }
}

TEST_CASE("clt_sample: nothing is taken from later rows, and fewer queries keep the bits of the last rows") {
  for (const char* mask : {"sort_lsh", "none", "band"}) {
    const Settings settings = settings_of(
        {0.1,
         0.1,
         12,
         100,
         {{"query_blocks", text("by_bucket")}, {"mask", text(mask)}, {"block_size", int64_t{256}}}});
    const int64_t n = 420;
    const int64_t kept = 260;
    RandomProblem p({n, n, 8, 6, 1, 2, true}, 5);
    const ForwardState before = run_backend("hyper", p.problem, settings);
    const Tensor<float> query = last_rows(p.query, 300);
    AttentionProblem fewer = p.problem;
    fewer.query = query.view();
    const ForwardState part = run_backend("hyper", fewer, settings);
    CAPTURE(mask);
    CHECK(largest_difference(part.result.out, last_rows(before.result.out, 300)) == 0);
    const RandomProblem other({n, n, 8, 6, 1, 2, true}, 6);
    take_later_rows(p, other, kept);
    const ForwardState after = run_backend("hyper", p.problem, settings);
    double earlier = 0;
    double later = 0;
    for (int64_t head = 0; head < 2; ++head)
      for (int64_t row = 0; row < n; ++row)
        for (int64_t c = 0; c < 6; ++c) {
          const double moved = std::abs(static_cast<double>(before.result.out.matrix(head).row(row)[c]) -
                                        static_cast<double>(after.result.out.matrix(head).row(row)[c]));
          double& largest = row < kept ? earlier : later;
          largest = std::max(largest, moved);
        }
    CHECK(earlier == 0);
    CHECK(later > 0.1);
  }
}

TEST_CASE("clt_sample: what cannot be asked for is refused in a sentence") {
  const auto refused = [](const char* name, const ParameterValue& value) -> std::string {
    try {
      (void)call_for("hyper", {{"residual", text("clt_sample")}, {name, value}});
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  };
  CHECK_THAT(refused("clt_epsilon", 0.0), Catch::Contains("clt_epsilon") && Catch::Contains("but is 0"));
  CHECK_THAT(refused("clt_epsilon", -0.1), Catch::Contains("but is -0.1"));
  CHECK_THAT(refused("clt_delta", 0.0), Catch::Contains("clt_delta") && Catch::Contains("but is 0"));
  CHECK_THAT(refused("clt_delta", 1.0), Catch::Contains("clt_delta") && Catch::Contains("but is 1"));
  CHECK_THAT(refused("base_sample", int64_t{1}),
             Catch::Contains("base_sample") && Catch::Contains("between 2 and"));
  const RandomProblem p({64, 64, 4, 4, 1, 1, true});
  const Call call = call_for("hyper", {{"residual", text("clt_sample")},
                                       {"sample_size", int64_t{16}},
                                       {"clt_budget", text("block")},
                                       {"query_blocks", text("by_bucket")}});
  CHECK_THAT(backend_named("hyper").check(p.problem, call.parameters),
             Catch::Contains("clt_budget: block") && Catch::Contains("by_bucket"));
}

}  // namespace hyperattn::testing
