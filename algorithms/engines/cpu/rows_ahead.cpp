#include "algorithms/engines/cpu/rows_ahead.h"

#include "algorithms/plan_walk.h"

namespace hyperattn {
namespace {

/// The first visit of a list that no tile of is packed; null: none.
const Visit* first_gathered(const SharedLists& lists, const QueryJob& job) {
  const QueryGroup& group = job.pass->groups[static_cast<size_t>(job.group_begin)];
  for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
    const Visit& visit = job.pass->visits[static_cast<size_t>(v)];
    if (lists.find(job.pass_index, visit.list) == nullptr) return &visit;
  }
  return nullptr;
}

}  // namespace

void RowsAhead::begin(const AttentionProblem& problem, const TileLayout& layout, const SharedLists& lists,
                      const QueryJob* job) {
  count_ = 0;
  next_ = 0;
  if (job == nullptr) return;
  const Pass& pass = *job->pass;
  const MatrixView<const float> query = problem.query.matrix(pass.head);
  const int64_t rows = std::min(job->end - job->begin, kQueryTile);
  for (int64_t i = 0; i < rows; ++i) add(query.row(pass.queries[job->begin + i]), layout.head_dim);
  const Visit* visit = first_gathered(lists, *job);
  if (visit == nullptr) return;
  const KeyList& list = pass.lists[static_cast<size_t>(visit->list)];
  const int64_t last = std::min(visit->end, visit->begin + kKeyTile);
  for (int64_t rank = visit->begin; rank < last; ++rank)
    add(key_row(problem, pass.key_head, list, rank), layout.head_dim);
  for (int64_t rank = visit->begin; rank < last && layout.value_dim > 0; ++rank)
    add(value_row(problem, pass.key_head, list, rank), layout.value_dim);
}

}  // namespace hyperattn
