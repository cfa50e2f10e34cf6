// alpha, kappa, mask_mass and bound against dense algebra in double, causal problems included, and the
// defined results at the edges: no sample, a wholly masked row, nothing approximated, values of zero.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "algorithms/primitives/column_sample.h"
#include "core/eigen.h"
#include "experiments/measures/context.h"
#include "experiments/measures/measures.h"
#include "tests/experiments/measures/answered.h"
#include "tests/experiments/measures/dense.h"
#include "tests/statistics.h"

namespace hyperattn::testing {
namespace {

constexpr double kTolerance = 2e-3;  // twice that of ‖P‖_op
constexpr double kRounding = 5e-5;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

const MeasuredSize kSizes[] = {{90, 130, 8, 5, 1, 2, false, 1},
                               {130, 90, 16, 16, 2, 1, false, 2},
                               {127, 127, 8, 6, 1, 2, true, 1},
                               {90, 90, 4, 4, 1, 1, true, 3}};

void require_figure(const FigureRow* row, const std::string& name, double expected, double tolerance) {
  REQUIRE(row != nullptr);
  INFO(name << " of head " << row->head << ", level " << row->level << " is " << row->figures.at(name)
            << ", expected " << expected);
  REQUIRE(row->figures.at(name) == Approx(expected).epsilon(tolerance).margin(1e-5));
}

double dense_alpha(const Dense& softmax, int64_t skip = 0) {
  const auto n = static_cast<double>(softmax.cols());
  return n * n / static_cast<double>(softmax.rows()) *
         softmax.rightCols(softmax.cols() - skip).colwise().squaredNorm().maxCoeff();
}

Dense softmax_of(const Dense& scores) {
  return (scores.colwise() - DenseHead::log_sum_exp(scores)).array().exp();
}

// What the dense algebra says of the nodes of one head (of one level, or all).
struct NodeMaxima {
  double alpha = -kInfinity;
  double log_kappa = -kInfinity;
  double log_diagonal = -kInfinity;
  double product = -kInfinity;
  double variance = 0;
};

NodeMaxima dense_nodes(Answered& a, int64_t head, int level) {
  const Plan unmasked = a.forward.planned.masks->unmasked(a.input.problem);
  const DenseHead dense(a.input.problem, unmasked, head);
  const auto m = static_cast<double>(a.call.parameters.integer("sample_size"));
  NodeMaxima all;
  for (const HeadNode& place : a.context.approximated_nodes()) {
    const AttentionNode& node = place.node;
    if (place.head != head || (level >= 0 && node.level != level)) continue;
    const auto block = [&](const Dense& x) -> Dense {
      return x.block(node.query_begin, node.key_begin, node.query_count(), node.key_count());
    };
    Plan of_level;
    for (const Phase& phase : unmasked.phases)
      if (phase.level == node.level) of_level.phases.push_back(phase);
    const DenseHead rest(a.input.problem, of_level, head);
    const auto sums = rest.plan_lse.segment(node.query_begin, node.query_count());
    const Dense p = softmax_of(block(dense.scores));
    const double alpha = dense_alpha(p);
    const double log_kappa = sums.maxCoeff() - sums.minCoeff();
    const double rank = p.squaredNorm() / std::pow(operator_norm_of(p), 2);
    const auto n = static_cast<double>(node.key_count());
    all.alpha = std::max(all.alpha, alpha);
    all.log_kappa = std::max(all.log_kappa, log_kappa);
    all.log_diagonal = std::max(
        all.log_diagonal, std::log(std::pow(std::exp(log_kappa), 7) * alpha * alpha * std::log(n) / m) / 6);
    all.product =
        std::max(all.product, std::sqrt(static_cast<double>(a.input.problem.value_dim()) * rank / m));
    all.variance += block(dense.softmax).squaredNorm() *
                    dense.value.middleRows(node.key_begin, node.key_count()).squaredNorm() / m;
  }
  return all;
}

}  // namespace

TEST_CASE("alpha agrees with dense column norms, of cross nodes too") {
  for (const MeasuredSize& size : kSizes) {
    CAPTURE(to_string(size));
    Answered a(size, "hyper", kSmall);
    const auto rows = a.rows(alpha_measure(), {{"skip_columns", int64_t{7}}});
    for (int64_t head = 0; head < a.input.problem.heads(); ++head) {
      const DenseHead dense(a.input.problem, *a.forward.planned.plan, head);
      require_figure(find_row(rows, head), "alpha", dense_alpha(dense.softmax), kRounding);
      require_figure(find_row(rows, head), "alpha_skip", dense_alpha(dense.softmax, 7), kRounding);
      if (size.causal)
        require_figure(find_row(rows, head), "alpha_node", dense_nodes(a, head, -1).alpha, kRounding);
      else
        REQUIRE(std::isnan(find_row(rows, head)->figures.at("alpha_node")));
    }
    if (!size.causal) continue;
    for (int level = 2; level <= 3; ++level) {  // level 1 is too small to be approximated
      double largest = 0;
      for (int64_t head = 0; head < a.input.problem.heads(); ++head)
        largest = std::max(largest, dense_nodes(a, head, level).alpha);
      require_figure(find_row(rows, -1, level), "alpha_node", largest, kRounding);
    }
  }
}

TEST_CASE("alpha is 1 for uniform attention, and its parts are NaN where nothing is left") {
  Answered a({64, 64, 4, 4, 1, 1, false, 0}, "exact", {});
  REQUIRE(a.figure(alpha_measure(), "alpha") == Approx(1).epsilon(1e-5));
  REQUIRE(std::isnan(a.figure(alpha_measure(), "alpha_skip")));
  REQUIRE(std::isnan(a.rows(alpha_measure(), {{"skip_columns", int64_t{64}}})[0].figures.at("alpha_skip")));
}

TEST_CASE("kappa and mask_mass agree with dense row sums") {
  for (const std::string name : {"lsh", "hyper"})
    for (const MeasuredSize& size : kSizes) {
      CAPTURE(name, to_string(size));
      Settings settings = kSmall;
      if (name == "lsh") settings.erase("sample_size");
      Answered a(size, name, settings);
      const auto kappa = a.rows(kappa_measure());
      const auto mass = a.rows(mask_mass_measure());
      const Plan mask = a.forward.planned.masks->masked(a.input.problem);
      const Plan unmasked = a.forward.planned.masks->unmasked(a.input.problem);
      for (int64_t head = 0; head < a.input.problem.heads(); ++head) {
        const DenseHead inside(a.input.problem, mask, head);
        const Eigen::ArrayXd share = (inside.plan_lse - inside.lse).array().exp();
        require_figure(find_row(mass, head), "mask_mass_mean", share.mean(), kRounding);
        require_figure(find_row(mass, head), "mask_mass_min", share.minCoeff(), kRounding);
        require_figure(find_row(kappa, head), "log_kappa_empty",
                       inside.lse.maxCoeff() - inside.lse.minCoeff(), kRounding);
        if (size.causal) {
          REQUIRE(find_row(kappa, head)->figures.at("log_kappa") == kInfinity);
          if (name == "hyper")
            require_figure(find_row(kappa, head), "log_kappa_node", dense_nodes(a, head, -1).log_kappa,
                           kRounding);
        } else {
          const Eigen::VectorXd sums = DenseHead(a.input.problem, unmasked, head).plan_lse;
          require_figure(find_row(kappa, head), "log_kappa", sums.maxCoeff() - sums.minCoeff(), kRounding);
        }
      }
    }
}

TEST_CASE("bound solves the lemmas with constants 1, node by node, and adds the nodes' variances") {
  for (const MeasuredSize& size : kSizes) {
    CAPTURE(to_string(size));
    Answered a(size, "hyper", with(kSmall, "sampling", std::string("uniform_iid")));
    const auto rows = a.rows(bound_measure());
    for (int64_t head = 0; head < a.input.problem.heads(); ++head) {
      const DenseHead dense(a.input.problem, *a.forward.planned.plan, head);
      const NodeMaxima expected = dense_nodes(a, head, -1);
      const FigureRow* row = find_row(rows, head);
      require_figure(row, "log_bound_diagonal", expected.log_diagonal, 1e-4);
      require_figure(row, "bound_product", expected.product, kTolerance);
      require_figure(row, "bound_product_provable",
                     std::sqrt(expected.variance / 0.01) /
                         (operator_norm_of(dense.softmax) * operator_norm_of(dense.value)),
                     kTolerance);
      require_figure(row, "srank_softmax",
                     dense.softmax.squaredNorm() / std::pow(operator_norm_of(dense.softmax), 2),
                     2 * kTolerance);
      require_figure(row, "srank_value",
                     dense.value.squaredNorm() / std::pow(operator_norm_of(dense.value), 2), kTolerance);
      REQUIRE(row->texts.at("norm_status") == "converged");
    }
  }
}

TEST_CASE("the provable bound is that of the way in which the backend samples") {
  const MeasuredSize size{100, 100, 8, 8};
  const auto provable = [&](const std::string& name, const Settings& settings) {
    return Answered(size, name, settings).figure(bound_measure(), "bound_product_provable");
  };
  const double plain = provable("hyper", kSmall);
  const double mixture = provable("hyper", with(kSmall, "sampling", std::string("value_norm")));
  CAPTURE(plain, mixture);
  REQUIRE(mixture == Approx(std::sqrt(2) * plain).epsilon(1e-6));
  REQUIRE(provable("hyper", with(kSmall, "sample_size", int64_t{0})) == kInfinity);
  REQUIRE(std::isnan(provable("exact", {})));

  Answered theory(size, "hyper", with(kSmall, "estimator", std::string("theory")));
  const DenseHead dense(theory.input.problem, *theory.forward.planned.plan, 0);
  const Eigen::Map<const Eigen::VectorXf> lse(theory.forward.result.lse.data(), 100);
  const Eigen::VectorXd ratio = (dense.lse - lse.cast<double>()).array().exp();
  const double divided = (ratio.asDiagonal() * dense.softmax).norm() * dense.value.norm() / std::sqrt(0.12);
  require_figure(&theory.rows(bound_measure())[0], "bound_product_provable",
                 divided / (operator_norm_of(dense.softmax) * operator_norm_of(dense.value)), kTolerance);
}

namespace {

// How often each of `ratios`, an error over the bound for δ = 0.01, breaks the bound for a larger δ, which is
// √(0.01/δ) times that one.
void require_broken_at_most(const std::vector<double>& ratios) {
  for (const double delta : {0.01, 0.1, 0.5, 0.9}) {
    const auto broken = std::count_if(ratios.begin(), ratios.end(),
                                      [&](double ratio) { return ratio > std::sqrt(0.01 / delta); });
    INFO("delta " << delta << ": broken " << broken << " times in " << ratios.size());
    REQUIRE(static_cast<double>(broken) <= delta * static_cast<double>(ratios.size()));
  }
}

}  // namespace

TEST_CASE(
    "sampled products with the exact D have the variance of the provable bound, and keep it (|z| < 4.5)") {
  constexpr int kDraws = 1000;
  constexpr int64_t kSamples = 12;
  for (const double uniform_share : {0.0, 0.5}) {
    const std::string sampling = uniform_share > 0 ? "value_norm" : "uniform_iid";
    Answered a({40, 60, 8, 5, 1, 1, false, 2}, "hyper", with(kSmall, "sampling", sampling));
    const DenseHead dense(a.input.problem, *a.forward.planned.plan, 0);
    const Dense& p = dense.softmax;
    const Dense& v = dense.value;
    const std::vector<double> norms = squared_row_norms(a.input.problem.value.matrix(0));
    const double scale = operator_norm_of(p) * operator_norm_of(v);
    const double bound = a.figure(bound_measure(), "bound_product_provable");
    Moments squares;
    std::vector<double> ratios;
    for (uint64_t seed = 0; seed < kDraws; ++seed) {
      const ColumnSample s = draw_by_norm(kSamples, p.cols(), norms.data(), uniform_share,
                                          RandomStream(seed, Purpose::value_sample));
      Dense error = -p * v;
      for (size_t r = 0; r < s.rows.size(); ++r)
        error += std::exp(static_cast<double>(s.log_weights[r])) * p.col(s.rows[r]) * v.row(s.rows[r]);
      squares.add(error.squaredNorm());
      ratios.push_back(operator_norm_of(error) / scale / bound);
    }
    // (Σ_j ‖P e_j‖²‖v_j‖²/p_j − ‖PV‖_F²)/m; for p_j = ‖v_j‖²/‖V‖_F² the sum is ‖P‖_F²‖V‖_F².
    double sum = 0;
    for (int64_t j = 0; j < p.cols(); ++j) {
      const double square = v.row(j).squaredNorm();
      const double probability =
          uniform_share / static_cast<double>(p.cols()) + (1 - uniform_share) * square / v.squaredNorm();
      sum += p.col(j).squaredNorm() * square / probability;
    }
    if (uniform_share == 0) REQUIRE(sum == Approx(p.squaredNorm() * v.squaredNorm()));
    const double expected = (sum - (p * v).squaredNorm()) / kSamples;
    const double limit = 0.01 * std::pow(bound * scale, 2);  // what the bound takes for E‖E‖_F²
    CAPTURE(sampling, squares.mean(), squares.standard_error(), expected, limit);
    REQUIRE(std::abs(squares.z(expected)) < kZBound);
    REQUIRE(expected < limit);
    REQUIRE(expected > limit / 4);
    require_broken_at_most(ratios);
  }
}

TEST_CASE(
    "the theory estimator's error of the product breaks its provable bound no more often than promised") {
  constexpr int kDraws = 200;
  for (const MeasuredSize& size :
       {MeasuredSize{70, 90, 8, 5, 1, 1, false, 2}, MeasuredSize{90, 90, 8, 5, 1, 1, true, 2}}) {
    Answered a(size, "hyper", with(kSmall, "estimator", std::string("theory")));
    std::vector<double> ratios;
    Moments squares;
    for (uint64_t seed = 0; seed < kDraws; ++seed) {
      a.call.seed = seed;
      const ForwardState forward = a.backend.forward(a.input.problem, a.call);
      MeasureContext context(a.backend, a.call, forward, a.exact);
      const double error = product_error_measure().compute(context, {})[0].figures.at("epsilon_product");
      ratios.push_back(error / bound_measure().compute(context, {})[0].figures.at("bound_product_provable"));
      squares.add(std::pow(ratios.back(), 2));
    }
    // E‖E‖² ≤ E‖E‖_F² ≤ δ·bound², and not far below: of rank 5, ‖E‖² ≥ ‖E‖_F²/5.
    CAPTURE(to_string(size), squares.mean(), squares.standard_error());
    REQUIRE(squares.mean() - kZBound * squares.standard_error() < 0.01);
    REQUIRE(squares.mean() + kZBound * squares.standard_error() > 0.01 / 5 / 4);
    require_broken_at_most(ratios);
  }
}

TEST_CASE("without a random sample nothing is promised, and the stable ranks are told all the same") {
  const std::pair<std::string, std::string> unsampled[] = {{"residual", "centroids"},
                                                           {"residual", "columns+centroids"},
                                                           {"residual", "none"},
                                                           {"sampling", "prefix"}};
  for (const MeasuredSize& size : {MeasuredSize{100, 100, 8, 8}, MeasuredSize{127, 127, 8, 6, 1, 2, true}})
    for (const auto& [option, value] : unsampled) {
      CAPTURE(to_string(size), option, value);
      Answered a(size, "hyper", with(kSmall, option, value));
      for (const FigureRow& row : a.rows(bound_measure())) {
        for (const char* figure : {"log_bound_diagonal", "bound_product", "bound_product_provable"})
          REQUIRE(row.figures.at(figure) == kInfinity);
        if (row.level < 0) REQUIRE(std::isfinite(row.figures.at("srank_softmax")));
      }
    }
  REQUIRE(Answered({100, 100, 8, 8}, "lsh", {{"block_size", int64_t{16}}})
              .figure(bound_measure(), "bound_product_provable") == kInfinity);
}

TEST_CASE("theory's figures are defined where nothing or everything is masked, and for values of zero") {
  const Settings wide = with(kSmall, "block_size", int64_t{64});
  Answered all({64, 64, 8, 8}, "hyper", wide);  // one block holds every entry
  REQUIRE(all.figure(kappa_measure(), "log_kappa") == kInfinity);
  REQUIRE(all.figure(mask_mass_measure(), "mask_mass_min") == Approx(1).epsilon(1e-5));
  REQUIRE(all.figure(bound_measure(), "log_bound_diagonal") == kInfinity);

  Answered leaf({20, 20, 8, 8, 1, 1, true}, "hyper", kSmall);  // nothing is approximated
  REQUIRE(std::isnan(leaf.figure(kappa_measure(), "log_kappa_node")));
  REQUIRE(std::isnan(leaf.figure(alpha_measure(), "alpha_node")));
  REQUIRE(leaf.figure(mask_mass_measure(), "mask_mass_min") == Approx(1).epsilon(1e-5));
  REQUIRE(leaf.figure(bound_measure(), "bound_product_provable") == 0);

  Answered none({64, 64, 8, 8}, "hyper", with(kSmall, "mask", std::string("none")));
  REQUIRE(none.figure(mask_mass_measure(), "mask_mass_mean") == 0);
  REQUIRE(none.figure(kappa_measure(), "log_kappa") ==
          Approx(none.figure(kappa_measure(), "log_kappa_empty")).epsilon(1e-5));

  Answered exact({64, 64, 8, 8}, "exact", {});
  REQUIRE(std::isnan(exact.figure(kappa_measure(), "log_kappa")));
  REQUIRE(std::isnan(exact.figure(mask_mass_measure(), "mask_mass_mean")));
  REQUIRE(std::isfinite(exact.figure(kappa_measure(), "log_kappa_empty")));

  Answered zero({64, 64, 8, 8}, "hyper", kSmall);
  std::fill_n(zero.input.value.data(), zero.input.value.shape().size(), 0.0F);
  REQUIRE(zero.figure(bound_measure(), "srank_value") == 0);
  REQUIRE(zero.figure(bound_measure(), "bound_product_provable") == 0);
}

TEST_CASE("epsilon stays below its two halves for every way of sampling") {
  for (const MeasuredSize& size : kSizes)
    for (const char* sampling : {"uniform", "uniform_iid", "value_norm", "prefix", "theory"}) {
      const bool theory = std::string(sampling) == "theory";
      Answered a(size, "hyper", with(kSmall, theory ? "estimator" : "sampling", std::string(sampling)));
      for (const FigureRow& row : a.rows(spectral_error_measure())) {
        if (row.level >= 0) continue;
        const auto diagonal = a.rows(diagonal_error_measure());
        const auto product = a.rows(product_error_measure());
        const double halves = find_row(diagonal, row.head)->figures.at("epsilon_diagonal") +
                              find_row(product, row.head)->figures.at("epsilon_product");
        CAPTURE(to_string(size), sampling, row.head, row.figures.at("epsilon"), halves);
        REQUIRE(row.figures.at("epsilon") <= halves * (1 + 3e-3));
      }
    }
}

namespace {

// The parts of E, of P̃V − diag(D/D̃)PV and of diag((D̃ − D)/D̃)P that one level adds, densely: with only that
// level's entries of P̃·diag(D̃) and of A.
struct DenseLevel {
  Dense whole, product, diagonal;

  DenseLevel(Answered& a, int level, const DenseHead& dense) {
    Plan plan;
    for (const Phase& phase : a.forward.planned.plan->phases)
      if (phase.level == level) plan.phases.push_back(phase);
    const DenseHead part(a.input.problem, plan, 0);
    const int64_t n = dense.scores.rows();
    Dense inside = Dense::Zero(n, n);
    const NodeTree tree = nodes_of(a.input.problem, a.call.parameters.integer("min_seq_len"));
    for (const AttentionNode& node : tree.levels[static_cast<size_t>(level) - 1])
      inside.block(node.query_begin, node.key_begin, node.query_count(), node.key_count()).setOnes();
    const Eigen::VectorXd seen_factor = (part.plan_lse - dense.plan_lse).array().exp();
    const Eigen::VectorXd factor = (dense.lse - dense.plan_lse).array().exp();
    const Dense seen = seen_factor.asDiagonal() * part.plan_softmax;               // Ã_l / D̃
    const Dense exact = factor.asDiagonal() * dense.softmax.cwiseProduct(inside);  // A_l / D̃
    product = (seen - exact) * dense.value;
    const Eigen::VectorXd sums = seen.rowwise().sum() - exact.rowwise().sum();
    diagonal = sums.asDiagonal() * dense.softmax;
    whole = product - sums.asDiagonal() * dense.output();
  }
};

}  // namespace

TEST_CASE("the errors of causal levels agree with dense algebra and add up to the whole error") {
  Answered a({150, 150, 8, 6, 1, 1, true, 2}, "hyper", kSmall);
  const DenseHead dense(a.input.problem, *a.forward.planned.plan, 0);
  const auto whole = a.rows(spectral_error_measure());
  const auto product = a.rows(product_error_measure());
  const auto diagonal = a.rows(diagonal_error_measure());
  const double norm_softmax = operator_norm_of(dense.softmax);
  const double scale = norm_softmax * operator_norm_of(dense.value);
  Dense sum = Dense::Zero(150, 6);
  for (int level = 1; level <= 3; ++level) {
    const DenseLevel expected(a, level, dense);
    require_figure(find_row(whole, -1, level), "epsilon", operator_norm_of(expected.whole) / scale,
                   kTolerance);
    require_figure(find_row(whole, -1, level), "error_max", expected.whole.cwiseAbs().maxCoeff(), kRounding);
    require_figure(find_row(product, -1, level), "epsilon_product",
                   operator_norm_of(expected.product) / scale, kTolerance);
    require_figure(find_row(diagonal, -1, level), "epsilon_diagonal",
                   operator_norm_of(expected.diagonal) / norm_softmax, kTolerance);
    sum += expected.whole;
  }
  CAPTURE((sum + dense.error()).norm(), dense.error().norm());
  REQUIRE((sum + dense.error()).norm() <= 1e-9 * dense.error().norm());
  Answered theory({150, 150, 8, 6, 1, 1, true, 2}, "hyper", with(kSmall, "estimator", std::string("theory")));
  REQUIRE(find_row(theory.rows(spectral_error_measure()), -1, 3) == nullptr);  // it keeps no sums of levels
  REQUIRE(
      std::isfinite(find_row(theory.rows(product_error_measure()), -1, 3)->figures.at("epsilon_product")));
}

}  // namespace hyperattn::testing
