#include "algorithms/plan.h"

#include <algorithm>
#include <atomic>

#include "algorithms/plan_walk.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Σ of clamp(u, low, high) − low over u in [first, last).
int64_t clamped_sum(int64_t first, int64_t last, int64_t low, int64_t high) {
  const int64_t begin = std::max(first, low);
  const int64_t end = std::min(last, high);
  const int64_t rising = begin < end ? (begin - low + end - 1 - low) * (end - begin) / 2 : 0;
  return rising + (high - low) * std::max<int64_t>(last - std::max(first, high), 0);
}

// Entries of a triangular pass for a group and the ranks of a visit: of these a position may see those below
// u = position + diagonal + 1, without those below u − window.
int64_t triangle_entries(const Pass& pass, const QueryGroup& group, const Visit& visit) {
  const int64_t shift = pass.diagonal + 1;
  const auto below = [&](int64_t moved) {
    return clamped_sum(group.begin + moved, group.end + moved, visit.begin, visit.end);
  };
  return below(shift) - (pass.window > 0 ? below(shift - pass.window) : 0);
}

// Without a call: compilers may not assume that the processor has an instruction for it.
uint32_t count_bits(uint16_t bits) {
  uint32_t n = bits;
  n -= n >> 1 & 0x5555U;
  n = (n & 0x3333U) + (n >> 2 & 0x3333U);
  n = (n + (n >> 4)) & 0x0F0FU;
  return (n + (n >> 8)) & 0x1FU;
}

int64_t row_visit_entries(const Pass& pass, const RowVisit& visit) {
  const SegmentRange range = segment_of(pass.lists[static_cast<size_t>(visit.list)], visit.segment);
  int64_t entries = (visit.last_entry - visit.first_entry) * (range.end - range.begin);
  for (int64_t e = visit.first_entry; e < visit.last_entry; ++e)
    entries -= count_bits(pass.row_entries[static_cast<size_t>(e)].skip);
  return entries;
}

int64_t count_group(const Pass& pass, const QueryGroup& group) {
  const int64_t rows = group.end - group.begin;
  int64_t entries = 0;
  for_each_visit(pass, group, [&](const Visit& visit) {
    entries += pass.triangular
                   ? triangle_entries(pass, group, visit)
                   : rows * (visit.end - visit.begin - (visit.excluded_end - visit.excluded_begin));
  });
  for_each_row_visit(pass, group, [&](const RowVisit& visit) { entries += row_visit_entries(pass, visit); });
  if (group.moment_keys > 0) entries += rows * static_cast<int64_t>(pass.moments->mean_key.size());
  if (pass.linear_values != nullptr)
    entries += rows * static_cast<int64_t>(pass.linear_values->variance.size()) / 2;
  return entries;
}

// Of all `aligned_blocks`, with the exclusions: rows visit the sample, and as many keys as a block has, but
// for those of the last one.
int64_t block_entries(const Pass& pass) {
  const int64_t queries = pass.queries.count;
  const int64_t keys = pass.lists[0].order.count;
  const int64_t of_block = std::min(pass.blocks->block_size, keys);
  const int64_t last_begin = (keys - 1) / of_block * of_block;
  const int64_t last_rows = queries - (last_begin * queries + keys - 1) / keys;
  const int64_t missing = of_block - (keys - last_begin);  // keys of the last block
  const int64_t sampled = pass.blocks->sample_ranks ? pass.lists[1].order.count : 0;
  return queries * (of_block + sampled) - last_rows * missing;
}

/// Σ count(pass, group).
template <class Count>
int64_t sum_over_groups(const Plan& plan, const Count& count) {
  std::vector<const Pass*> passes;
  for_each_pass(plan, [&](const Pass& pass) {
    if (!pass.groups.empty()) passes.push_back(&pass);
  });
  std::atomic<int64_t> sum{0};
  parallel_for(static_cast<int64_t>(passes.size()), [&](int64_t p, int) {
    const Pass& pass = *passes[static_cast<size_t>(p)];
    int64_t own = 0;
    for (const QueryGroup& group : pass.groups) own += count(pass, group);
    sum += own;
  });
  return sum;
}

}  // namespace

KeyList::KeyList() = default;
KeyList::KeyList(const KeyList&) = default;
KeyList::KeyList(KeyList&&) noexcept = default;
KeyList& KeyList::operator=(const KeyList&) = default;
KeyList& KeyList::operator=(KeyList&&) noexcept = default;
KeyList::~KeyList() = default;

Pass::Pass() = default;
Pass::Pass(const Pass&) = default;
Pass::Pass(Pass&&) noexcept = default;
Pass& Pass::operator=(const Pass&) = default;
Pass& Pass::operator=(Pass&&) noexcept = default;
Pass::~Pass() = default;

bool has_sampled_blocks(const Plan& plan) {
  bool found = false;
  for_each_pass(plan, [&](const Pass& pass) { found = found || pass.blocks; });
  return found;
}

int64_t count_entries(const Plan& plan) {
  int64_t entries = sum_over_groups(plan, count_group);
  for_each_pass(plan, [&](const Pass& pass) {
    if (pass.blocks) entries += block_entries(pass);
  });
  return entries;
}

int64_t entries_of_scores(const AttentionProblem& problem, int64_t scores) {
  const double share =
      static_cast<double>(problem.head_dim()) / static_cast<double>(problem.head_dim() + problem.value_dim());
  return std::llround(share * static_cast<double>(scores));
}

int64_t count_excluded(const Plan& plan) {
  return sum_over_groups(plan, [](const Pass& pass, const QueryGroup& group) {
    int64_t count = 0;
    for_each_visit(pass, group, [&](const Visit& visit) {
      count += (group.end - group.begin) * (visit.excluded_end - visit.excluded_begin);
    });
    return count;
  });
}

bool has_query_terms(const Plan& plan) {
  bool found = false;
  for_each_pass(plan, [&](const Pass& pass) {
    found = found || pass.moments != nullptr || pass.linear_values != nullptr;
  });
  return found;
}

bool has_signed_weights(const Plan& plan) {
  bool found = false;
  for_each_pass(plan, [&](const Pass& pass) {
    for (const KeyList& list : pass.lists) found = found || list.signed_weights != nullptr;
  });
  return found;
}

bool is_exact_plan(const AttentionProblem& problem, const Plan& plan) {
  if (plan.phases.size() != 1 || plan.clip_to_values ||
      static_cast<int64_t>(plan.phases[0].passes.size()) != problem.heads())
    return false;
  for (size_t head = 0; head < plan.phases[0].passes.size(); ++head) {
    const Pass& pass = plan.phases[0].passes[head];
    const bool all_rows = pass.head == static_cast<int64_t>(head) && pass.queries.is_run() &&
                          pass.queries.first == 0 && pass.queries.count == problem.query_count() &&
                          pass.groups.size() == 1 && pass.groups[0].begin == 0 &&
                          pass.groups[0].end == problem.query_count();
    if (!all_rows || pass.lists.size() != 1 || pass.visits.size() != 1 || !pass.row_visits.empty())
      return false;
    const KeyList& list = pass.lists[0];
    const Visit& visit = pass.visits[0];
    const bool all_keys = list.order.is_run() && list.order.first == 0 && !list.log_weight &&
                          !list.synthetic && !list.signed_weights && !list.has_factor() &&
                          list.uniform_log_weight == 0 && visit.begin == 0 &&
                          visit.end == problem.key_count() && visit.excluded_begin == visit.excluded_end &&
                          pass.moments == nullptr;
    if (!all_keys || pass.triangular != problem.causal) return false;
    if (problem.causal && (pass.diagonal != problem.causal_offset() || pass.window != problem.window))
      return false;
  }
  return true;
}

}  // namespace hyperattn
