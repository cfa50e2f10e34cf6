#include "algorithms/residuals/approx_d.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "algorithms/engine.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/residuals/residual.h"
#include "algorithms/residuals/sample.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// log row sums of one phase, for all rows of the problem; −∞ in rows that it does not touch.
Tensor<float> log_row_sums(const BoundProblem& bound, const Plan& plan, const float* score_cap,
                           int64_t* capped, int64_t* entries) {
  *entries += count_entries(plan);
  EngineOptions options;
  options.values = false;
  options.score_cap = score_cap;
  options.capped_entries = capped;
  return std::move(bound.engine().forward(bound, plan, options).lse);
}

Plan plan_of(std::vector<Pass> passes) {
  PlanBuilder plan;
  for (Pass& pass : passes) plan.add(std::move(pass));
  return plan.take();
}

// The rows of T against all keys outside their masks.
Pass test_pass(const AttentionProblem& problem, const ApproxDNode& node) {
  const NodeMask& mask = *node.mask;
  std::vector<int32_t> chosen = node.test_rows;
  std::sort(chosen.begin(), chosen.end());
  std::vector<int32_t> rows;
  std::vector<int64_t> begin = {0};  // of each group's rows
  for (const MaskGroup& group : mask.groups) {
    for (int64_t position = group.begin; position < group.end; ++position)
      if (const auto row = static_cast<int32_t>(mask.queries[position]);
          std::binary_search(chosen.begin(), chosen.end(), row))
        rows.push_back(row);
    begin.push_back(static_cast<int64_t>(rows.size()));
  }
  PassBuilder pass(problem, node.place.head, node.place.node.number, RowOrder::list(std::move(rows)));
  const GroupVisits rest = GroupVisits::unmasked(mask, Stage::approx_d, pass);
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    pass.group(begin[g], begin[g + 1]);
    rest.visit(g, pass);
  }
  return pass.take();
}

struct Threshold {
  double log_tau = -kInfinity;
  double log_floor = -kInfinity;
};

// Step 2, and the floor τ/κ of steps 4a and 4c.
Threshold threshold_of(const ApproxDNode& node, const Tensor<float>& unmasked,
                       const ApproxDOptions& options) {
  const float* sums = unmasked.matrix(node.place.head).data;
  Threshold result;
  double smallest = kInfinity;
  for (const int32_t row : node.test_rows) {
    result.log_tau = std::max<double>(result.log_tau, sums[row]);
    smallest = std::min<double>(smallest, sums[row]);
  }
  // Automatic κ is τ over the smallest sum of T, so that τ/κ is that sum.
  result.log_floor = options.kappa ? result.log_tau - std::log(*options.kappa) : smallest;
  return result;
}

// Step 4a: log C_i.
double log_clip(const ApproxDNode& node, double log_masked, double log_floor, const ApproxDOptions& options) {
  if (node.place.node.key_count() == 1) return kInfinity;  // ln n = 0: nothing is clipped
  const auto n = static_cast<double>(node.place.node.key_count());
  const auto m = static_cast<double>(node.sample.rows.size());
  const double factor = options.clip_constant * options.epsilon * options.epsilon * m / (n * std::log(n));
  return std::log(factor) + log_add(log_masked, log_floor);
}

template <class Body>
void for_each_row(const ApproxDNode& node, int64_t rows_of_head, const Body& body) {
  for (int64_t row = node.place.node.query_begin; row < node.place.node.query_end; ++row)
    body(node.place.head * rows_of_head + row);
}

}  // namespace

double log_add(double a, double b) {
  const double high = std::max(a, b);
  if (high == -kInfinity) return -kInfinity;
  return high + std::log1p(std::exp(std::min(a, b) - high));
}

std::vector<ApproxDNode> draw_approx_d(const Call& call, int64_t sample_size,
                                       const std::vector<HeadNode>& places,
                                       const std::vector<NodeMask>& masks) {
  std::vector<ApproxDNode> nodes(places.size());
  parallel_for(static_cast<int64_t>(places.size()), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    ApproxDNode& result = nodes[i];
    const AttentionNode& node = places[i].node;
    const int64_t m = std::min(sample_size, node.key_count());
    result.place = places[i];
    result.mask = &masks[i];
    result.test_rows = sample_without_replacement(node_stream(call, Purpose::row_sample, places[i]),
                                                  node.query_count(), std::min(m, node.query_count()));
    for (int32_t& row : result.test_rows) row += static_cast<int32_t>(node.query_begin);
    result.sample = draw_columns(Sampling::uniform_iid, m, node.key_count(), nullptr,
                                 node_stream(call, Purpose::key_sample, places[i]));
  });
  return nodes;
}

ApproxDResult approx_d(const BoundProblem& bound, const std::vector<ApproxDNode>& nodes,
                       const ApproxDOptions& options) {
  const AttentionProblem& problem = bound.shapes();
  const int64_t rows_of_head = problem.query_count();
  const auto all_rows = static_cast<size_t>(problem.heads() * rows_of_head);
  std::vector<Pass> masked_passes(nodes.size());
  std::vector<Pass> test_passes(nodes.size());
  std::vector<Pass> sample_passes(nodes.size());
  parallel_for(static_cast<int64_t>(nodes.size()), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    masked_passes[i] = mask_pass(problem, nodes[i].place, *nodes[i].mask);
    test_passes[i] = test_pass(problem, nodes[i]);
    sample_passes[i] = sample_pass(problem, nodes[i].place, *nodes[i].mask, nodes[i].sample, false);
  });

  ApproxDResult result;
  const Tensor<float> masked =
      log_row_sums(bound, plan_of(std::move(masked_passes)), nullptr, nullptr, &result.entries);
  const Tensor<float> unmasked =
      log_row_sums(bound, plan_of(std::move(test_passes)), nullptr, nullptr, &result.entries);

  std::vector<float> cap(all_rows, std::numeric_limits<float>::infinity());
  for (const ApproxDNode& node : nodes) {
    const Threshold threshold = threshold_of(node, unmasked, options);
    result.log_tau.push_back(threshold.log_tau);
    result.log_floor.push_back(threshold.log_floor);
    if (options.clip_constant > 0)
      for_each_row(node, rows_of_head, [&](int64_t row) {
        cap[static_cast<size_t>(row)] =
            static_cast<float>(log_clip(node, masked.data()[row], threshold.log_floor, options));
      });
  }

  const Plan sample_plan = plan_of(std::move(sample_passes));
  result.collisions = count_excluded(sample_plan);
  result.sampled_entries = count_entries(sample_plan);
  const Tensor<float> sampled =
      log_row_sums(bound, sample_plan, cap.data(), &result.clipped_entries, &result.entries);  // step 4b
  result.log_denominators.assign(all_rows, -kInfinity);
  for (size_t i = 0; i < nodes.size(); ++i)
    for_each_row(nodes[i], rows_of_head, [&](int64_t row) {  // step 4c
      const double d = sampled.data()[row];
      const double floor = result.log_floor[i];
      result.log_denominators[static_cast<size_t>(row)] = log_add(masked.data()[row], std::max(d, floor));
      result.floored_rows += d < floor ? 1 : 0;
      ++result.rows;
    });
  return result;
}

}  // namespace hyperattn
