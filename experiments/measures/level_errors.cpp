#include "experiments/measures/level_errors.h"

#include <cmath>
#include <map>
#include <utility>

#include "algorithms/engines/cpu/engine.h"
#include "core/eigen.h"

namespace hyperattn {
namespace {

Plan exact_level(const AttentionProblem& problem, const std::vector<AttentionNode>& nodes) {
  Plan plan;
  Phase& phase = plan.phases.emplace_back();
  for (int64_t head = 0; head < problem.heads(); ++head)
    for (const AttentionNode& node : nodes) phase.passes.push_back(exact_node_pass(head, node));
  return plan;
}

LevelError level_error(const MeasureContext& context, int64_t head, int level, const AttentionResult& seen,
                       const AttentionResult& exact) {
  const auto log_factor = [&](const AttentionResult& part) -> Eigen::VectorXd {
    const int64_t rows = context.problem().query_count();
    const Eigen::Map<const Eigen::ArrayXf> sums(part.lse.matrix(head).data, rows);
    const Eigen::Map<const Eigen::ArrayXf> all(context.forward.result.lse.matrix(head).data, rows);
    return sums.cast<double>() - all.cast<double>();
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
  if (!problem.causal || !context.forward.plan || !context.call.parameters.has("min_seq_len")) return;
  const NodeTree tree = nodes_of(problem, context.call.parameters.integer("min_seq_len"));
  std::map<int, Plan> levels;
  for (const Phase& phase : context.forward.plan->phases)
    if (phase.level > 0) levels[phase.level].phases.push_back(phase);
  for (const auto& [level, plan] : levels) {
    const AttentionResult seen = run_forward(problem, plan);
    const AttentionResult exact =
        run_forward(problem, exact_level(problem, tree.levels[static_cast<size_t>(level) - 1]));
    for (int64_t head = 0; head < problem.heads(); ++head)
      body(head, level_error(context, head, level, seen, exact));
  }
}

bool divides_by_own_sums(const MeasureContext& context) {
  const Parameters& parameters = context.call.parameters;
  return !parameters.has("estimator") || parameters.text("estimator") != "theory";
}

}  // namespace hyperattn
