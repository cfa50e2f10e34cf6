#include "algorithms/engines/cpu/traffic.h"

#include <algorithm>

#include "algorithms/engines/cpu/schedule.h"
#include "algorithms/plan_walk.h"

namespace hyperattn {
namespace {

constexpr int64_t kFloat = sizeof(float);
constexpr int64_t kRowNumber = sizeof(int32_t);
constexpr int64_t kCode = sizeof(uint32_t);                // of a bucket
constexpr int64_t kSums = sizeof(float) + sizeof(double);  // a row's reference and sum

int64_t row_bytes(const AttentionProblem& problem) {
  return (problem.head_dim() + problem.value_dim()) * kFloat;
}

int64_t order_bytes(const RowOrder& order, int64_t count) {
  return order.is_run() ? 0 : count * kRowNumber;
}

class Counter {
 public:
  Counter(const AttentionProblem& problem, const Plan& plan)
      : problem_(problem), layout_(problem, true), signed_(has_signed_weights(plan)) {
    const bool starts_all_rows = !plan.phases.empty() && covers_all_rows(plan.phases[0], problem);
    const bool finishes = plan.phases.size() == 1 && starts_all_rows;
    const int64_t all_rows = problem.heads() * problem.query_count();
    const int64_t lse = kFloat;
    if (!starts_all_rows) traffic_.results += all_rows * state_bytes();
    for (const Phase& phase : plan.phases) {
      const bool resumes = !starts_all_rows || &phase != &plan.phases.front();
      count_phase(phase, state_bytes() * (resumes ? 2 : 1) + (finishes ? lse : 0));
    }
    // Finished apart: out is read and written, the rest of the state read.
    if (!finishes) traffic_.results += all_rows * (state_bytes() + problem.value_dim() * kFloat + lse);
  }

  [[nodiscard]] const ForwardTraffic& traffic() const { return traffic_; }

 private:
  /// What a row keeps between phases: out, reference and sum, and what a signed denominator is judged by.
  [[nodiscard]] int64_t state_bytes() const {
    return problem_.value_dim() * kFloat + kSums + (signed_ ? static_cast<int64_t>(sizeof(double)) : 0);
  }

  void count_phase(const Phase& phase, int64_t result_bytes) {
    const int64_t tile_rows = query_tile_rows(phase, layout_);
    const std::vector<QueryJob> jobs = make_jobs(phase, tile_rows);
    const SharedLists lists(problem_, phase, layout_, tile_rows);
    const EntryRanges entries(jobs);
    for (size_t p = 0; p < phase.passes.size(); ++p)
      count_lists(phase.passes[p], static_cast<int64_t>(p), lists);
    for (const QueryJob& job : jobs) count_job(job, lists, entries, result_bytes);
  }

  void count_lists(const Pass& pass, int64_t pass_index, const SharedLists& lists) {
    count_planning(pass.queries);
    const std::vector<std::vector<int32_t>> visited = visited_segments(pass);
    for (size_t l = 0; l < pass.lists.size(); ++l) {
      const KeyList& list = pass.lists[l];
      if (list.stage == Stage::block && !list.synthetic) count_planning(list.order);
      if (const PackedList* packed = lists.find(pass_index, static_cast<int64_t>(l)))
        traffic_.packing += list.order.count * row_bytes(problem_) +
                            order_bytes(list.order, list.order.count) + packed->tile_count() * tile_bytes();
      for (const int32_t segment : visited[l]) {
        const SegmentRange range = segment_of(list, segment);
        const int64_t keys = range.end - range.begin;
        traffic_.packing += keys * row_bytes(problem_) + order_bytes(list.order, keys) + segment_bytes();
      }
    }
  }

  /// The rows of a sorted order were hashed once and sorted by counting.
  void count_planning(const RowOrder& order) {
    if (order.is_run()) return;
    traffic_.hash += order.count * (problem_.head_dim() * kFloat + kCode);
    traffic_.sort += order.count * (2 * kCode + kRowNumber);
  }

  void count_job(const QueryJob& job, const SharedLists& lists, const EntryRanges& entries,
                 int64_t result_bytes) {
    const Pass& pass = *job.pass;
    for (int64_t g = job.group_begin; g < job.group_end; ++g) {
      const QueryGroup& group = pass.groups[static_cast<size_t>(g)];
      const auto [begin, end] = job.positions_of(group);
      const int64_t count = end - begin;
      traffic_.queries += count * problem_.head_dim() * kFloat;
      traffic_.orders += 2 * order_bytes(pass.queries, count);  // to load rows and to store them
      traffic_.results += count * result_bytes;
      for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
        const Visit& visit = pass.visits[static_cast<size_t>(v)];
        count_visit(pass, lists.find(job.pass_index, visit.list), visit,
                    visible_ranks(pass, visit, begin, end));
      }
      for (int64_t v = group.first_row_visit; v < group.last_row_visit; ++v) {
        const auto [first, last] = entries.find(job, v);
        if (first == last) continue;
        traffic_.orders += (last - first) * static_cast<int64_t>(sizeof(RowEntry));
        traffic_.tiles += segment_bytes();
      }
    }
  }

  void count_visit(const Pass& pass, const PackedList* packed, const Visit& visit,
                   const SegmentRange& ranks) {
    const auto [begin, end] = ranks;
    if (begin >= end) return;
    traffic_.orders += (visit.excluded_end - visit.excluded_begin) * kRowNumber;
    if (packed != nullptr) {
      traffic_.tiles += ((end - 1) / kKeyTile - begin / kKeyTile + 1) * tile_bytes();
      return;
    }
    const int64_t gathered = std::min(begin + round_up(end - begin, kKeyTile), visit.end) - begin;
    traffic_.gathers += gathered * row_bytes(problem_);
    const RowOrder& order = pass.lists[static_cast<size_t>(visit.list)].order;
    traffic_.orders += 2 * order_bytes(order, gathered);  // for keys and for values
  }

  [[nodiscard]] int64_t tile_bytes() const { return PackedList::floats(layout_, kKeyTile) * kFloat; }
  [[nodiscard]] int64_t segment_bytes() const { return PackedSegments::floats(layout_) * kFloat; }

  const AttentionProblem& problem_;
  TileLayout layout_;
  bool signed_;
  ForwardTraffic traffic_;
};

}  // namespace

ForwardTraffic count_forward_traffic(const AttentionProblem& problem, const Plan& plan) {
  return Counter(problem, plan).traffic();
}

int64_t least_forward_bytes(const AttentionProblem& problem) {
  const TensorShape& query = problem.query.shape;
  const int64_t out = query.matrices() * query.rows * problem.value_dim();
  return (query.size() + problem.key.shape.size() + problem.value.shape.size() + out) * kFloat;
}

}  // namespace hyperattn
