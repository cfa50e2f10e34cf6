// Nyström coresets against the formula as it is written, in plain double precision: weights by solving
// h(S, S) W = h(S, all), rows by sums over pivots.
#include "algorithms/primitives/nystrom.h"

#include <Eigen/Dense>
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Catch::Matchers::Contains;
using Matrix = RowMajorMatrix<double>;
using Rows = std::vector<int64_t>;

const std::string kPerBin = "per_bin";

Rows run_of(int64_t begin, int64_t end) {
  Rows rows(static_cast<size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

Matrix rows_of(MatrixView<const float> matrix, const Rows& rows) {
  Matrix chosen(static_cast<int64_t>(rows.size()), matrix.cols);
  for (int64_t i = 0; i < chosen.rows(); ++i)
    chosen.row(i) = as_eigen(matrix).row(rows[static_cast<size_t>(i)]).cast<double>();
  return chosen;
}

/// W₀ by bisection.
double plain_lambert_w(double x) {
  double low = 0;
  double high = 700;
  for (int i = 0; i < 200; ++i) {
    const double middle = (low + high) / 2;
    (middle * std::exp(middle) < x ? low : high) = middle;
  }
  return low;
}

double plain_squared_temperature(double n, double s, double r_k, double r_q) {
  const double b = std::log(n) / (s * r_k * r_q) + 2;
  const double rho = std::sqrt(1 + std::exp(plain_lambert_w(2 / std::exp(2)) + 2));
  return r_k / r_q * b / (2 * plain_lambert_w(b / (2 * rho)));
}

/// What the keys `all` of a head weigh at the pivots `pivots`: pivots × keys. `tau` 0: by the paper.
Matrix plain_weights(const AttentionProblem& p, int64_t head, const Rows& all, const Rows& pivots,
                     double query_radius, double tau = 0) {
  Matrix x = rows_of(p.keys_of(head), all);
  const Eigen::RowVectorXd mean = x.colwise().mean();
  x.rowwise() -= mean;
  const double scale = p.scale;
  const double squared = tau > 0 ? tau * tau
                                 : plain_squared_temperature(static_cast<double>(all.size()), scale,
                                                             x.rowwise().norm().maxCoeff(), query_radius);
  x *= std::sqrt(scale / squared);
  Matrix at(static_cast<int64_t>(pivots.size()), x.cols());
  for (int64_t j = 0; j < at.rows(); ++j) {
    const auto place = std::find(all.begin(), all.end(), pivots[static_cast<size_t>(j)]) - all.begin();
    at.row(j) = x.row(place);
  }
  const Eigen::MatrixXd own = (at * at.transpose()).array().exp();
  const Eigen::MatrixXd with_all = (at * x.transpose()).array().exp();
  return own.fullPivLu().solve(with_all);
}

/// Key rows that the entries of a list of pivots are.
Rows pivot_rows(const KeyList& list, MatrixView<const float> keys) {
  Rows rows;
  for (int64_t j = 0; j < list.order.count; ++j)
    for (int64_t l = 0; l < keys.rows; ++l)
      if (std::equal(keys.row(l), keys.row(l) + keys.cols, list.synthetic->key.matrix(0).row(list.order[j])))
        rows.push_back(l);
  REQUIRE(static_cast<int64_t>(rows.size()) == list.order.count);  // no two keys of the tests are equal
  return rows;
}

Rows within(const Rows& rows, int64_t begin, int64_t end) {
  Rows some;
  for (const int64_t row : rows)
    if (begin <= row && row < end) some.push_back(row);
  return some;
}

/// A row's sums, entry by entry.
struct PlainRow {
  const AttentionProblem& p;
  int64_t head;
  int64_t row;
  Eigen::RowVectorXd numerator = Eigen::RowVectorXd::Zero(p.value_dim());
  double denominator = 0;

  void add(int64_t key, const Eigen::RowVectorXd& value, double weight) {
    const double score = as_eigen(p.query.matrix(head))
                             .row(row)
                             .cast<double>()
                             .dot(as_eigen(p.keys_of(head)).row(key).cast<double>());
    const double e = std::exp(static_cast<double>(p.scale) * score);
    numerator += e * value;
    denominator += e * weight;
  }
  void add_key(int64_t key) { add(key, as_eigen(p.values_of(head)).row(key).cast<double>(), 1); }
  void add_pivots(const Matrix& weights, const Rows& all, const Rows& pivots) {
    const Matrix values = weights * rows_of(p.values_of(head), all);
    for (int64_t j = 0; j < weights.rows(); ++j)
      add(pivots[static_cast<size_t>(j)], values.row(j), weights.row(j).sum());
  }
  /// The output, held in the range of the values of the keys up to `last`.
  [[nodiscard]] Eigen::RowVectorXd out(int64_t last) const {
    const Matrix seen = rows_of(p.values_of(head), run_of(0, last));
    return (numerator / denominator).cwiseMax(seen.colwise().minCoeff()).cwiseMin(seen.colwise().maxCoeff());
  }
};

double largest_norm(MatrixView<const float> rows, int64_t begin, int64_t end) {
  return rows_of(rows, run_of(begin, end)).rowwise().norm().maxCoeff();
}

double row_error(const Tensor<float>& out, int64_t head, int64_t row, const Eigen::RowVectorXd& expected) {
  return (as_eigen(out.matrix(head)).row(row).cast<double>() - expected).cwiseAbs().maxCoeff();
}

double relative_error(const ForwardState& state, const DoubleResult& exact) {
  double wrong = 0;
  double size = 0;
  for (int64_t i = 0; i < exact.out.shape().size(); ++i) {
    wrong += std::pow(static_cast<double>(state.result.out.data()[i]) - exact.out.data()[i], 2);
    size += std::pow(exact.out.data()[i], 2);
  }
  return std::sqrt(wrong / size);
}

Settings coreset(int64_t size, const Settings& more = {}) {
  Settings settings = {{"coreset_size", size}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

void add_tau(double tau, Settings& settings) {
  settings.emplace_back("temperature", std::string("given"));
  settings.emplace_back("tau", tau);
}

TEST_CASE("Lambert's function and the temperature") {
  CHECK(lambert_w(0) == 0);
  CHECK(lambert_w(1) == Approx(0.56714329040978387).epsilon(1e-14));
  for (const double x : {1e-9, 0.1, 2.5, 700.0, 1e20, 1e200}) {
    const double w = lambert_w(x);
    CAPTURE(x, w);
    CHECK(std::log(w) + w == Approx(std::log(x)).epsilon(1e-13));
  }
  NystromOptions options;
  CHECK(squared_temperature(options, 1000, 0.125, 9, 11) ==
        Approx(plain_squared_temperature(1000, 0.125, 9, 11)).epsilon(1e-12));
  CHECK(std::isinf(squared_temperature(options, 1000, 0.125, 0, 11)));
  options.rule = TemperatureRule::released;
  CHECK(squared_temperature(options, 1000, 0.125, 9, 11) == Approx(3.94582 * 9 / 11));
  options.rule = TemperatureRule::given;
  options.tau = 3;
  CHECK(squared_temperature(options, 1000, 0.125, 9, 11) == 9);
}

TEST_CASE("two keys and one pivot, by hand") {
  // Keys 1 and 3 are −1 and 1 about their mean; with τ = s = 1 the other key weighs exp(−1 − 1) at the pivot.
  Tensor<float> query({1, 1, 1, 1}, 0.5F);
  Tensor<float> key({1, 1, 2, 1});
  Tensor<float> value({1, 1, 2, 1});
  key.data()[0] = 1;
  key.data()[1] = 3;
  value.data()[0] = 10;
  value.data()[1] = 20;
  const AttentionProblem p{query.view(), key.view(), value.view(), 1.0F};
  const PlannedCall call =
      planned("coreset", p, coreset(1, {{"temperature", std::string("given")}, {"tau", 1.0}}));
  const KeyList& list = call.plan->phases.at(0).passes.at(0).lists.at(0);
  const bool first = list.synthetic->key.data()[0] == 1;
  const double e = std::exp(-2.0);
  const double weight = std::exp(static_cast<double>(list.log_weight_of(0)));
  CHECK(weight * static_cast<double>(list.signed_weights->denominator[0]) == Approx(1 + e));
  CHECK(weight * static_cast<double>(list.signed_weights->numerator[0]) *
            static_cast<double>(list.synthetic->value.data()[0]) ==
        Approx(first ? 10 + 20 * e : 20 + 10 * e));
}

TEST_CASE("a coreset is the formula of its pivots, for every rule, bin and temperature") {
  struct Case {
    std::string pivots;
    int64_t bins;
    double tau;  // 0: the paper's
  };
  for (const Case& c : {Case{"rpcholesky", 1, 0}, Case{"uniform", 1, 0}, Case{"rpcholesky", 3, 0},
                        Case{"uniform", 4, 1.3}, Case{kPerBin, 3, 0}, Case{kPerBin, 3, 0.9}}) {
    const int64_t keys = 83;
    const RandomProblem random({31, keys, 6, 5, 1, 2}, 5, 1.5);
    const AttentionProblem& p = random.problem;
    Settings settings = coreset(13, {{"pivots", c.pivots}, {"bins", c.bins}});
    if (c.tau > 0) add_tau(c.tau, settings);
    const ForwardState state = run_backend("coreset", p, settings);
    double worst = 0;
    for (int64_t head = 0; head < 2; ++head) {
      const Pass& pass = state.planned.plan->phases.at(0).passes.at(static_cast<size_t>(head));
      const Rows pivots = pivot_rows(pass.lists.at(0), p.keys_of(head));
      REQUIRE(pivots.size() == 13);
      const int64_t systems = c.pivots == kPerBin ? 1 : c.bins;
      for (int64_t row = 0; row < 31; ++row) {
        PlainRow expected{p, head, row};
        for (int64_t bin = 0; bin < systems; ++bin) {
          const int64_t begin = keys * bin / systems;
          const int64_t end = keys * (bin + 1) / systems;
          const Rows own = within(pivots, begin, end);
          CHECK(static_cast<int64_t>(own.size()) == 13 * (bin + 1) / systems - 13 * bin / systems);
          expected.add_pivots(plain_weights(p, head, run_of(begin, end), own,
                                            largest_norm(p.query.matrix(head), 0, 31), c.tau),
                              run_of(begin, end), own);
        }
        worst = std::max(worst, row_error(state.result.out, head, row, expected.out(keys)));
      }
    }
    CAPTURE(c.pivots, c.bins, c.tau, worst);
    CHECK(worst < 2e-5);
  }
}

TEST_CASE("a causal coreset has R_Q from the queries of its key rows") {
  const RandomProblem random({64, 64, 5, 4, 1, 1, true}, 2);
  const AttentionProblem& p = random.problem;
  const ForwardState state = run_backend("coreset", p, coreset(6, {{"min_seq_len", int64_t{32}}}));
  // One node: rows 32 to 63 against keys 0 to 31; two leaves.
  const Pass& pass = state.planned.plan->phases.at(1).passes.at(0);
  const Rows pivots = pivot_rows(pass.lists.at(0), p.keys_of(0));
  const Matrix weights = plain_weights(p, 0, run_of(0, 32), pivots, largest_norm(p.query.matrix(0), 0, 32));
  double worst = 0;
  for (int64_t row = 0; row < 64; ++row) {
    PlainRow expected{p, 0, row};
    for (int64_t key = row < 32 ? 0 : 32; key <= row; ++key) expected.add_key(key);
    if (row >= 32) expected.add_pivots(weights, run_of(0, 32), pivots);
    worst = std::max(worst, row_error(state.result.out, 0, row, expected.out(row + 1)));
  }
  CAPTURE(worst);
  CHECK(worst < 1e-5);
}

/// The residual of g beside some pivots: 1 − g(l, S) g(S, S)⁻¹ g(S, l) for every key.
std::vector<double> plain_residuals(const Matrix& x, const Rows& pivots) {
  const auto g = [&](int64_t a, int64_t b) { return std::exp(-0.5 * (x.row(a) - x.row(b)).squaredNorm()); };
  const auto r = static_cast<int64_t>(pivots.size());
  Eigen::MatrixXd own(r, r);
  for (int64_t i = 0; i < r; ++i)
    for (int64_t j = 0; j < r; ++j)
      own(i, j) = g(pivots[static_cast<size_t>(i)], pivots[static_cast<size_t>(j)]);
  std::vector<double> residuals;
  for (int64_t l = 0; l < x.rows(); ++l) {
    Eigen::VectorXd with(r);
    for (int64_t i = 0; i < r; ++i) with(i) = g(pivots[static_cast<size_t>(i)], l);
    residuals.push_back(r == 0 ? 1 : std::max(0.0, 1 - with.dot(own.fullPivLu().solve(with))));
  }
  return residuals;
}

TEST_CASE("pivots are drawn by their residuals: all sets of three of six keys") {
  const RandomProblem random({6, 6, 2, 1}, 4);
  const AttentionProblem& p = random.problem;
  const double tau = 1.1;
  Matrix x = rows_of(p.keys_of(0), run_of(0, 6));
  const Eigen::RowVectorXd mean = x.colwise().mean();
  x.rowwise() -= mean;
  x *= std::sqrt(static_cast<double>(p.scale)) / tau;
  std::map<std::set<int64_t>, double> expected;
  const auto draw_on = [&](const auto& self, const Rows& drawn, double chance) -> void {
    if (drawn.size() == 3) {
      expected[std::set<int64_t>(drawn.begin(), drawn.end())] += chance;
      return;
    }
    std::vector<double> weight = plain_residuals(x, drawn);
    for (int64_t l = 0; l < 6; ++l) {
      const bool again = std::find(drawn.begin(), drawn.end(), l) != drawn.end();
      weight[static_cast<size_t>(l)] *= again ? 0 : std::exp(x.row(l).squaredNorm());
    }
    const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
    for (int64_t l = 0; l < 6; ++l) {
      Rows next = drawn;
      next.push_back(l);
      if (weight[static_cast<size_t>(l)] > 0)
        self(self, next, chance * weight[static_cast<size_t>(l)] / total);
    }
  };
  draw_on(draw_on, {}, 1);
  const int draws = 20000;
  std::map<std::set<int64_t>, int> seen;
  NystromOptions options;
  options.rule = TemperatureRule::given;
  options.tau = tau;
  const NystromKeys keys{p.keys_of(0), p.values_of(0), RowOrder::run(0, 6), p.scale, 1};
  for (int i = 0; i < draws; ++i) {
    const auto bins =
        nystrom_bins(keys, options, 3, {}, RandomStream(static_cast<uint64_t>(i), Purpose::pivot));
    ++seen[std::set<int64_t>(bins[0].ranks.begin(), bins[0].ranks.end())];
  }
  double worst = 0;
  for (const auto& [set, chance] : expected)
    worst = std::max(worst, std::abs(seen[set] - draws * chance) / std::sqrt(draws * chance * (1 - chance)));
  CAPTURE(expected.size(), worst);
  CHECK(expected.size() == 20);
  CHECK(worst < 4);  // of 20 standard normals
}

TEST_CASE("a coreset is exact where its pivots give every key: few distinct keys, equal ones, one key") {
  for (const int64_t distinct : {1, 2, 5}) {
    RandomProblem random({40, 90, 8, 6}, 3, 2);
    for (int64_t l = distinct; l < 90; ++l)
      std::copy_n(random.key.matrix(0).row(l % distinct), 8, random.key.matrix(0).row(l));
    const DoubleResult exact = attention_in_double(random.problem);
    for (const std::string pivots : {"rpcholesky", "uniform", kPerBin.c_str()}) {
      const int64_t size = pivots == "uniform" ? 60 : 12;  // so that all distinct keys are among them
      const ForwardState state = run_backend("coreset", random.problem, coreset(size, {{"pivots", pivots}}));
      CAPTURE(distinct, pivots);
      CHECK(largest_difference(state.result.out, exact.out) < 2e-5);
      CHECK(largest_difference(state.result.lse, exact.lse) < 2e-5);
      CHECK(state.planned.plan->phases.at(0).passes.at(0).lists.at(0).order.count == distinct);
    }
  }
  for (const bool causal : {false, true}) {
    const RandomProblem one({3, 1, 4, 4, 1, 1, causal});
    const ForwardState state = run_backend("coreset", one.problem, coreset(1));
    CHECK(largest_difference(state.result.out, attention_in_double(one.problem).out) < 1e-6);
  }
  const RandomProblem all({30, 30, 4, 4});  // as many pivots as keys
  CHECK(largest_difference(run_backend("coreset", all.problem, coreset(30)).result.out,
                           attention_in_double(all.problem).out) < 1e-5);
}

TEST_CASE("zero values, zero queries and zero keys") {
  RandomProblem zero({20, 50, 4, 3}, 1);
  std::fill_n(zero.value.data(), zero.value.shape().size(), 0.0F);
  CHECK(largest_entry(run_backend("coreset", zero.problem, coreset(9)).result.out) == 0);
  for (const bool of_queries : {true, false}) {
    RandomProblem p({20, 50, 4, 3}, 1);
    Tensor<float>& changed = of_queries ? p.query : p.key;
    std::fill_n(changed.data(), changed.shape().size(), 0.0F);
    const ForwardState state = run_backend("coreset", p.problem, coreset(9));
    CHECK(largest_difference(state.result.out, attention_in_double(p.problem).out) < 1e-6);
  }
  RandomProblem p({20, 50, 4, 3}, 1);
  p.problem.scale = 0;
  CHECK(largest_difference(run_backend("coreset", p.problem, coreset(9)).result.out,
                           attention_in_double(p.problem).out) < 1e-6);
}

TEST_CASE("the error falls with the number of pivots, and is less than that of as many sampled keys") {
  const RandomProblem random({300, 1000, 8, 8}, 6);
  const DoubleResult exact = attention_in_double(random.problem);
  double before = INFINITY;
  for (const int64_t size : {8, 32, 128, 512}) {
    const double error = relative_error(run_backend("coreset", random.problem, coreset(size)), exact);
    const double sampled = relative_error(
        run_backend("hyper", random.problem, {{"mask", std::string("none")}, {"sample_size", size}}), exact);
    CAPTURE(size, error, before, sampled);
    CHECK(error < 0.8 * before);
    CHECK(error < sampled);
    before = error;
  }
  CHECK(before < 0.05);
}

TEST_CASE("scores of 80 and of a million, d = 1 and 256, and any temperature give finite rows of values") {
  for (const auto& [dim, size] :
       {std::pair<int64_t, double>{64, 9.0}, {64, 1000.0}, {1, 9.0}, {1, 1000.0}, {256, 9.0}, {256, 600.0}})
    for (const std::string pivots : {"rpcholesky", "uniform", kPerBin.c_str()})
      for (const double tau : {0.0, 1e-30, 1e30}) {
        RandomProblem random({60, 150, dim, 7}, 3, size);
        for (int64_t i = 0; i < random.key.shape().size(); ++i)
          random.key.data()[i] *= static_cast<float>(size);
        Settings settings = coreset(24, {{"pivots", pivots}, {"bins", int64_t{2}}});
        if (tau > 0) add_tau(tau, settings);
        CAPTURE(dim, size, pivots, tau);
        const ForwardState state = run_backend("coreset", random.problem, settings);
        CHECK_NOTHROW(check_result(state.result));
        const DoubleResult planned = run_plan_in_double(random.problem, *state.planned.plan);
        CHECK(largest_entry(state.result.out) <= largest_entry(random.value));
        CHECK(state.result.diagnostics.guarded_rows <= 60);
        if (size > 10 || tau > 0) continue;  // beyond, rounding of scores chooses between keys
        CHECK(largest_difference(state.result.out, planned.out) < 1e-2);
      }
}

TEST_CASE("coreset: the same bits for any number of threads") {
  const RandomProblem p({130, 2100, 8, 5, 1, 2});
  for (const std::string pivots : {"rpcholesky", "uniform", kPerBin.c_str()}) {
    CAPTURE(pivots);
    check_bits_for_any_threads("coreset", p.problem, coreset(40, {{"pivots", pivots}, {"bins", int64_t{3}}}));
    check_bits_for_any_threads("coreset", p.problem, coreset(40, {{"pivots", pivots}}));
  }
}

TEST_CASE("coreset and nystrom: later rows leave the bits of earlier ones") {
  const int64_t n = 200;
  for (const std::string backend : {"coreset", "hyper"}) {
    Settings settings = {{"min_seq_len", int64_t{32}}};
    if (backend == "coreset") settings.emplace_back("coreset_size", int64_t{8});
    if (backend == "hyper")
      settings.insert(settings.end(), {{"residual", std::string("nystrom")},
                                       {"sample_size", int64_t{8}},
                                       {"block_size", int64_t{16}},
                                       {"bucket_count", int64_t{4}},
                                       {"query_blocks", std::string("by_bucket")}});
    RandomProblem p({n, n, 6, 5, 1, 2, true}, 8);
    const ForwardState before = run_backend(backend, p.problem, settings);
    for (const int64_t from : {199, 150, 101, 64, 10}) {
      RandomProblem other({n, n, 6, 5, 1, 2, true}, 8);
      const RandomProblem noise({n, n, 6, 5, 1, 2, true}, 9, 3);
      take_later_rows(other, noise, from);
      const ForwardState after = run_backend(backend, other.problem, settings);
      CAPTURE(backend, from);
      bool same = true;
      for (int64_t head = 0; head < 2; ++head)
        same =
            same && std::equal(before.result.out.matrix(head).data, before.result.out.matrix(head).row(from),
                               after.result.out.matrix(head).data);
      CHECK(same);
    }
  }
}

TEST_CASE("residual nystrom without a mask is the coreset, bit for bit") {
  const RandomProblem p({70, 300, 8, 5, 1, 2});
  for (const int64_t bins : {1, 4}) {
    const ForwardState a = run_backend("coreset", p.problem, coreset(20, {{"bins", bins}}));
    const ForwardState b = run_backend("hyper", p.problem,
                                       {{"mask", std::string("none")},
                                        {"residual", std::string("nystrom")},
                                        {"sample_size", int64_t{20}},
                                        {"bins", bins}});
    CHECK(largest_difference(a.result.out, b.result.out) == 0);
    CHECK(largest_difference(a.result.lse, b.result.lse) == 0);
  }
}

TEST_CASE("residual nystrom weighs the keys outside the row's block, whose own stand for themselves") {
  for (const int64_t bins : {1, 3})
    for (const std::string query_blocks : {"by_rank", "by_bucket"}) {
      const int64_t n = 90;
      const RandomProblem random({60, n, 6, 5}, 5);
      const AttentionProblem& p = random.problem;
      const Settings settings = {{"residual", std::string("nystrom")},
                                 {"sample_size", int64_t{12}},
                                 {"block_size", int64_t{16}},
                                 {"bucket_count", int64_t{8}},
                                 {"bins", bins},
                                 {"query_blocks", query_blocks}};
      const ForwardState state = run_backend("hyper", p, settings);
      const NodeMask mask = node_masks(p, call_for("hyper", settings))->masks().at(0);
      Rows ranked;
      for (int64_t rank = 0; rank < n; ++rank) ranked.push_back(mask.keys[rank]);
      const Pass& pass = state.planned.plan->phases.at(0).passes.at(0);
      const auto shared = std::find_if(pass.lists.begin(), pass.lists.end(),
                                       [](const KeyList& list) { return list.signed_weights != nullptr; });
      const Rows pivots = pivot_rows(*shared, p.keys_of(0));
      REQUIRE(pivots.size() == 12);
      double worst = 0;
      for (const MaskGroup& group : mask.groups)
        for (int64_t position = group.begin; position < group.end; ++position) {
          PlainRow expected{p, 0, mask.queries[position]};
          std::set<int64_t> inside;
          for (int64_t r = group.first_range; r < group.last_range; ++r)
            for (int64_t rank = mask.ranges[static_cast<size_t>(r)].begin;
                 rank < mask.ranges[static_cast<size_t>(r)].end; ++rank)
              inside.insert(mask.keys[rank]);
          for (const int64_t key : inside) expected.add_key(key);
          for (int64_t bin = 0; bin < bins; ++bin) {
            const Rows all(ranked.begin() + n * bin / bins, ranked.begin() + n * (bin + 1) / bins);
            Rows own;
            for (const int64_t pivot : pivots)
              if (std::find(all.begin(), all.end(), pivot) != all.end()) own.push_back(pivot);
            Matrix weights = plain_weights(p, 0, all, own, largest_norm(p.query.matrix(0), 0, 60));
            for (size_t l = 0; l < all.size(); ++l)
              if (inside.count(all[l]) != 0) weights.col(static_cast<int64_t>(l)).setZero();
            expected.add_pivots(weights, all, own);
          }
          worst = std::max(worst, row_error(state.result.out, 0, mask.queries[position], expected.out(n)));
        }
      CAPTURE(bins, query_blocks, worst);
      CHECK(worst < 2e-5);
    }
}

TEST_CASE("coreset: what cannot be is refused by name") {
  const RandomProblem p({20, 30, 4, 4});
  const Backend& backend = backend_named("coreset");
  const auto refusal = [&](const Settings& settings) {
    return backend.check(p.problem, call_for("coreset", settings).parameters);
  };
  CHECK(refusal(coreset(30)) == "");
  CHECK(refusal(coreset(31)) == "coreset_size must be at most the number of keys, 30, but is 31");
  CHECK(refusal(coreset(8, {{"bins", int64_t{9}}})) == "bins must be at most coreset_size, 8, but is 9");
  CHECK_THAT(backend.no_gradient(call_for("coreset", coreset(8)).parameters), Contains("has no gradient"));
  const Settings residual = {{"residual", std::string("nystrom")}, {"sample_size", int64_t{8}}};
  Settings many = residual;
  many.emplace_back("bins", int64_t{9});
  CHECK(backend_named("hyper").check(p.problem, call_for("hyper", many).parameters) ==
        "bins must be at most sample_size, 8, but is 9");
  CHECK_THAT(backend_named("hyper").no_gradient(call_for("hyper", residual).parameters),
             Contains("residual: nystrom"));
  for (const double tau : {0.0, -1.0, 1e31, std::nan("")}) {
    CAPTURE(tau);
    CHECK_THROWS_AS(call_for("coreset", {{"temperature", std::string("given")}, {"tau", tau}}), Error);
  }
}

}  // namespace
}  // namespace hyperattn::testing
