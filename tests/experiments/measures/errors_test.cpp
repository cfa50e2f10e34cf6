// spectral_error, diagonal_error and product_error against dense singular value decompositions, for the
// results of plans that approximate in known ways.
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/plan_builder.h"
#include "algorithms/registry.h"
#include "experiments/measures/context.h"
#include "experiments/measures/measures.h"
#include "tests/experiments/measures/dense.h"

namespace hyperattn::testing {
namespace {

constexpr double kTolerance = 1e-3;  // of ‖P‖_op
constexpr double kRounding = 2e-5;   // fp32 passes
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Exact plan of which every second key is gone and the others weigh `weight`; causal rows keep key 0.
Plan thinned_plan(const AttentionProblem& problem, double weight) {
  Plan plan = exact_plan(problem);
  for (Pass& pass : plan.phases[0].passes) {
    std::vector<float> log_weight(static_cast<size_t>(problem.key_count()),
                                  static_cast<float>(std::log(weight)));
    for (size_t j = 1; j < log_weight.size(); j += 2) log_weight[j] = -INFINITY;
    pass.lists[0].log_weight = std::make_shared<const std::vector<float>>(std::move(log_weight));
  }
  return plan;
}

struct Measured {
  MeasuredProblem input;
  Plan plan;
  ForwardState forward;
  ExactQuantities exact;
  Call call;
  MeasureContext context;

  explicit Measured(const MeasuredSize& size, double weight = 2)
      : input(size),
        plan(thinned_plan(input.problem, weight)),
        forward{run_forward(input.problem, plan), {}},
        exact(input.problem, default_engine(), 1, 0),
        context(*find_backend("exact"), call, forward, exact) {}

  std::vector<FigureRow> rows(const Measure& measure) { return measure.compute(context, {}); }
};

// Another denominator of a row, by its natural logarithm.
void set_denominator(AttentionResult& result, int64_t row, double log) {
  const RowSums one = sums_from_logs({1, 1, 1, 1}, &log);
  result.lse.data()[row] = static_cast<float>(log);
  result.sums.maximum.data()[row] = one.maximum.data()[0];
  result.sums.sum.data()[row] = one.sum.data()[0];
}

const MeasuredSize kSizes[] = {
    {1, 1, 1, 1},
    {1, 7, 3, 2},
    {7, 1, 3, 2},
    {5, 9, 8, 3},
    {100, 100, 16, 16, 1, 1, false, 0.1},
    {90, 130, 8, 5, 2, 2, false, 3},
    {130, 90, 32, 40, 1, 3, false, 1},
    {127, 127, 16, 16, 1, 2, true, 1},
    {90, 90, 8, 5, 1, 1, true, 4},
};

void require_close(const FigureRow& row, const std::string& figure, double expected, double tolerance) {
  INFO(figure << " of head " << row.head << " is " << row.figures.at(figure) << ", expected " << expected);
  REQUIRE(row.figures.at(figure) == Approx(expected).epsilon(tolerance).margin(1e-6));
}

}  // namespace

TEST_CASE("spectral_error agrees with dense singular values") {
  for (const MeasuredSize& size : kSizes) {
    CAPTURE(to_string(size));
    Measured m(size);
    const std::vector<FigureRow> rows = m.rows(spectral_error_measure());
    REQUIRE(rows.size() == static_cast<size_t>(1 + m.input.problem.heads()));
    double largest_epsilon = 0;
    for (int64_t head = 0; head < m.input.problem.heads(); ++head) {
      const DenseHead dense(m.input.problem, m.plan, head);
      const FigureRow& row = *find_row(rows, head);
      const double norm_softmax = operator_norm_of(dense.softmax);
      const double epsilon = operator_norm_of(dense.error()) / (norm_softmax * operator_norm_of(dense.value));
      largest_epsilon = std::max(largest_epsilon, epsilon);
      require_close(row, "error_op", operator_norm_of(dense.error()), kRounding);
      require_close(row, "norm_softmax", norm_softmax, kTolerance);
      require_close(row, "norm_value", operator_norm_of(dense.value), kRounding);
      require_close(row, "epsilon", epsilon, kTolerance + kRounding);
      require_close(row, "error_op_rel", operator_norm_of(dense.error()) / operator_norm_of(dense.output()),
                    kRounding);
      require_close(row, "error_fro_rel", dense.error().norm() / dense.output().norm(), kRounding);
      require_close(row, "error_max", dense.error().cwiseAbs().maxCoeff(), kRounding);
      require_close(row, "norm_softmax_upper", std::sqrt(dense.softmax.colwise().sum().maxCoeff()),
                    kRounding);
      REQUIRE(norm_softmax <= row.figures.at("norm_softmax_upper") * (1 + kRounding));
      REQUIRE(row.texts.at("norm_status") == "converged");
      REQUIRE(row.figures.at("norm_residual") <= kTolerance);
    }
    require_close(rows[0], "epsilon", largest_epsilon, kTolerance + kRounding);
    REQUIRE(rows[0].head == -1);
    REQUIRE(rows[0].texts.at("norm_status") == "converged");
  }
}

TEST_CASE("diagonal_error and product_error agree with dense singular values, and bound the whole error") {
  for (const MeasuredSize& size : kSizes) {
    CAPTURE(to_string(size));
    Measured m(size);
    const std::vector<FigureRow> whole = m.rows(spectral_error_measure());
    const std::vector<FigureRow> diagonal = m.rows(diagonal_error_measure());
    const std::vector<FigureRow> product = m.rows(product_error_measure());
    for (int64_t head = 0; head < m.input.problem.heads(); ++head) {
      const DenseHead dense(m.input.problem, m.plan, head);
      const double norm_softmax = operator_norm_of(dense.softmax);
      require_close(*find_row(diagonal, head), "epsilon_diagonal",
                    operator_norm_of(dense.diagonal_difference()) / norm_softmax, 2 * kTolerance);
      require_close(*find_row(diagonal, head), "error_lse",
                    (dense.lse - dense.plan_lse).cwiseAbs().maxCoeff(), kRounding);
      std::vector<double> errors;
      for (Eigen::Index i = 0; i < dense.lse.size(); ++i)
        errors.push_back(std::abs(std::expm1(dense.plan_lse(i) - dense.lse(i))));
      std::sort(errors.begin(), errors.end());
      require_close(*find_row(diagonal, head), "epsilon_rows", errors[(9 * errors.size() + 9) / 10 - 1],
                    2 * kTolerance);
      require_close(
          *find_row(product, head), "epsilon_product",
          operator_norm_of(dense.product_difference()) / (norm_softmax * operator_norm_of(dense.value)),
          kTolerance + kRounding);
      const double halves = find_row(diagonal, head)->figures.at("epsilon_diagonal") +
                            find_row(product, head)->figures.at("epsilon_product");
      const double epsilon = find_row(whole, head)->figures.at("epsilon");
      INFO("epsilon " << epsilon << ", sum of halves " << halves);
      REQUIRE(epsilon <= halves * (1 + 3 * kTolerance) + 1e-9);
    }
  }
}

TEST_CASE("errors of the exact plan are zero") {
  Measured m({60, 70, 8, 6, 1, 2});
  const ForwardState same{run_forward(m.input.problem, exact_plan(m.input.problem)), {}};
  MeasureContext context(*find_backend("exact"), m.call, same, m.exact);
  REQUIRE(spectral_error_measure().compute(context, {})[0].figures.at("epsilon") == 0);
  REQUIRE(diagonal_error_measure().compute(context, {})[0].figures.at("epsilon_diagonal") == 0);
  REQUIRE(product_error_measure().compute(context, {})[0].figures.at("epsilon_product") <= 1e-7);
}

TEST_CASE("errors are defined for values of zero") {
  Measured m({40, 50, 8, 6});
  std::fill_n(m.input.value.data(), m.input.value.shape().size(), 0.0F);
  const ForwardState zero{run_forward(m.input.problem, m.plan), {}};
  MeasureContext context(*find_backend("exact"), m.call, zero, m.exact);
  const FigureRow whole = spectral_error_measure().compute(context, {})[0];
  REQUIRE(whole.figures.at("epsilon") == 0);
  REQUIRE(whole.figures.at("error_op_rel") == 0);
  REQUIRE(whole.figures.at("norm_value") == 0);
  REQUIRE(product_error_measure().compute(context, {})[0].figures.at("epsilon_product") == 0);
}

TEST_CASE("the two halves are infinite where they overflow, and the whole is not") {
  Measured m({40, 50, 8, 6});
  set_denominator(m.forward.result, 3, -1e6);
  set_denominator(m.forward.result, 4, -kInfinity);
  REQUIRE(m.rows(diagonal_error_measure())[0].figures.at("epsilon_diagonal") == kInfinity);
  REQUIRE(m.rows(product_error_measure())[0].figures.at("epsilon_product") == kInfinity);
  REQUIRE(m.rows(diagonal_error_measure())[0].figures.at("error_lse") == kInfinity);
  REQUIRE(std::isfinite(m.rows(spectral_error_measure())[0].figures.at("epsilon")));
}

TEST_CASE("a result that is not finite is reported as such") {
  Measured m({40, 50, 8, 6, 1, 2});
  m.forward.result.out.data()[5] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<FigureRow> rows = m.rows(spectral_error_measure());
  REQUIRE(std::isnan(rows[0].figures.at("epsilon")));
  REQUIRE(rows[0].texts.at("norm_status") == "not_finite");
  REQUIRE(find_row(rows, 1)->texts.at("norm_status") == "converged");
}

TEST_CASE("every measure fills exactly the figures that it declares") {
  Measured m({20, 20, 4, 4});
  for (const Measure* measure : all_measures()) {
    if (measure == &timing_measure()) continue;  // the runner fills it
    CAPTURE(measure->name());
    const FigureRow row = measure->compute(m.context, default_parameters(measure->parameters()))[0];
    size_t found = 0;
    for (const FigureSpec& figure : measure->figures()) {
      CAPTURE(figure.name);
      REQUIRE(row.figures.count(figure.name) + row.texts.count(figure.name) == 1);
      ++found;
    }
    REQUIRE(row.figures.size() + row.texts.size() == found);
  }
}

}  // namespace hyperattn::testing
