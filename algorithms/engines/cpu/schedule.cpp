#include "algorithms/engines/cpu/schedule.h"

#include <algorithm>

#include "core/parallel.h"

namespace hyperattn {
namespace {

// A job should not be much smaller than this many rows, or its bookkeeping shows.
constexpr int64_t kSmallJob = 64;
// A list is packed once when its keys are wanted more often than this on average.
constexpr int64_t kSharedFrom = 2;
constexpr int64_t kJobsWanted = 64;

int64_t covered_rows(const Phase& phase) {
  int64_t rows = 0;
  for (const Pass& pass : phase.passes)
    for (const QueryGroup& group : pass.groups) rows += group.end - group.begin;
  return rows;
}

void add_split_group(const Pass& pass, int64_t pass_index, int64_t group_index, int64_t tile_rows,
                     std::vector<QueryJob>& jobs) {
  const QueryGroup& group = pass.groups[static_cast<size_t>(group_index)];
  const auto first = static_cast<int64_t>(jobs.size());
  for (int64_t begin = group.begin; begin < group.end; begin += tile_rows)
    jobs.push_back(
        {&pass, pass_index, group_index, group_index + 1, begin, std::min(begin + tile_rows, group.end)});
  if (pass.triangular) std::reverse(jobs.begin() + first, jobs.end());
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

int64_t query_tile_rows(const Phase& phase) {
  const int64_t share = round_up((covered_rows(phase) + kJobsWanted - 1) / kJobsWanted, kRowGroup);
  return std::clamp<int64_t>(share, 2 * kRowGroup, kQueryTile);
}

std::vector<QueryJob> make_jobs(const Phase& phase, int64_t tile_rows) {
  std::vector<QueryJob> jobs;
  for (size_t p = 0; p < phase.passes.size(); ++p) {
    const Pass& pass = phase.passes[p];
    const auto groups = static_cast<int64_t>(pass.groups.size());
    for (int64_t g = 0; g < groups;) {
      const QueryGroup& group = pass.groups[static_cast<size_t>(g)];
      if (group.end - group.begin > kSmallJob) {
        add_split_group(pass, static_cast<int64_t>(p), g++, tile_rows, jobs);
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

SharedLists::SharedLists(const AttentionProblem& problem, const Phase& phase, const TileLayout& layout,
                         int64_t tile_rows) {
  struct Source {
    const Pass* pass;
    const KeyList* list;
  };
  std::vector<Source> sources;
  int64_t floats = 0;
  for (const Pass& pass : phase.passes) {
    first_slot_.push_back(static_cast<int64_t>(slots_.size()));
    const std::vector<int64_t> wanted = wanted_keys(pass, tile_rows);
    for (size_t l = 0; l < pass.lists.size(); ++l) {
      const KeyList& list = pass.lists[l];
      const bool shared = wanted[l] > kSharedFrom * list.order.count;
      slots_.push_back(shared ? static_cast<int64_t>(sources.size()) : -1);
      if (!shared) continue;
      sources.push_back({&pass, &list});
      floats += PackedList::floats(layout, list.order.count);
    }
  }
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

bool covers_all_rows(const Phase& phase, const AttentionProblem& problem) {
  return covered_rows(phase) == problem.heads() * problem.query_count();
}

}  // namespace hyperattn
