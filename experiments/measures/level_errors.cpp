#include "experiments/measures/level_errors.h"

#include <cmath>
#include <map>
#include <utility>

#include "algorithms/plan_builder.h"
#include "core/eigen.h"

namespace hyperattn {
namespace {

Plan exact_level(const AttentionProblem& problem, const std::vector<AttentionNode>& nodes) {
  PlanBuilder plan;
  for (int64_t head = 0; head < problem.heads(); ++head)
    for (const AttentionNode& node : nodes) plan.add(exact_node_pass(problem, head, node));
  return plan.take();
}

LevelError level_error(const MeasureContext& context, int64_t head, int level, const AttentionResult& seen,
                       const AttentionResult& exact) {
  const auto log_factor = [&](const AttentionResult& part) -> Eigen::VectorXd {
    const int64_t rows = context.problem().query_count();
    Eigen::VectorXd logs(rows);
    for (int64_t i = 0; i < rows; ++i)
      logs[i] = part.sums.log_ratio(head * rows + i, context.forward.result.sums);
    return logs;
  };
  const auto out = [&](const AttentionResult& part) {
    return as_eigen(part.out.matrix(head)).cast<double>();
  };
  const Eigen::VectorXd factor = log_factor(seen).array().exp();
  const Eigen::VectorXd exact_factor = log_factor(exact).array().exp();
  return {level, to_dense(factor.asDiagonal() * out(seen) - exact_factor.asDiagonal() * out(exact)),
          to_vector(factor - exact_factor)};
}

}  // namespace

void for_each_level_error(MeasureContext& context,
                          const std::function<void(int64_t head, const LevelError& error)>& body) {
  const AttentionProblem& problem = context.problem();
  const PlannedCall& planned = context.forward.planned;
  if (!problem.causal || !planned.plan || !planned.masks) return;
  std::map<int, Plan> levels;
  for (const Phase& phase : planned.plan->phases)
    if (phase.level > 0) levels[phase.level].phases.push_back(phase);
  for (const auto& [level, plan] : levels) {
    const AttentionResult seen = context.exact.run(plan, true);
    const std::vector<AttentionNode>& nodes = planned.masks->tree().levels[static_cast<size_t>(level) - 1];
    const AttentionResult exact = context.exact.run(exact_level(problem, nodes), true);
    for (int64_t head = 0; head < problem.heads(); ++head)
      body(head, level_error(context, head, level, seen, exact));
  }
}

bool divides_by_own_sums(const MeasureContext& context) {
  return context.forward.planned.denominators == nullptr;
}

}  // namespace hyperattn
