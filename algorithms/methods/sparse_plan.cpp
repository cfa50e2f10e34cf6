#include "algorithms/methods/sparse_plan.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "algorithms/primitives/column_masses.h"
#include "algorithms/residuals/compressed_residual.h"
#include "algorithms/residuals/moments.h"
#include "core/error.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

// Mask groups of fewer rows than this on average do not share the sampled keys well: the sample then gets
// groups of its own.
constexpr int64_t kFusedGroupRows = 64;
std::vector<int32_t> replayed_rows(const Replay& replay, const std::vector<HeadNode>& nodes, size_t index,
                                   const SparseOptions& options, int64_t heads) {
  const HeadNode& wanted = nodes[index];
  const int64_t rows = wanted.node.query_count();
  const std::string name = "the replayed samples of nodes with " + std::to_string(rows) + " query rows";
  const auto found = replay.samples.find(rows);
  if (found == replay.samples.end()) fail_input(name + " are missing");
  const Replay::Samples& samples = found->second;
  if (samples.count != options.sample_size)
    fail_usage("sample_size must be " + std::to_string(samples.count) + ", as in " + name + ", but is " +
               std::to_string(options.sample_size));
  if (static_cast<int64_t>(samples.rows.size()) != heads * samples.nodes * samples.count)
    fail_input(name + " must hold " + std::to_string(heads) + " heads of " + std::to_string(samples.nodes) +
               " nodes, but hold " + std::to_string(samples.rows.size()) + " indices");
  // Numbered from the start of the sequence among the nodes of this many query rows.
  const int64_t number = std::count_if(nodes.begin(), nodes.end(), [&](const HeadNode& other) {
    return other.head == wanted.head && other.node.query_count() == rows &&
           other.node.query_begin < wanted.node.query_begin;
  });
  if (number >= samples.nodes)
    fail_input(name + " hold " + std::to_string(samples.nodes) + " nodes, but node " +
               std::to_string(number) + " is needed");
  const auto begin = samples.rows.begin() + (wanted.head * samples.nodes + number) * samples.count;
  std::vector<int32_t> drawn(begin, begin + samples.count);
  for (const int32_t row : drawn)
    if (row < 0 || row >= wanted.node.key_count())
      fail_input(name + " hold the key row " + std::to_string(row) + ", but must be between 0 and " +
                 std::to_string(wanted.node.key_count() - 1));
  return drawn;
}

// Squared norms of the value rows of every head; empty unless the sampling reads them.
std::vector<std::vector<double>> value_norms(const AttentionProblem& problem, const SparseOptions& options) {
  std::vector<std::vector<double>> norms(static_cast<size_t>(problem.heads()));
  if (options.sampling == Sampling::value_norm && options.sample_size > 0)
    for (int64_t head = 0; head < problem.heads(); ++head)
      norms[static_cast<size_t>(head)] = squared_row_norms(problem.value.matrix(head));
  return norms;
}

Pass empty_pass(int64_t head, const AttentionNode& node, const NodeMask& mask) {
  Pass pass;
  pass.head = head;
  pass.node = node.number;
  pass.queries = mask.queries;
  return pass;
}

void add_group(int64_t begin, int64_t end, int64_t first_visit, Pass& pass) {
  const auto last_visit = static_cast<int64_t>(pass.visits.size());
  if (last_visit > first_visit) pass.groups.push_back({begin, end, first_visit, last_visit});
}

// What each group of the mask visits, given for all groups at once.
void add_visits(const NodeMask& mask, GroupVisits table, Pass& pass) {
  pass.visits = std::move(table.visits);
  for (size_t g = 0; g < mask.groups.size(); ++g)
    if (table.begin[g] < table.begin[g + 1])
      pass.groups.push_back({mask.groups[g].begin, mask.groups[g].end, table.begin[g], table.begin[g + 1]});
}

// Appends the visit of a whole sample list by one group of the mask.
void visit_sample(int32_t list, const RankedSample& sample, const NodeMask& mask, const MaskGroup& group,
                  bool count_collisions, Pass& pass) {
  Visit visit;
  visit.list = list;
  visit.end = static_cast<int64_t>(sample.ranks.size());
  visit.excluded_begin = static_cast<int64_t>(pass.excluded.size());
  if (!count_collisions) append_masked_samples(mask, group, sample.ranks, pass.excluded);
  visit.excluded_end = static_cast<int64_t>(pass.excluded.size());
  pass.visits.push_back(visit);
}

// Mask and sample in one pass: each query tile is loaded once.
Pass fused_pass(int64_t head, const AttentionNode& node, const NodeMask& mask, const ColumnSample& sample,
                bool count_collisions) {
  Pass pass = empty_pass(head, node, mask);
  const GroupVisits masked = add_masked_keys(mask, Stage::block, pass);
  RankedSample ranked = rank_sample(sample, mask, node);
  const auto list = static_cast<int32_t>(pass.lists.size());
  pass.lists.push_back(ranked.list);
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    const auto first_visit = static_cast<int64_t>(pass.visits.size());
    pass.visits.insert(pass.visits.end(), masked.visits.begin() + masked.begin[g],
                       masked.visits.begin() + masked.begin[g + 1]);
    visit_sample(list, ranked, mask, group, count_collisions, pass);
    add_group(group.begin, group.end, first_visit, pass);
  }
  return pass;
}

bool worth_fusing(const NodeMask& mask) {
  return !mask.ranges.empty() &&
         mask.queries.count >= kFusedGroupRows * static_cast<int64_t>(mask.groups.size());
}

void keep_filled(Phase phase, Plan& plan) {
  phase.passes.erase(std::remove_if(phase.passes.begin(), phase.passes.end(),
                                    [](const Pass& pass) { return pass.groups.empty(); }),
                     phase.passes.end());
  if (!phase.passes.empty()) plan.phases.push_back(std::move(phase));
}

bool compresses(const SparseOptions& options) {
  return options.residual != Residual::sample && options.sample_size > 0;
}

// m keys buy what stands for the others, and the planning: a k-means centre is compared with every query and
// every key, a query that masses are estimated from with every key, and a key costs its score and its value.
// Linear values cost a product with a d × d_v matrix for each query and, with centring and packing, two for
// each key.
Compression compression_of(const AttentionProblem& problem, const SparseOptions& options,
                           const AttentionNode& node) {
  const bool columns = options.residual == Residual::columns_centroids;
  const bool linear = options.residual == Residual::linear_centroids;
  const bool calibrated = linear || options.residual == Residual::calibrated_centroids;
  int64_t budget = std::min(options.sample_size, node.key_count());
  if (budget < node.key_count()) {
    if (options.kmeans_buckets) budget -= options.bucket_count;
    if (columns || calibrated) budget -= kMassRows / 2;
    if (linear)
      budget -= 3 * problem.head_dim() * problem.value_dim() / (problem.head_dim() + problem.value_dim());
  }
  Compression compression = split_budget(std::max<int64_t>(budget, 1), columns ? options.column_share : 0);
  compression.calibrated = calibrated;
  compression.linear = linear;
  compression.earlier_queries = options.query_blocks_by_bucket;
  return compression;
}

// A node's passes; the second one may be empty.
struct NodePasses {
  Pass first;
  Pass second;
};

NodePasses compressed_passes(const AttentionProblem& problem, const CallContext& context,
                             const SparseOptions& options, const HeadNode& place, const NodeMask& mask) {
  if (options.residual == Residual::moments) return {moments_pass(problem, place.head, place.node, mask), {}};
  return {compressed_pass(problem, place.head, place.node, mask, compression_of(problem, options, place.node),
                          node_stream(context, Purpose::row_sample, place)),
          {}};
}

NodePasses sampled_passes(const HeadNode& place, const NodeMask& mask, const ColumnSample& sample,
                          bool count_collisions) {
  const auto& [head, node] = place;
  if (sample.rows.empty()) return {mask_pass(head, node, mask), {}};
  if (worth_fusing(mask)) return {fused_pass(head, node, mask, sample, count_collisions), {}};
  return {mask_pass(head, node, mask), sample_pass(head, node, mask, sample, count_collisions)};
}

// Books wall time in the proportions of what the nodes took, each on some thread.
void share_out(double wall, const std::vector<PlanningSeconds>& spent, PlanningSeconds& seconds) {
  double sort = 0;
  double draw = 0;
  for (const PlanningSeconds& node : spent) {
    sort += node.sort;
    draw += node.draw;
  }
  const double sort_share = sort + draw > 0 ? sort / (sort + draw) : 0;
  seconds.sort += wall * sort_share;
  seconds.draw += wall * (1 - sort_share);
}

double node_entries(const AttentionNode& node, const SparseOptions& options, int64_t head_dim) {
  const auto queries = static_cast<double>(node.query_count());
  const auto keys = static_cast<double>(node.key_count());
  if (node.exact) return queries * keys;
  double masked = std::min(keys, static_cast<double>(options.block_size));
  if (options.mask == MaskKind::none) masked = 0;
  if (options.mask == MaskKind::band)
    masked = std::min(keys, 2 * static_cast<double>(options.band_width) + 1) * (node.level == 0 ? 1 : 0);
  if (compresses(options) && options.residual == Residual::moments)
    return queries * (masked + (masked < keys ? static_cast<double>(head_dim) : 0));
  return queries * std::min(keys, masked + std::min(keys, static_cast<double>(options.sample_size)));
}

}  // namespace

std::vector<ColumnSample> draw_samples(const AttentionProblem& problem, const CallContext& context,
                                       const SparseOptions& options, const std::vector<HeadNode>& nodes,
                                       PlanningSeconds* seconds) {
  const Stopwatch watch;
  std::vector<ColumnSample> samples(nodes.size());
  if (options.sample_size > 0 && options.residual == Residual::sample) {
    const auto norms = value_norms(problem, options);
    for_each_node(nodes, [&](size_t i) {
      const AttentionNode& node = nodes[i].node;
      const std::vector<double>& head_norms = norms[static_cast<size_t>(nodes[i].head)];
      const double* node_norms = head_norms.empty() ? nullptr : head_norms.data() + node.key_begin;
      if (context.replay != nullptr) {
        samples[i] = weigh_columns(options.sampling,
                                   replayed_rows(*context.replay, nodes, i, options, problem.heads()),
                                   node.key_count(), node_norms);
        return;
      }
      samples[i] =
          draw_columns(options.sampling, std::min(options.sample_size, node.key_count()), node.key_count(),
                       node_norms, node_stream(context, Purpose::key_sample, nodes[i]));
    });
  }
  if (seconds != nullptr) seconds->draw += watch.seconds();
  return samples;
}

Phase leaf_phase(const NodeTree& tree, int64_t heads) {
  Phase phase;
  for (int64_t head = 0; head < heads; ++head)
    for (size_t i = 0; i < tree.leaves.size(); ++i) {
      AttentionNode node;
      node.query_begin = node.key_begin = tree.leaves[i].begin;
      node.query_end = node.key_end = tree.leaves[i].end;
      node.number = static_cast<int64_t>(i);
      phase.passes.push_back(exact_node_pass(head, node));
      phase.passes.back().triangular = true;
    }
  return phase;
}

Pass exact_node_pass(int64_t head, const AttentionNode& node) {
  Pass pass;
  pass.head = head;
  pass.node = node.number;
  pass.queries = RowOrder::run(node.query_begin, node.query_count());
  KeyList& list = pass.lists.emplace_back();
  list.order = RowOrder::run(node.key_begin, node.key_count());
  list.stage = Stage::exact;
  pass.visits.push_back({0, 0, node.key_count(), 0, 0});
  pass.groups.push_back({0, node.query_count(), 0, 1});
  return pass;
}

Pass mask_pass(int64_t head, const AttentionNode& node, const NodeMask& mask) {
  Pass pass = empty_pass(head, node, mask);
  add_visits(mask, add_masked_keys(mask, Stage::block, pass), pass);
  return pass;
}

Plan unmasked_plan(const AttentionProblem& problem, const CallContext& context,
                   const SparseOptions& options) {
  const NodeTree tree = nodes_of(problem, options.min_seq_len);
  const std::vector<HeadNode> nodes = approximated_nodes(tree, problem.heads());
  const std::vector<NodeMask> masks = build_masks(problem, context, options, nodes, nullptr);
  Plan plan;
  for (const std::vector<AttentionNode>& level : tree.levels) {
    Phase phase{{}, level.front().level};
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].node.level != phase.level) continue;
      Pass pass = empty_pass(nodes[i].head, nodes[i].node, masks[i]);
      add_visits(masks[i], add_unmasked_keys(masks[i], Stage::exact, pass), pass);
      phase.passes.push_back(std::move(pass));
    }
    keep_filled(std::move(phase), plan);
  }
  return plan;
}

RankedSample rank_sample(const ColumnSample& sample, const NodeMask& mask, const AttentionNode& node) {
  const auto rank = [&](size_t i) { return mask.rank_of(sample.rows[i]); };
  std::vector<size_t> order(sample.rows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank(a) < rank(b); });
  RankedSample ranked;
  std::vector<int32_t> rows;
  std::vector<float> weights;
  for (const size_t i : order) {
    ranked.ranks.push_back(static_cast<int32_t>(rank(i)));
    rows.push_back(static_cast<int32_t>(node.key_begin) + sample.rows[i]);
    if (!sample.log_weights.empty()) weights.push_back(sample.log_weights[i]);
  }
  ranked.list.order = RowOrder::list(std::move(rows));
  ranked.list.uniform_log_weight = sample.uniform_log_weight;
  if (!weights.empty())
    ranked.list.log_weight = std::make_shared<const std::vector<float>>(std::move(weights));
  ranked.list.stage = Stage::sample;
  return ranked;
}

Pass sample_pass(int64_t head, const AttentionNode& node, const NodeMask& mask, const ColumnSample& sample,
                 bool count_collisions) {
  Pass pass = empty_pass(head, node, mask);
  const RankedSample ranked = rank_sample(sample, mask, node);
  pass.lists.push_back(ranked.list);
  std::vector<int32_t> before;  // what the open group leaves out
  std::vector<int32_t> places;
  MaskGroup open{0, 0, 0, 0};
  const auto close = [&]() {
    const auto first_visit = static_cast<int64_t>(pass.visits.size());
    if (open.end > open.begin) visit_sample(0, ranked, mask, open, count_collisions, pass);
    add_group(open.begin, open.end, first_visit, pass);
  };
  for (const MaskGroup& group : mask.groups) {
    places.clear();
    if (!count_collisions) append_masked_samples(mask, group, ranked.ranks, places);
    if (open.end > open.begin && places == before) {
      open.end = group.end;
      continue;
    }
    close();
    open = group;
    before.swap(places);
  }
  close();
  return pass;
}

Plan sparse_plan(const AttentionProblem& problem, const CallContext& context, const SparseOptions& options,
                 PlanningSeconds* seconds) {
  const NodeTree tree = nodes_of(problem, options.min_seq_len);
  const std::vector<HeadNode> nodes = approximated_nodes(tree, problem.heads());
  MaskPlanner planner(problem, context, options, nodes, seconds);
  const std::vector<ColumnSample> samples = draw_samples(problem, context, options, nodes, seconds);
  const Stopwatch watch;
  std::vector<NodePasses> passes(nodes.size());
  std::vector<PlanningSeconds> spent(nodes.size());
  for_each_node(nodes, [&](size_t i) {
    Stopwatch part;
    const NodeMask mask = planner.take(i);
    spent[i].sort = part.seconds();
    part.restart();
    passes[i] = compresses(options) ? compressed_passes(problem, context, options, nodes[i], mask)
                                    : sampled_passes(nodes[i], mask, samples[i], options.count_collisions);
    spent[i].draw = part.seconds();
  });
  Plan plan;
  keep_filled(leaf_phase(tree, problem.heads()), plan);
  for (const std::vector<AttentionNode>& level_nodes : tree.levels) {
    const int level = level_nodes.front().level;
    Phase phase{{}, level};
    Phase sample_phase{{}, level};
    for (int64_t head = 0; head < problem.heads(); ++head)
      for (const AttentionNode& node : level_nodes)
        if (node.exact) phase.passes.push_back(exact_node_pass(head, node));
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (nodes[i].node.level != level) continue;
      phase.passes.push_back(std::move(passes[i].first));
      sample_phase.passes.push_back(std::move(passes[i].second));
    }
    keep_filled(std::move(phase), plan);
    keep_filled(std::move(sample_phase), plan);
  }
  if (seconds != nullptr) share_out(watch.seconds(), spent, *seconds);
  return plan;
}

int64_t count_excluded(const Plan& plan) {
  int64_t count = 0;
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      for (const QueryGroup& group : pass.groups)
        for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
          const Visit& visit = pass.visits[static_cast<size_t>(v)];
          count += (group.end - group.begin) * (visit.excluded_end - visit.excluded_begin);
        }
  return count;
}

double estimate_sparse_entries(const TensorShape& query, const TensorShape& key, bool causal,
                               const SparseOptions& options) {
  double entries = 0;
  if (!causal) {
    entries = node_entries(whole_problem(query.rows, key.rows), options, key.dim);
  } else {
    const CausalTree tree = causal_tree(query.rows, options.min_seq_len);
    for (const CausalLeaf& leaf : tree.leaves) {
      const auto rows = static_cast<double>(leaf.end - leaf.begin);
      entries += rows * (rows + 1) / 2;
    }
    for (const auto& level : tree.levels)
      for (const AttentionNode& node : level) entries += node_entries(node, options, key.dim);
  }
  return entries * static_cast<double>(query.matrices());
}

double estimate_sparse_bytes(const TensorShape& query, const TensorShape& key, const TensorShape& value,
                             const SparseOptions& options) {
  const auto heads = static_cast<double>(query.matrices());
  const auto queries = static_cast<double>(query.rows);
  const auto keys = static_cast<double>(key.rows);
  const double packed = keys * static_cast<double>(key.dim + value.dim) * sizeof(float);
  // Bucket codes, orders and ranks of planning; maximum and double sum of a row in the engine.
  const double orders = options.mask == MaskKind::sort_lsh ? (2 * queries + 3 * keys) * sizeof(int32_t) : 0;
  const double states = queries * (sizeof(float) + sizeof(double));
  return heads * (packed + orders + states);
}

}  // namespace hyperattn
