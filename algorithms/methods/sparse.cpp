#include "algorithms/methods/sparse.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <utility>

#include "algorithms/masks/band.h"
#include "algorithms/masks/mask_union.h"
#include "algorithms/masks/query_blocks.h"
#include "algorithms/methods/prescore.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/registry.h"
#include "algorithms/row_choices.h"
#include "core/error.h"
#include "core/text.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

/// A choice among declared things, with their meanings.
template <class Thing>
ParameterSpec choice_of(const std::string& name, const std::string& meaning,
                        const std::vector<const Thing*>& things) {
  std::vector<std::string> names;
  std::vector<std::string> meanings;
  for (const Thing* thing : things) {
    names.push_back(thing->name());
    meanings.push_back(thing->meaning());
  }
  ParameterSpec spec = choice_parameter(name, std::move(names), meaning);
  spec.choice_meanings = std::move(meanings);
  return spec;
}

/// Whether a condition of the parameter speaks of `name` already.
bool depends_on(const ParameterSpec& spec, const std::string& name) {
  return std::any_of(spec.conditions.begin(), spec.conditions.end(), [&](const EffectCondition& condition) {
    return std::any_of(
        condition.alternatives.begin(), condition.alternatives.end(),
        [&](const EffectCondition::Alternative& alternative) { return alternative.parameter == name; });
  });
}

/// The parameters of several things, each once, which have effect only where the parameter `choice` names one
/// of the things that declare them.
template <class Thing>
std::vector<ParameterSpec> parameters_of(const std::string& choice, const std::vector<const Thing*>& things) {
  std::vector<ParameterSpec> specs;
  std::map<std::string, std::vector<ParameterValue>> owners;
  for (const Thing* thing : things)
    for (const ParameterSpec& spec : thing->parameters()) {
      std::vector<ParameterValue>& names = owners[spec.name];
      if (names.empty()) specs.push_back(spec);
      names.emplace_back(thing->name());
    }
  for (ParameterSpec& spec : specs)
    if (!depends_on(spec, choice)) spec = spec.only_with(choice, owners[spec.name]);
  return specs;
}

std::unique_ptr<ResidualPlanner> plan_residual(const BoundProblem& bound, const Call& call,
                                               const SparseChoice& choice, const std::vector<HeadNode>& nodes,
                                               PlanningSeconds& seconds) {
  const Stopwatch watch;
  const ResidualRequest request{bound,
                                call,
                                nodes,
                                choice.sample_size,
                                choice.mask->planning_keys(call.parameters),
                                choice.mask->rows_are_independent(call.parameters)};
  auto planner = choice.residual->plan(request);
  seconds.draw += watch.seconds();
  return planner;
}

/// The masks of nodes whose residual is planned, so that it can say which ranks of keys it will read.
MaskRequest request_of_masks(const BoundProblem& bound, const Call& call, const std::vector<HeadNode>& nodes,
                             const SparseChoice& choice, const ResidualPlanner& residual,
                             PlanningSeconds& seconds) {
  MaskRequest request{bound,    call,   nodes, choice.residual->needs_ranks() || choice.window > 0,
                      &seconds, nullptr};
  if (nodes.empty() || choice.window > 0) return request;
  request.takes_unlisted_blocks = residual.takes_unlisted_blocks();
  if (residual.asked_keys(0) == nullptr) return request;
  request.want_ranks = false;
  request.asked_keys = [&residual](size_t i) { return residual.asked_keys(i); };
  return request;
}

/// Keys of a row's mask in a node, with its window.
double masked_keys(const AttentionNode& node, const SparseChoice& choice, const Parameters& parameters) {
  const auto keys = static_cast<double>(node.key_count());
  const double masked = choice.mask->keys(node, parameters);
  if (choice.window == 0) return masked;
  return std::min(masked + band_keys(keys, node.level, static_cast<double>(choice.window)), keys);
}

/// The keys that no mask of a union holds. A row's choice among n keys takes n/2 bytes: for measures only.
Pass unmasked_by_rows(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  std::vector<int32_t> keys;
  for (int64_t key = place.node.key_begin; key < place.node.key_end; ++key)
    keys.push_back(static_cast<int32_t>(key));
  SegmentedRows rows;
  const SegmentedRows::Stretch stretch = rows.add(keys);
  const int32_t list = pass.add_list(rows.take(Stage::exact));
  const UnionRows held(mask, place.node);
  for (const MaskGroup& group : mask.groups) {
    RowChoices choices(group.end - group.begin, place.node.key_count());
    parallel_for(group.end - group.begin, [&](int64_t row, int) {
      for (const int32_t key : keys)
        if (!held.holds(mask.queries[group.begin + row], key))
          choices.choose(row, key - place.node.key_begin);
    });
    pass.group(group.begin, group.end);
    choices.visit(pass, list, stretch, group.begin, place.node.key_count());
  }
  return pass.take();
}

/// "sample, thinned or none": those with which rows of one mask group may hold different keys.
std::string residuals_of_differing_rows() {
  std::vector<std::string> names;
  for (const Residual* residual : all_residuals())
    if (residual->rows_may_differ() && residual->stands_for_keys()) names.push_back(residual->name());
  return join(names) + " or " + residual_none().name();
}

/// The node's mask, with its window.
NodeMask take_mask(MaskPlanner& planner, const AttentionProblem& problem, const std::vector<HeadNode>& nodes,
                   size_t i, int64_t window) {
  NodeMask mask = planner.take(i);
  if (window > 0) mask.further.push_back(band_mask(problem, nodes[i].node, window));
  return mask;
}

/// What does not go with prescore, or nothing.
std::string check_prescored(const AttentionProblem& shapes, const SparseChoice& choice,
                            const Parameters& parameters) {
  if (choice.mask->names_keys())
    return "prescore needs mask: sort_lsh or none, because other masks name keys that it may drop, but mask "
           "is " +
           choice.mask->name();
  if (choice.window > 0)
    return "prescore may drop the keys of a window; set window: 0 or prescore: none, but window is " +
           std::to_string(choice.window);
  if (shapes.causal && rows_keep_to_their_buckets(parameters) && choice.residual->needs_whole_blocks())
    return "prescore leaves no earlier queries at its keys for residual: " + choice.residual->name() +
           " with query_blocks: by_bucket in a causal problem; choose residual: " +
           residuals_of_differing_rows() + ", or query_blocks: by_rank";
  return {};
}

/// The keys that a call keeps, if it does not keep all.
std::optional<KeptKeys> kept_keys(const BoundProblem& bound, const Call& call,
                                  const std::vector<HeadNode>& nodes) {
  if (!is_prescored(call.parameters) || nodes.empty()) return {};
  if (call.replay != nullptr)
    fail_usage("a replay holds choices among all keys and goes with prescore: none, but prescore is " +
               call.parameters.text("prescore"));
  return std::optional<KeptKeys>(std::in_place, bound, call, nodes);
}

}  // namespace

ParameterSpec sink_parameter() {
  return integer_parameter("sink_keys", "the first keys, exact for every row and left out of everything else")
      .between(0, kMaxRows)
      .by_default(int64_t{0});
}

std::string check_sinks(const AttentionProblem& shapes, const Parameters& parameters) {
  const int64_t sinks = parameters.integer("sink_keys");
  if (sinks <= shapes.key_count()) return {};
  return "sink_keys must be at most the number of keys, " + std::to_string(shapes.key_count()) + ", but is " +
         std::to_string(sinks);
}

std::vector<ParameterSpec> mask_parameters(const std::vector<const Mask*>& masks) {
  std::vector<ParameterSpec> specs = {choice_of("mask", "which entries are computed exactly", masks)};
  for (ParameterSpec& spec : parameters_of("mask", masks)) specs.push_back(std::move(spec));
  specs.push_back(min_seq_len_parameter());
  specs.push_back(sink_parameter());
  specs.push_back(window_parameter());
  return specs;
}

ParameterSpec min_seq_len_parameter() {
  return integer_parameter("min_seq_len",
                           "segments of at most this many rows are exact leaves of the recursion")
      .between(1, kMaxRows)
      .by_default(2048)
      .only_with("causal", {true});
}

NodeTree node_tree(const AttentionProblem& problem, const Parameters& parameters) {
  return nodes_of(problem, parameters.integer("min_seq_len"), parameters.integer("sink_keys"));
}

std::vector<ParameterSpec> residual_parameters(const std::vector<const Residual*>& residuals) {
  std::vector<ParameterSpec> specs = {
      integer_parameter(
          "sample_size",
          "sampled keys, centroids and columns (m), shared by all rows of a head or causal node; 0: none "
          "(moments: only whether it is 0)")
          .between(0, kMaxRows)
          .by_default(256)
          .not_with("residual", {"none"})
          .or_with("estimator", {"theory"}),
      choice_of("residual", "what stands for the keys outside the mask", residuals)
          .only_with("estimator", {"residual"})};
  for (ParameterSpec& spec : parameters_of("residual", residuals))
    specs.push_back(spec.not_with("sample_size", {0}));
  return specs;
}

SparseChoice::SparseChoice(const Parameters& parameters)
    : mask(find_mask(parameters.text("mask"))),
      residual(&residual_none()),
      window(parameters.integer("window")),
      kept_keys(is_prescored(parameters) ? parameters.integer("prescore_keys") : 0) {
  if (!parameters.has("residual")) return;
  sample_size = parameters.integer("sample_size");
  if (sample_size > 0) residual = find_residual(parameters.text("residual"));
  if (!residual->stands_for_keys()) sample_size = 0;
}

std::string check_sparse(const AttentionProblem& shapes, const Parameters& parameters) {
  const SparseChoice choice(parameters);
  const int64_t key_count = shapes.key_count();
  if (shapes.window > 0) return "cannot honour a window of keys; only exact attention can";
  if (std::string wrong = choice.mask->check(parameters); !wrong.empty()) return wrong;
  if (std::string wrong = choice.residual->check(parameters); !wrong.empty()) return wrong;
  if (std::string wrong = check_sinks(shapes, parameters); !wrong.empty()) return wrong;
  if (choice.kept_keys > 0)
    if (std::string wrong = check_prescored(shapes, choice, parameters); !wrong.empty()) return wrong;
  if (choice.is_union(parameters) && !choice.residual->rows_may_differ())
    return std::string(choice.window > 0 ? "window" : "hash_rounds") +
           " goes with residual: " + residuals_of_differing_rows() +
           ", because a row's own keys cannot be taken out of a mean; but residual is " +
           choice.residual->name();
  if (choice.sample_size > key_count && choice.residual->counts_keys())
    return "sample_size must be at most the number of keys, " + std::to_string(key_count) + ", but is " +
           std::to_string(choice.sample_size);
  if (!choice.residual->stands_for_keys() && choice.mask == &mask_none())
    return parameters.integer("sample_size") == 0
               ? "sample_size must be at least 1 with mask: none, because else nothing is computed, but is 0"
               : "residual: none with mask: none computes nothing; choose another residual or mask";
  if (choice.residual->needs_whole_blocks() && !choice.mask->whole_blocks(parameters))
    return "residual: " + choice.residual->name() +
           " needs mask: sort_lsh with blocks: aligned, or mask: none, because its runs of keys must lie in "
           "or out of a row's mask; but mask is " +
           choice.mask->name() + " and blocks is " + parameters.text("blocks");
  return {};
}

Plan NodeMasks::masked(const AttentionProblem& problem) const {
  std::vector<std::vector<Pass>> passes(nodes().size());
  for (size_t i = 0; i < passes.size(); ++i) {
    NodeMask room;
    const NodeMask& mask = with_listed_groups(masks_[i], room);
    passes[i] = further_passes(problem, nodes()[i], mask, false);
    passes[i].insert(passes[i].begin(), mask_pass(problem, nodes()[i], mask));
  }
  return assemble_plan(problem, tree(), nodes(), std::move(passes));
}

Plan NodeMasks::unmasked(const AttentionProblem& problem) const {
  std::map<int, std::vector<Pass>> levels;
  for (size_t i = 0; i < nodes().size(); ++i) {
    NodeMask room;
    const NodeMask& mask = with_listed_groups(masks_[i], room);
    if (!mask.further.empty()) {
      levels[nodes()[i].node.level].push_back(unmasked_by_rows(problem, nodes()[i], mask));
      continue;
    }
    PassBuilder pass(problem, nodes()[i].head, nodes()[i].node.number, mask.queries);
    const GroupVisits rest = GroupVisits::unmasked(mask, Stage::exact, pass);
    for (size_t g = 0; g < mask.groups.size(); ++g) {
      pass.group(mask.groups[g].begin, mask.groups[g].end);
      rest.visit(g, pass);
    }
    levels[nodes()[i].node.level].push_back(pass.take());
  }
  PlanBuilder plan;
  for (auto& [level, passes] : levels) {
    plan.phase(level);
    for (Pass& pass : passes) plan.add(std::move(pass));
  }
  return plan.take();
}

std::shared_ptr<const NodeMasks> plan_node_masks(const BoundProblem& bound, const Call& call,
                                                 PlanningSeconds* seconds) {
  const SparseChoice choice(call.parameters);
  NodeTree tree = node_tree(bound.shapes(), call.parameters);
  std::vector<HeadNode> nodes = approximated_nodes(tree, bound.shapes().heads());
  const std::optional<KeptKeys> kept = kept_keys(bound, call, nodes);
  const BoundProblem& own = kept ? kept->bound() : bound;
  const std::vector<HeadNode>& own_nodes = kept ? kept->nodes() : nodes;
  const auto planner = choice.mask->plan(
      {own, call, own_nodes, choice.residual->needs_ranks() || choice.window > 0, seconds, nullptr});
  planner->prepare(all_nodes(nodes));
  const Stopwatch watch;
  std::vector<NodeMask> masks(nodes.size());
  for_each_node(nodes, [&](size_t i) {
    masks[i] = take_mask(*planner, own.shapes(), own_nodes, i, choice.window);
    if (kept) masks[i] = kept->renamed(i, std::move(masks[i]));
  });
  if (seconds != nullptr) seconds->sort += watch.seconds();
  return std::make_shared<const NodeMasks>(std::move(tree), std::move(nodes), std::move(masks));
}

PlannedCall plan_sparse(const BoundProblem& bound, const Call& call) {
  const SparseChoice choice(call.parameters);
  NodeTree tree = node_tree(bound.shapes(), call.parameters);
  std::vector<HeadNode> nodes = approximated_nodes(tree, bound.shapes().heads());
  PlanAssembly assembly(bound.shapes(), tree, nodes);
  // Leaves alone would be begun in vain where rows then have terms of their own, or signed weights.
  if (!tree.levels.empty() && choice.residual->no_gradient().empty())
    bound.phases_are_made(assembly.so_far());
  PlanningSeconds seconds;
  Stopwatch watch;
  const std::optional<KeptKeys> kept = kept_keys(bound, call, nodes);
  if (kept) seconds.draw += watch.seconds();
  const BoundProblem& own = kept ? kept->bound() : bound;
  const std::vector<HeadNode>& own_nodes = kept ? kept->nodes() : nodes;
  const auto residual_planner = plan_residual(own, call, choice, own_nodes, seconds);
  const auto mask_planner =
      choice.mask->plan(request_of_masks(own, call, own_nodes, choice, *residual_planner, seconds));
  std::vector<NodeMask> masks(nodes.size());
  std::vector<std::vector<Pass>> passes(nodes.size());
  std::vector<PlanningSeconds> spent(nodes.size());
  double wall = 0;
  for (const std::vector<AttentionNode>& level : tree.levels) {
    const std::vector<size_t> level_nodes = assembly.nodes_of(level);
    watch.restart();
    residual_planner->prepare(level_nodes);
    seconds.draw += watch.seconds();
    mask_planner->prepare(level_nodes);
    watch.restart();
    const auto plan_node = [&](size_t i) {
      Stopwatch part;
      masks[i] = take_mask(*mask_planner, own.shapes(), own_nodes, i, choice.window);
      spent[i].sort = part.seconds();
      part.restart();
      passes[i] = residual_planner->passes(i, masks[i]);
      if (kept) {
        for (Pass& pass : passes[i]) pass = kept->renamed(i, std::move(pass));
        masks[i] = kept->renamed(i, std::move(masks[i]));
      }
      spent[i].draw = part.seconds();
    };
    for_each_node(nodes, level_nodes, plan_node,
                  pieces_worth_a_team(std::ssize(level_nodes), mask_planner->microseconds(level_nodes)));
    assembly.add_level(level, level_nodes, passes);
    wall += watch.seconds();
    bound.phases_are_made(assembly.so_far());
  }
  Plan plan = assembly.take();
  plan.clip_to_values = choice.residual->clips_to_values();
  PlannedCall planned;
  planned.plan = std::make_shared<const Plan>(std::move(plan));
  share_out(wall, spent, seconds);
  planned.masks = std::make_shared<const NodeMasks>(std::move(tree), std::move(nodes), std::move(masks));
  book_planning(seconds, planned.notes);
  planned.notes.collisions = count_excluded(*planned.plan);
  residual_planner->report(planned.notes);
  return planned;
}

PlanAssembly::PlanAssembly(const AttentionProblem& problem, const NodeTree& tree,
                           const std::vector<HeadNode>& nodes)
    : problem_(problem), nodes_(nodes) {
  add_leaves(tree.leaves);
  for (const std::vector<AttentionNode>& level : tree.sinks) {
    plan_.phase(0);
    add_exact(level, false);
  }
}

std::vector<size_t> PlanAssembly::nodes_of(const std::vector<AttentionNode>& level) const {
  std::vector<size_t> own;
  for (size_t i = 0; i < nodes_.size(); ++i)
    if (nodes_[i].node.level == level.front().level) own.push_back(i);
  return own;
}

void PlanAssembly::add_level(const std::vector<AttentionNode>& level, const std::vector<size_t>& own,
                             std::vector<std::vector<Pass>>& passes) {
  size_t deepest = 0;
  for (const size_t i : own) {
    deepest = std::max(deepest, passes[i].size());
    if (rows_end_in(nodes_[i].node) && !passes[i].empty()) mark_last(passes[i].back());
  }
  plan_.phase(level.front().level);
  add_exact(level, true);
  for (size_t step = 0; step < deepest; ++step) {
    if (step > 0) plan_.phase(level.front().level);
    plan_.reserve_passes(own.size());
    for (const size_t i : own)
      if (step < passes[i].size()) plan_.add(std::move(passes[i][step]));
  }
}

void PlanAssembly::add_exact(const std::vector<AttentionNode>& nodes, bool are_of_levels) {
  for (int64_t head = 0; head < problem_.heads(); ++head)
    for (const AttentionNode& node : nodes)
      if (node.exact) {
        Pass pass = exact_node_pass(problem_, head, node);
        if (are_of_levels && rows_end_in(node)) mark_last(pass);
        plan_.add(std::move(pass));
      }
}

void PlanAssembly::add_leaves(const std::vector<CausalLeaf>& leaves) {
  if (leaves.empty()) return;
  plan_.phase(0);
  for (int64_t head = 0; head < problem_.heads(); ++head) {
    Pass pass = leaves_pass(problem_, head, leaves);
    pass.groups.front().is_last = leaves.front().begin == 0;  // no node has its rows
    plan_.add(std::move(pass));
  }
}

Plan assemble_plan(const AttentionProblem& problem, const NodeTree& tree, const std::vector<HeadNode>& nodes,
                   std::vector<std::vector<Pass>> passes) {
  PlanAssembly assembly(problem, tree, nodes);
  for (const std::vector<AttentionNode>& level : tree.levels)
    assembly.add_level(level, assembly.nodes_of(level), passes);
  return assembly.take();
}

double estimate_node_entries(const AttentionProblem& shapes, const NodeTree& tree,
                             const std::function<double(const AttentionNode&)>& keys) {
  double entries = 0;
  for (const CausalLeaf& leaf : tree.leaves) {
    const auto rows = static_cast<double>(leaf.end - leaf.begin);
    entries += rows * (rows + 1) / 2;
  }
  for (const auto* levels : {&tree.sinks, &tree.levels})
    for (const auto& level : *levels)
      for (const AttentionNode& node : level)
        entries += static_cast<double>(node.query_count()) *
                   (node.exact ? static_cast<double>(node.key_count()) : keys(node));
  return entries * static_cast<double>(shapes.heads());
}

double estimate_sparse_entries(const AttentionProblem& shapes, const Parameters& parameters) {
  const SparseChoice choice(parameters);
  return estimate_node_entries(shapes, node_tree(shapes, parameters), [&](AttentionNode node) {
    if (choice.kept_keys > 0) node.key_end = std::min(node.key_end, node.key_begin + choice.kept_keys);
    const double masked = masked_keys(node, choice, parameters);
    return masked + choice.residual->entries(node, masked, choice.sample_size, shapes.head_dim());
  });
}

double estimate_sparse_bytes(const AttentionProblem& shapes, const Parameters& parameters) {
  const SparseChoice choice(parameters);
  double kept = 0;
  if (choice.kept_keys > 0)
    for (const auto& level : node_tree(shapes, parameters).levels)
      for (const AttentionNode& node : level)
        kept += node.exact ? 0 : static_cast<double>(std::min(choice.kept_keys, node.key_count()));
  const auto width = static_cast<double>(shapes.head_dim() + shapes.value_dim());
  return static_cast<double>(shapes.heads()) *
         (kept * width * sizeof(float) + choice.mask->bytes(static_cast<double>(shapes.query_count()),
                                                            static_cast<double>(shapes.key_count())));
}

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

void book_planning(const PlanningSeconds& seconds, Diagnostics& notes) {
  const auto add = [&](Stage stage, double spent) {
    if (spent > 0) notes.stage_seconds[stage_name(stage)] += spent;
  };
  add(Stage::hash, seconds.hash);
  add(Stage::sort, seconds.sort);
  add(Stage::draw, seconds.draw);
}

}  // namespace hyperattn
