#include "algorithms/plan_builder.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "algorithms/primitives/sort_lsh.h"
#include "core/parallel.h"

namespace hyperattn {

PassBuilder::PassBuilder(const AttentionProblem& problem, int64_t head, int64_t node, RowOrder queries) {
  pass_.head = head;
  pass_.key_head = problem.key_head(head);
  pass_.node = node;
  pass_.queries = std::move(queries);
}

int32_t PassBuilder::add_keys(RowOrder rows, Stage stage) {
  KeyList list;
  list.order = std::move(rows);
  list.stage = stage;
  return add_list(std::move(list));
}

int32_t PassBuilder::add_list(KeyList list) {
  pass_.lists.push_back(std::move(list));
  return static_cast<int32_t>(pass_.lists.size()) - 1;
}

PassBuilder& PassBuilder::triangular(int64_t diagonal, int64_t window) {
  pass_.triangular = true;
  pass_.diagonal = diagonal;
  pass_.window = window;
  return *this;
}

PassBuilder& PassBuilder::with_moments(std::shared_ptr<const KeyMoments> moments) {
  pass_.moments = std::move(moments);
  return *this;
}

PassBuilder& PassBuilder::with_linear_values(std::shared_ptr<const LinearValues> values) {
  pass_.linear_values = std::move(values);
  return *this;
}

PassBuilder& PassBuilder::group(int64_t begin, int64_t end) {
  close_group();
  open_ = true;
  QueryGroup group;
  group.begin = begin;
  group.end = end;
  group.first_visit = static_cast<int64_t>(pass_.visits.size());
  group.first_row_visit = static_cast<int64_t>(pass_.row_visits.size());
  pass_.groups.push_back(group);
  return *this;
}

PassBuilder& PassBuilder::visit(int32_t list, int64_t begin, int64_t end) {
  assert(open_);
  if (begin < end) pass_.visits.push_back({list, begin, end, 0, 0});
  return *this;
}

PassBuilder& PassBuilder::visit_all(int32_t list) {
  return visit(list, 0, pass_.lists[static_cast<size_t>(list)].order.count);
}

PassBuilder& PassBuilder::visit_except(int32_t list, int64_t begin, int64_t end,
                                       const std::vector<int32_t>& excluded) {
  assert(open_);
  Visit visit;
  visit.list = list;
  visit.begin = begin;
  visit.end = end;
  visit.excluded_begin = static_cast<int64_t>(pass_.excluded.size());
  pass_.excluded.insert(pass_.excluded.end(), excluded.begin(), excluded.end());
  visit.excluded_end = static_cast<int64_t>(pass_.excluded.size());
  pass_.visits.push_back(visit);
  return *this;
}

PassBuilder& PassBuilder::visit_all_except(int32_t list, const std::vector<int32_t>& excluded) {
  return visit_except(list, 0, pass_.lists[static_cast<size_t>(list)].order.count, excluded);
}

PassBuilder& PassBuilder::visit_segment(int32_t list, int32_t segment, const std::vector<RowEntry>& entries) {
  assert(open_);
  if (entries.empty()) return *this;
  RowVisit visit;
  visit.list = list;
  visit.segment = segment;
  visit.first_entry = static_cast<int64_t>(pass_.row_entries.size());
  pass_.row_entries.insert(pass_.row_entries.end(), entries.begin(), entries.end());
  visit.last_entry = static_cast<int64_t>(pass_.row_entries.size());
  pass_.row_visits.push_back(visit);
  return *this;
}

PassBuilder& PassBuilder::visit_rows(const RowVisits& visits) {
  assert(open_);
  const auto offset = static_cast<int64_t>(pass_.row_entries.size());
  for (RowVisit visit : visits.visits) {
    visit.first_entry += offset;
    visit.last_entry += offset;
    pass_.row_visits.push_back(visit);
  }
  pass_.row_entries.insert(pass_.row_entries.end(), visits.entries.begin(), visits.entries.end());
  return *this;
}

PassBuilder& PassBuilder::reserve_row_entries(int64_t count) {
  pass_.row_entries.reserve(pass_.row_entries.size() + static_cast<size_t>(count));
  return *this;
}

PassBuilder& PassBuilder::reserve_groups(size_t count, size_t visits_each) {
  pass_.groups.reserve(pass_.groups.size() + count);
  pass_.visits.reserve(pass_.visits.size() + count * visits_each);
  return *this;
}

PassBuilder& PassBuilder::visit_moments(int64_t keys) {
  assert(open_);
  pass_.groups.back().moment_keys = keys;
  return *this;
}

PassBuilder& PassBuilder::sampled_blocks(SampledBlocks blocks) {
  assert(pass_.lists.size() == (blocks.sample_ranks ? 2 : 1) && pass_.groups.empty());
  pass_.blocks = std::move(blocks);
  return *this;
}

PassBuilder& PassBuilder::everything_sees_all(int32_t list) {
  return group(0, pass_.queries.count).visit_all(list);
}

void PassBuilder::close_group() {
  if (!open_) return;
  open_ = false;
  QueryGroup& group = pass_.groups.back();
  group.last_visit = static_cast<int64_t>(pass_.visits.size());
  group.last_row_visit = static_cast<int64_t>(pass_.row_visits.size());
  const bool empty =
      group.begin >= group.end || (group.first_visit == group.last_visit &&
                                   group.first_row_visit == group.last_row_visit && group.moment_keys == 0);
  if (empty) pass_.groups.pop_back();
}

Pass PassBuilder::take() {
  close_group();
  return std::move(pass_);
}

void mark_last(Pass& pass) {
  for (QueryGroup& group : pass.groups) group.is_last = true;
  if (pass.blocks) pass.blocks->are_last = true;
}

void PlanBuilder::drop_empty_phase() {
  if (!plan_.phases.empty() && plan_.phases.back().passes.empty()) plan_.phases.pop_back();
}

PlanBuilder& PlanBuilder::phase(int level) {
  drop_empty_phase();
  plan_.phases.emplace_back().level = level;
  return *this;
}

PlanBuilder& PlanBuilder::add(Pass pass) {
  if (plan_.phases.empty()) phase();
  if (!pass.groups.empty() || pass.blocks) plan_.phases.back().passes.push_back(std::move(pass));
  return *this;
}

PlanBuilder& PlanBuilder::reserve_passes(size_t count) {
  if (plan_.phases.empty()) phase();
  std::vector<Pass>& passes = plan_.phases.back().passes;
  passes.reserve(passes.size() + count);
  return *this;
}

PlanBuilder& PlanBuilder::clip_to_values(bool clip) {
  plan_.clip_to_values = clip;
  return *this;
}

const Plan& PlanBuilder::so_far() {
  drop_empty_phase();
  return plan_;
}

Plan PlanBuilder::take() {
  drop_empty_phase();
  return std::move(plan_);
}

Pass exact_node_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node) {
  PassBuilder pass(problem, head, node.number, RowOrder::run(node.query_begin, node.query_count()));
  return pass
      .everything_sees_all(pass.add_keys(RowOrder::run(node.key_begin, node.key_count()), Stage::exact))
      .take();
}

Pass leaves_pass(const AttentionProblem& problem, int64_t head, const std::vector<CausalLeaf>& leaves) {
  const int64_t offset = problem.causal_offset();
  PassBuilder pass(problem, head, 0, RowOrder::run(0, problem.query_count()));
  pass.triangular(offset);
  pass.reserve_groups(leaves.size(), 1);
  const int32_t keys = pass.add_keys(RowOrder::run(0, problem.key_count()), Stage::exact);
  for (const CausalLeaf& leaf : leaves)
    pass.group(std::max<int64_t>(leaf.begin - offset, 0), std::max<int64_t>(leaf.end - offset, 0))
        .visit(keys, leaf.begin, leaf.end);
  return pass.take();
}

namespace {

// What a block leaves out is a run of places in the sample, whose ranks increase.
Pass with_listed_blocks(Pass pass) {
  const SampledBlocks blocks = *std::exchange(pass.blocks, std::nullopt);
  const bool is_sampled = blocks.sample_ranks != nullptr;
  const std::vector<int32_t> ranks = is_sampled ? blocks.sample_ranks->on_host() : std::vector<int32_t>();
  const auto place_of = [&](int64_t rank) {
    return std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin();
  };
  const auto all = aligned_blocks(pass.queries.count, pass.lists[0].order.count, blocks.block_size);
  if (is_sampled) pass.lists[1].order = RowOrder::list(*pass.lists[1].order.listed());
  PassBuilder builder(std::move(pass));
  builder.reserve_groups(all.size(), 2);
  std::vector<int32_t> left_out;
  for (const RankBlock& block : all) {
    left_out.clear();
    if (!blocks.counts_twice)
      for (int64_t place = place_of(block.key_begin); place < place_of(block.key_end); ++place)
        left_out.push_back(static_cast<int32_t>(place));
    builder.group(block.query_begin, block.query_end).visit(0, block.key_begin, block.key_end);
    if (is_sampled) builder.visit_all_except(1, left_out);
  }
  Pass listed = builder.take();
  if (blocks.are_last) mark_last(listed);
  return listed;
}

}  // namespace

Plan with_groups(const Plan& plan) {
  Plan listed = plan;
  std::vector<Pass*> passes;
  for (Phase& phase : listed.phases)
    for (Pass& pass : phase.passes)
      if (pass.blocks) passes.push_back(&pass);
  parallel_for(static_cast<int64_t>(passes.size()), [&](int64_t p, int) {
    Pass& pass = *passes[static_cast<size_t>(p)];
    pass = with_listed_blocks(std::move(pass));
  });
  return listed;
}

Plan exact_plan(const AttentionProblem& problem) {
  PlanBuilder plan;
  plan.phase();
  for (int64_t head = 0; head < problem.heads(); ++head) {
    PassBuilder pass(problem, head, 0, RowOrder::run(0, problem.query_count()));
    if (problem.causal) pass.triangular(problem.causal_offset(), problem.window);
    plan.add(
        pass.everything_sees_all(pass.add_keys(RowOrder::run(0, problem.key_count()), Stage::exact)).take());
  }
  return plan.take();
}

}  // namespace hyperattn
