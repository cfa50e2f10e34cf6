#include "algorithms/plan.h"

#include <algorithm>

namespace hyperattn {
namespace {

// Entries (position, rank) with rank ≤ position, for positions [p0, p1) and ranks [r0, r1).
int64_t lower_triangle_entries(int64_t p0, int64_t p1, int64_t r0, int64_t r1) {
  int64_t entries = 0;
  for (int64_t position = p0; position < p1; ++position)
    entries += std::clamp<int64_t>(position + 1 - r0, 0, r1 - r0);
  return entries;
}

int64_t count_group(const Pass& pass, const QueryGroup& group) {
  int64_t entries = 0;
  for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
    const Visit& visit = pass.visits[static_cast<size_t>(v)];
    const int64_t rows = group.end - group.begin;
    entries += pass.triangular
                   ? lower_triangle_entries(group.begin, group.end, visit.begin, visit.end)
                   : rows * (visit.end - visit.begin - (visit.excluded_end - visit.excluded_begin));
  }
  if (group.moment_keys > 0)
    entries += (group.end - group.begin) * static_cast<int64_t>(pass.moments->mean_key.size());
  if (pass.linear_values != nullptr)
    entries += (group.end - group.begin) * static_cast<int64_t>(pass.linear_values->variance.size()) / 2;
  return entries;
}

}  // namespace

int64_t count_entries(const Plan& plan) {
  int64_t entries = 0;
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      for (const QueryGroup& group : pass.groups) entries += count_group(pass, group);
  return entries;
}

bool has_query_terms(const Plan& plan) {
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      if (pass.moments != nullptr || pass.linear_values != nullptr) return true;
  return false;
}

}  // namespace hyperattn
