#include "algorithms/engines/cpu/schedule.h"

#include <algorithm>

#include "algorithms/plan_walk.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// A job should not be much smaller than this many rows, or its bookkeeping shows. `hyper` with blocks of 32
// at n = 16384 took 15.4 to 15.6 ms with any value from 16 to 256 (d = 64, Zen 4, one thread, like those
// below).
constexpr int64_t kSmallJob = 64;
// A list is packed once when its keys are wanted more often than this on average. With 0 `lsh` with blocks of
// 64 at n = 16384 took 13.2 ms, with 1 to 16 4.96 to 5.02 ms.
constexpr int64_t kSharedFrom = 2;
// For many threads. On one, `exact` at n = 4096 took 41.7, 41.9 and 42.1 ms with 16, 64 and 256.
constexpr int64_t kJobsWanted = 64;
// Rows that visit segments want large tiles more than threads want many: a segment is loaded once a tile.
constexpr int64_t kVisitJobsWanted = 16;
constexpr int64_t kVisitFloats = 1 << 17;  // queries and sums of a tile

int64_t covered_rows(const Phase& phase) {
  int64_t rows = 0;
  for (const Pass& pass : phase.passes)
    for (const QueryGroup& group : pass.groups) rows += group.end - group.begin;
  return rows;
}

void add_split_group(const Pass& pass, int64_t pass_index, int64_t group_index, int64_t tile_rows,
                     int64_t& entry_table, std::vector<QueryJob>& jobs) {
  const QueryGroup& group = pass.groups[static_cast<size_t>(group_index)];
  const auto first = static_cast<int64_t>(jobs.size());
  const int64_t rows = group.end - group.begin;
  const int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  const int64_t step = std::min(tile_rows, round_up((rows + tiles - 1) / tiles, kRowGroup));
  const int64_t visits = group.last_row_visit - group.first_row_visit;
  const bool searched = visits > 0 && step < rows;
  for (int64_t begin = group.begin; begin < group.end; begin += step) {
    jobs.push_back({&pass, pass_index, group_index, group_index + 1, begin, std::min(begin + step, group.end),
                    searched ? entry_table : -1});
    if (searched) entry_table += visits;
  }
  if (searched) entry_table += visits;
  if (pass.triangular) std::reverse(jobs.begin() + first, jobs.end());
}

bool has_row_visits(const Phase& phase) {
  return std::any_of(phase.passes.begin(), phase.passes.end(),
                     [](const Pass& pass) { return !pass.row_visits.empty(); });
}

std::vector<int64_t> wanted_keys(const Pass& pass, int64_t tile_rows) {
  std::vector<int64_t> wanted(pass.lists.size(), 0);
  for (const QueryGroup& group : pass.groups) {
    const int64_t tiles = (group.end - group.begin + tile_rows - 1) / tile_rows;
    for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
      const Visit& visit = pass.visits[static_cast<size_t>(v)];
      wanted[static_cast<size_t>(visit.list)] += tiles * (visit.end - visit.begin);
    }
  }
  return wanted;
}

}  // namespace

std::vector<std::vector<int32_t>> visited_segments(const Pass& pass) {
  std::vector<std::vector<int32_t>> visited(pass.lists.size());
  for (const QueryGroup& group : pass.groups)
    for_each_row_visit(pass, group, [&](const RowVisit& visit) {
      if (visit.first_entry < visit.last_entry)
        visited[static_cast<size_t>(visit.list)].push_back(visit.segment);
    });
  for (std::vector<int32_t>& segments : visited) {
    std::sort(segments.begin(), segments.end());
    segments.erase(std::unique(segments.begin(), segments.end()), segments.end());
  }
  return visited;
}

int64_t query_tile_rows(const Phase& phase, const TileLayout& layout) {
  const bool visits = has_row_visits(phase);
  const int64_t jobs = visits ? kVisitJobsWanted : kJobsWanted;
  const int64_t most =
      visits ? std::max(kQueryTile, kVisitFloats / (layout.head_dim + layout.value_columns)) : kQueryTile;
  const int64_t share = round_up((covered_rows(phase) + jobs - 1) / jobs, kRowGroup);
  return std::clamp<int64_t>(share, 2 * kRowGroup, most);
}

std::vector<QueryJob> make_jobs(const Phase& phase, int64_t tile_rows) {
  std::vector<QueryJob> jobs;
  int64_t entry_table = 0;
  for (size_t p = 0; p < phase.passes.size(); ++p) {
    const Pass& pass = phase.passes[p];
    const auto groups = static_cast<int64_t>(pass.groups.size());
    for (int64_t g = 0; g < groups;) {
      const QueryGroup& group = pass.groups[static_cast<size_t>(g)];
      if (group.end - group.begin > kSmallJob) {
        add_split_group(pass, static_cast<int64_t>(p), g++, tile_rows, entry_table, jobs);
        continue;
      }
      const int64_t first = g;
      int64_t rows = 0;
      while (g < groups && rows < kSmallJob) {
        const QueryGroup& next = pass.groups[static_cast<size_t>(g)];
        if (next.end - next.begin > kSmallJob) break;
        rows += next.end - next.begin;
        ++g;
      }
      jobs.push_back({&pass, static_cast<int64_t>(p), first, g, group.begin, group.end});
    }
  }
  return jobs;
}

EntryRanges::EntryRanges(const std::vector<QueryJob>& jobs) {
  constexpr int64_t kVisitsOfTask = 64;
  struct Task {
    size_t first_job;  // of the group, whose others follow
    size_t last_job;
    int64_t first_visit;
  };
  std::vector<Task> tasks;
  int64_t size = 0;
  for (size_t j = 0; j < jobs.size();) {
    const size_t first = j++;
    if (jobs[first].entry_table < 0) continue;
    const QueryGroup& group = jobs[first].pass->groups[static_cast<size_t>(jobs[first].group_begin)];
    while (j < jobs.size() && jobs[j].pass == jobs[first].pass && jobs[j].begin > group.begin &&
           jobs[j].end <= group.end)
      ++j;
    for (int64_t v = group.first_row_visit; v < group.last_row_visit; v += kVisitsOfTask)
      tasks.push_back({first, j, v});
    size = jobs[j - 1].entry_table + 2 * (group.last_row_visit - group.first_row_visit);
  }
  begins_.resize(static_cast<size_t>(size));
  parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t t, int) {
    const Task& task = tasks[static_cast<size_t>(t)];
    const Pass& pass = *jobs[task.first_job].pass;
    const QueryGroup& group = pass.groups[static_cast<size_t>(jobs[task.first_job].group_begin)];
    const int64_t visits = group.last_row_visit - group.first_row_visit;
    for (int64_t v = task.first_visit; v < std::min(task.first_visit + kVisitsOfTask, group.last_row_visit);
         ++v) {
      const RowVisit& visit = pass.row_visits[static_cast<size_t>(v)];
      int64_t entry = visit.first_entry;
      int64_t* begin = begins_.data() + jobs[task.first_job].entry_table + v - group.first_row_visit;
      for (size_t j = task.first_job; j < task.last_job; ++j, begin += visits) {
        *begin = entry;
        while (entry < visit.last_entry &&
               pass.row_entries[static_cast<size_t>(entry)].position < jobs[j].end)
          ++entry;
      }
      *begin = visit.last_entry;
    }
  });
}

SharedLists::SharedLists(const AttentionProblem& problem, const Phase& phase, const TileLayout& layout,
                         int64_t tile_rows) {
  std::vector<Source> sources;
  std::vector<Source> segment_sources;
  for (const Pass& pass : phase.passes) {
    first_slot_.push_back(static_cast<int64_t>(slots_.size()));
    const std::vector<int64_t> wanted = wanted_keys(pass, tile_rows);
    std::vector<std::vector<int32_t>> visited = visited_segments(pass);
    for (size_t l = 0; l < pass.lists.size(); ++l) {
      const KeyList& list = pass.lists[l];
      const bool shared = wanted[l] > kSharedFrom * list.order.count;
      slots_.push_back(shared ? static_cast<int64_t>(sources.size()) : -1);
      if (shared) sources.push_back({&pass, &list, {}});
      const bool has_segments = !visited[l].empty();
      segment_slots_.push_back(has_segments ? static_cast<int64_t>(segment_sources.size()) : -1);
      if (has_segments) segment_sources.push_back({&pass, &list, std::move(visited[l])});
    }
  }
  pack_lists(problem, layout, sources);
  pack_segments(problem, layout, segment_sources);
}

void SharedLists::pack_lists(const AttentionProblem& problem, const TileLayout& layout,
                             const std::vector<Source>& sources) {
  int64_t floats = 0;
  for (const Source& source : sources) floats += PackedList::floats(layout, source.list->order.count);
  storage_ = Buffer<float>(floats);
  struct Task {
    size_t slot;
    int64_t tile;
  };
  std::vector<Task> tasks;
  float* next = storage_.data();
  for (const Source& source : sources) {
    packed_.emplace_back(source.list->order.count, next);
    next += PackedList::floats(layout, source.list->order.count);
    for (int64_t tile = 0; tile < packed_.back().tile_count(); ++tile)
      tasks.push_back({packed_.size() - 1, tile});
  }
  parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t t, int) {
    const auto [slot, tile] = tasks[static_cast<size_t>(t)];
    packed_[slot].pack(problem, layout, sources[slot].pass->key_head, *sources[slot].list, tile);
  });
}

void SharedLists::pack_segments(const AttentionProblem& problem, const TileLayout& layout,
                                const std::vector<Source>& sources) {
  constexpr size_t kSegmentsOfTask = 16;
  const auto floats = [&](const Source& source) {
    return (static_cast<int64_t>(source.list->segments->size()) - 1) * PackedSegments::floats(layout);
  };
  int64_t total = 0;
  for (const Source& source : sources) total += floats(source);
  segment_storage_ = Buffer<float>(total);
  struct Task {
    size_t slot;
    size_t first;
  };
  std::vector<Task> tasks;
  float* next = segment_storage_.data();
  for (const Source& source : sources) {
    segments_.emplace_back(layout, *source.list, next);
    next += floats(source);
    for (size_t first = 0; first < source.segments.size(); first += kSegmentsOfTask)
      tasks.push_back({segments_.size() - 1, first});
  }
  parallel_for(static_cast<int64_t>(tasks.size()), [&](int64_t t, int) {
    const auto [slot, first] = tasks[static_cast<size_t>(t)];
    const Source& source = sources[slot];
    const size_t last = std::min(first + kSegmentsOfTask, source.segments.size());
    for (size_t s = first; s < last; ++s)
      segments_[slot].pack(problem, layout, source.pass->key_head, source.segments[s]);
  });
}

bool covers_all_rows(const Phase& phase, const AttentionProblem& problem) {
  return covered_rows(phase) == problem.heads() * problem.query_count();
}

}  // namespace hyperattn
