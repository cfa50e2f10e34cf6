#include "algorithms/methods/theory.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <utility>

#include "algorithms/methods/prescore.h"
#include "algorithms/methods/sparse.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/plan_walk.h"
#include "algorithms/registry.h"
#include "algorithms/residuals/approx_d.h"
#include "algorithms/residuals/sample.h"
#include "core/error.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestLogTerm = 75;  // e^75 ≈ 4e32: sums of up to 10^5 such terms are floats

ApproxDOptions approx_options(const Parameters& parameters) {
  ApproxDOptions options;
  if (!parameters.is_text("approx_kappa")) options.kappa = parameters.number("approx_kappa");
  options.epsilon = parameters.number("approx_epsilon");
  options.clip_constant = parameters.number("clip_constant");
  return options;
}

// Log row sums of all that is exact: −∞ everywhere when the problem is one approximated node.
std::vector<double> exact_log_sums(const BoundProblem& bound, const NodeTree& tree, int64_t* entries) {
  const AttentionProblem& problem = bound.shapes();
  const auto rows = problem.heads() * problem.query_count();
  std::vector<double> sums(static_cast<size_t>(rows), -kInfinity);
  const Plan plan = assemble_plan(problem, tree, {}, {});
  if (plan.phases.empty()) return sums;
  *entries += count_entries(plan);
  EngineOptions options;
  options.values = false;
  const AttentionResult exact = bound.engine().forward(bound, plan, options);
  std::copy_n(exact.lse.data(), rows, sums.begin());
  return sums;
}

struct Denominators {
  std::vector<double> log_values;  // heads · n_q
  ApproxDResult totals;            // counts over all levels
};

// Algorithm 4: exact parts plus ApproxD of every cross node, level by level (nodes of a level are disjoint).
Denominators denominators_of(const BoundProblem& bound, const NodeTree& tree, std::vector<ApproxDNode> nodes,
                             const ApproxDOptions& options) {
  Denominators result;
  result.log_values = exact_log_sums(bound, tree, &result.totals.entries);
  std::map<int, std::vector<ApproxDNode>> by_level;
  for (ApproxDNode& node : nodes) by_level[node.place.node.level].push_back(std::move(node));
  for (const auto& [level, level_nodes] : by_level) {
    const ApproxDResult part = approx_d(bound, level_nodes, options);
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
  for_each_pass(plan, [&](const Pass& pass) {
    for (const KeyList& list : pass.lists)
      for (int64_t rank = 0; rank < list.order.count; ++rank)
        largest = std::max(largest, list.log_weight_of(rank));
  });
  return largest;
}

// Algorithm 3, step 3: D̃⁻¹ A Sᵀ S V, with entries held so far below infinity that their sums are floats.
std::shared_ptr<const GivenDenominators> given_denominators(const AttentionProblem& problem, const Plan& plan,
                                                            std::vector<double> log_denominators) {
  auto given = std::make_shared<GivenDenominators>();
  const double headroom = kLargestLogTerm - static_cast<double>(largest_log_weight(plan));
  for (const double log : log_denominators)
    given->score_cap.push_back(static_cast<float>((std::isinf(log) ? 0.0 : log) + headroom));
  TensorShape rows = problem.query.shape;
  rows.dim = 1;
  given->sums = sums_from_logs(rows, log_denominators.data());
  given->logs = std::move(log_denominators);
  return given;
}

double share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace

std::vector<ParameterSpec> theory_parameters() {
  return {
      number_parameter("approx_kappa",
                       "kappa of ApproxD's floor tau/kappa; auto: measured on sampled rows; .inf: no floor")
          .at_least(1)
          .or_infinity()
          .or_word("auto")
          .by_default("auto")
          .only_with("estimator", {"theory"}),
      number_parameter("approx_epsilon", "epsilon in ApproxD's clip C_i")
          .at_least(1e-9)
          .by_default(0.5)
          .only_with("estimator", {"theory"})
          .not_with("clip_constant", {0}),
      number_parameter("clip_constant", "constant of the clip C_i; 0: no clip")
          .at_least(0)
          .by_default(1.0)
          .only_with("estimator", {"theory"}),
  };
}

std::string check_theory(const Parameters& parameters) {
  if (parameters.text("residual") != "sample")
    return "estimator: theory draws its own samples and needs residual: sample, but residual is " +
           parameters.text("residual");
  const bool window = parameters.integer("window") > 0;
  if (window || find_mask(parameters.text("mask"))->is_union(parameters))
    return "estimator: theory knows one mask for all rows of a block; set " +
           std::string(window ? "window: 0" : "hash_rounds: 1") + " or choose estimator: residual";
  if (is_prescored(parameters))
    return "estimator: theory estimates from all keys; set prescore: none or choose estimator: residual";
  const ApproxDOptions approx = approx_options(parameters);
  if (parameters.integer("sample_size") == 0)
    return "sample_size must be at least 1 with estimator: theory, but is 0";
  if (parameters.text("mask") == "none" && approx.kappa && std::isinf(*approx.kappa) &&
      approx.clip_constant > 0)
    return "approx_kappa .inf with mask: none clips every entry to 0; set clip_constant: 0 or a finite "
           "approx_kappa";
  return {};
}

double theory_entries(const AttentionProblem& shapes, const Parameters& parameters) {
  return static_cast<double>(shapes.heads()) *
         static_cast<double>(shapes.query_count() + shapes.key_count()) *
         static_cast<double>(parameters.integer("sample_size")) / 2;
}

Plan value_sample_plan(const BoundProblem& bound, const Call& call) {
  const AttentionProblem& problem = bound.shapes();
  const SparseChoice choice(call.parameters);
  const NodeTree tree = node_tree(problem, call.parameters);
  const std::vector<HeadNode> nodes = approximated_nodes(tree, problem.heads());
  std::vector<std::vector<double>> norms;
  for (int64_t head = 0; head < problem.key_heads(); ++head)
    norms.push_back(bound.squared_row_norms(problem.value.matrix(head)));
  std::vector<std::vector<Pass>> passes(nodes.size());
  for_each_node(nodes, [&](size_t i) {
    const HeadNode& place = nodes[i];
    const int64_t keys = place.node.key_count();
    const double* own =
        norms[static_cast<size_t>(problem.key_head(place.head))].data() + place.node.key_begin;
    const ColumnSample sample = draw_by_norm(std::min(choice.sample_size, keys), keys, own, 0,
                                             node_stream(call, Purpose::value_sample, place));
    passes[i].push_back(sample_pass(problem, place, empty_mask(place.node), sample, false));
  });
  return assemble_plan(problem, tree, nodes, std::move(passes));
}

PlannedCall plan_theory(const BoundProblem& bound, const Call& call) {
  if (call.replay != nullptr)
    fail_usage("a replay holds the samples of estimator: residual; estimator: theory cannot be replayed");
  const AttentionProblem& problem = bound.shapes();
  const SparseChoice choice(call.parameters);
  PlanningSeconds seconds;
  PlannedCall planned;
  const auto masks = plan_node_masks(bound, call, &seconds);
  Stopwatch watch;
  std::vector<ApproxDNode> nodes = draw_approx_d(call, choice.sample_size, masks->nodes(), masks->masks());
  planned.plan = std::make_shared<const Plan>(value_sample_plan(bound, call));
  seconds.draw += watch.seconds();
  book_planning(seconds, planned.notes);
  watch.restart();
  Denominators denominators =
      denominators_of(bound, masks->tree(), std::move(nodes), approx_options(call.parameters));
  planned.notes.stage_seconds[stage_name(Stage::approx_d)] += watch.seconds();
  planned.masks = masks;
  planned.denominators = given_denominators(problem, *planned.plan, std::move(denominators.log_values));
  const ApproxDResult& totals = denominators.totals;
  planned.notes.entries = entries_of_scores(problem, totals.entries);
  planned.notes.collisions = totals.collisions;
  planned.notes.clipped_share = share(totals.clipped_entries, totals.sampled_entries);
  planned.notes.floored_share = share(totals.floored_rows, totals.rows);
  return planned;
}

}  // namespace hyperattn
