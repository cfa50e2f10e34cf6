#include "algorithms/residuals/theory_estimator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "algorithms/engines/cpu/engine.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestLogTerm = 75;  // e^75 ≈ 4e32: sums of up to 10^5 such terms are floats

Pass value_sample_pass(const HeadNode& place, const ColumnSample& sample) {
  const NodeMask nothing = empty_mask(place.node);
  return sample_pass(place.head, place.node, nothing, sample, false);
}

// The phases of a plan in which approximated nodes are given as passes (in the order of `nodes`).
Plan plan_with(const NodeTree& tree, const std::vector<HeadNode>& nodes, std::vector<Pass> passes,
               int64_t heads) {
  Plan plan;
  if (!tree.leaves.empty()) plan.phases.push_back(leaf_phase(tree, heads));
  for (const auto& level : tree.levels) {
    Phase phase;
    phase.level = level.front().level;
    for (int64_t head = 0; head < heads; ++head)
      for (const AttentionNode& node : level)
        if (node.exact) phase.passes.push_back(exact_node_pass(head, node));
    for (size_t i = 0; i < passes.size(); ++i)
      if (nodes[i].node.level == phase.level) phase.passes.push_back(std::move(passes[i]));
    if (!phase.passes.empty()) plan.phases.push_back(std::move(phase));
  }
  return plan;
}

// Log row sums of all that is exact: −∞ everywhere when the problem is one approximated node.
std::vector<double> exact_log_sums(const AttentionProblem& problem, const NodeTree& tree, int64_t* entries) {
  const auto rows = problem.heads() * problem.query_count();
  std::vector<double> sums(static_cast<size_t>(rows), -kInfinity);
  const Plan plan = plan_with(tree, {}, {}, problem.heads());
  if (plan.phases.empty()) return sums;
  *entries += count_entries(plan);
  EngineOptions options;
  options.values = false;
  const AttentionResult exact = run_forward(problem, plan, options);
  std::copy_n(exact.lse.data(), rows, sums.begin());
  return sums;
}

struct Denominators {
  std::vector<double> log_values;  // heads · n_q
  ApproxDResult totals;            // counts over all levels
};

// Algorithm 4: exact parts plus ApproxD of every cross node, level by level (nodes of a level are disjoint).
Denominators denominators_of(const AttentionProblem& problem, const NodeTree& tree,
                             std::vector<ApproxDNode> nodes, const ApproxDOptions& options) {
  Denominators result;
  result.log_values = exact_log_sums(problem, tree, &result.totals.entries);
  std::map<int, std::vector<ApproxDNode>> by_level;
  for (ApproxDNode& node : nodes) by_level[node.place.node.level].push_back(std::move(node));
  for (const auto& [level, level_nodes] : by_level) {
    const ApproxDResult part = approx_d(problem, level_nodes, options);
    for (size_t row = 0; row < result.log_values.size(); ++row)
      result.log_values[row] = log_add(result.log_values[row], part.log_denominators[row]);
    result.totals.sampled_entries += part.sampled_entries;
    result.totals.clipped_entries += part.clipped_entries;
    result.totals.rows += part.rows;
    result.totals.floored_rows += part.floored_rows;
    result.totals.collisions += part.collisions;
    result.totals.entries += part.entries;
  }
  return result;
}

float largest_log_weight(const Plan& plan) {
  float largest = 0;
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      for (const KeyList& list : pass.lists) {
        largest = std::max(largest, list.uniform_log_weight);
        if (list.log_weight)
          for (const float weight : *list.log_weight) largest = std::max(largest, weight);
      }
  return largest;
}

// Algorithm 3, step 3: D̃⁻¹ A Sᵀ S V.
AttentionResult divided_product(const AttentionProblem& problem, const Plan& plan,
                                const std::vector<double>& log_denominators) {
  const size_t rows = log_denominators.size();
  std::vector<float> normaliser(rows);
  std::vector<float> cap(rows);
  const double headroom = kLargestLogTerm - largest_log_weight(plan);
  for (size_t i = 0; i < rows; ++i) {
    normaliser[i] = std::isinf(log_denominators[i]) ? 0.0F : static_cast<float>(log_denominators[i]);
    cap[i] = static_cast<float>(normaliser[i] + headroom);
  }
  EngineOptions options;
  options.row_normaliser = normaliser.data();
  options.score_cap = cap.data();
  AttentionResult result = run_forward(problem, plan, options);
  const int64_t dim = problem.value_dim();
  for (size_t i = 0; i < rows; ++i) {
    result.lse.data()[i] = static_cast<float>(log_denominators[i]);
    if (std::isinf(log_denominators[i]))
      std::fill_n(result.out.data() + static_cast<int64_t>(i) * dim, dim, 0.0F);
  }
  return result;
}

double share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace

Plan value_sample_plan(const AttentionProblem& problem, const CallContext& context, int64_t sample_size,
                       int64_t min_seq_len) {
  const NodeTree tree = nodes_of(problem, min_seq_len);
  const std::vector<HeadNode> nodes = approximated_nodes(tree, problem.heads());
  std::vector<std::vector<double>> norms;
  for (int64_t head = 0; head < problem.heads(); ++head)
    norms.push_back(squared_row_norms(problem.value.matrix(head)));
  std::vector<Pass> passes(nodes.size());
  parallel_for(static_cast<int64_t>(nodes.size()), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    const AttentionNode& node = nodes[i].node;
    const RandomStream stream(context.seed, Purpose::value_sample, context.trial,
                              static_cast<uint32_t>(nodes[i].head), node.stream);
    passes[i] = value_sample_pass(
        nodes[i], draw_by_norm(std::min(sample_size, node.key_count()), node.key_count(),
                               norms[static_cast<size_t>(nodes[i].head)].data() + node.key_begin, 0, stream));
  });
  return plan_with(tree, nodes, std::move(passes), problem.heads());
}

ForwardState theory_attention(const AttentionProblem& problem, const CallContext& context,
                              const SparseOptions& options, const ApproxDOptions& approx) {
  PlanningSeconds seconds;
  const NodeTree tree = nodes_of(problem, options.min_seq_len);
  const std::vector<HeadNode> places = approximated_nodes(tree, problem.heads());
  const std::vector<NodeMask> masks = build_masks(problem, context, options, places, &seconds);
  Stopwatch watch;
  std::vector<ApproxDNode> nodes = draw_approx_d(context, options.sample_size, places, masks);
  auto plan = std::make_shared<const Plan>(
      value_sample_plan(problem, context, options.sample_size, options.min_seq_len));
  seconds.draw += watch.seconds();
  watch.restart();
  const Denominators denominators = denominators_of(problem, tree, std::move(nodes), approx);
  const double approx_seconds = watch.seconds();

  ForwardState state{divided_product(problem, *plan, denominators.log_values), plan};
  Diagnostics& diagnostics = state.result.diagnostics;
  const ApproxDResult& totals = denominators.totals;
  diagnostics.stage_seconds[stage_name(Stage::hash)] += seconds.hash;
  diagnostics.stage_seconds[stage_name(Stage::sort)] += seconds.sort;
  diagnostics.stage_seconds[stage_name(Stage::draw)] += seconds.draw;
  diagnostics.stage_seconds[stage_name(Stage::approx_d)] += approx_seconds;
  // Scores without a value product count by their share of a whole entry's 2·(d + d_v) FLOPs.
  const double score_share =
      static_cast<double>(problem.head_dim()) / static_cast<double>(problem.head_dim() + problem.value_dim());
  diagnostics.entries =
      count_entries(*plan) + std::llround(score_share * static_cast<double>(totals.entries));
  diagnostics.collisions = totals.collisions;
  diagnostics.clipped_share = share(totals.clipped_entries, totals.sampled_entries);
  diagnostics.floored_share = share(totals.floored_rows, totals.rows);
  return state;
}

}  // namespace hyperattn
