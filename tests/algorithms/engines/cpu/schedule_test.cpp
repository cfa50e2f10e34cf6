// How phases are cut into work, against the plan walked entry by entry: nothing is left out or done twice,
// and what runs at the same time touches different rows.
#include "algorithms/engines/cpu/schedule.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "algorithms/engines/cpu/backward_schedule.h"
#include "algorithms/plan_builder.h"
#include "algorithms/plan_walk.h"
#include "core/parallel.h"
#include "tests/algorithms/random_plans.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn {
namespace {

using testing::ProblemSize;
using testing::RandomProblem;

struct SeenPlan {
  std::string name;
  Plan plan;
};

/// Generated plans of every family, and exact ones whose groups are cut into tiles.
std::vector<SeenPlan> plans_of(const AttentionProblem& problem) {
  std::vector<SeenPlan> plans;
  for (const testing::PlanFamily& family : testing::plan_families())
    for (uint64_t seed = 0; seed < 6; ++seed)
      plans.push_back({family.name + ", seed " + std::to_string(seed),
                       testing::RandomPlan(problem, family, seed).make()});
  plans.push_back({"exact", exact_plan(problem)});
  return plans;
}

const std::vector<ProblemSize> kSizes = {{1, 1, 4, 4},
                                         {67, 41, 5, 3, 1, 2},
                                         {1301, 97, 4, 4, 1, 4, false, 2},
                                         {531, 531, 8, 8, 1, 1, true},
                                         {300, 2111, 4, 4}};

using Place = std::pair<const Pass*, int64_t>;  // a pass and a position in it

}  // namespace

TEST_CASE("schedule: jobs hold every position of every group once, at most a tile of them", "[schedule]") {
  int64_t most_jobs = 0;
  for (const ProblemSize& size : kSizes) {
    const RandomProblem p(size);
    const TileLayout layout(p.problem, true);
    for (const SeenPlan& seen : plans_of(p.problem)) {
      for (const Phase& phase : seen.plan.phases) {
        CAPTURE(testing::to_string(size), seen.name);
        const int64_t tile = query_tile_rows(phase, layout);
        std::map<Place, int> expected;
        for (const Pass& pass : phase.passes)
          for (const QueryGroup& group : pass.groups)
            for (int64_t position = group.begin; position < group.end; ++position)
              ++expected[{&pass, position}];
        std::map<Place, int> found;
        const std::vector<QueryJob> jobs = make_jobs(phase, tile);
        most_jobs = std::max(most_jobs, static_cast<int64_t>(jobs.size()));
        for (const QueryJob& job : jobs) {
          REQUIRE(job.pass == &phase.passes[static_cast<size_t>(job.pass_index)]);
          REQUIRE(job.group_begin < job.group_end);
          if (job.group_end - job.group_begin == 1) {
            const QueryGroup& group = job.pass->groups[static_cast<size_t>(job.group_begin)];
            REQUIRE(group.begin <= job.begin);
            REQUIRE(job.end <= group.end);
            REQUIRE(job.end - job.begin <= std::max<int64_t>(tile, 64));
            for (int64_t position = job.begin; position < job.end; ++position) ++found[{job.pass, position}];
            continue;
          }
          for (int64_t g = job.group_begin; g < job.group_end; ++g) {
            const QueryGroup& group = job.pass->groups[static_cast<size_t>(g)];
            for (int64_t position = group.begin; position < group.end; ++position)
              ++found[{job.pass, position}];
          }
        }
        REQUIRE(found == expected);
      }
    }
  }
  CHECK(most_jobs > 20);
}

TEST_CASE("schedule: tiles do not depend on the threads, and the last rows of a triangle come first",
          "[schedule]") {
  const RandomProblem p({2003, 2003, 8, 8, 1, 1, true});
  const Plan plan = exact_plan(p.problem);
  const TileLayout layout(p.problem, true);
  const int64_t tile = query_tile_rows(plan.phases[0], layout);
  const int threads = thread_count();
  for (const int other : {1, 7, 64}) {
    set_thread_count(other);
    CHECK(query_tile_rows(plan.phases[0], layout) == tile);
  }
  set_thread_count(threads);
  const std::vector<QueryJob> jobs = make_jobs(plan.phases[0], tile);
  REQUIRE(jobs.size() > 3);
  std::vector<int64_t> ends;
  ends.reserve(jobs.size());
  for (const QueryJob& job : jobs) ends.push_back(job.end);
  CAPTURE(tile, ends);
  CHECK(ends.front() == 2003);
  CHECK(std::is_sorted(ends.rbegin(), ends.rend()));
  CHECK(jobs.back().begin == 0);
}

TEST_CASE("schedule: the entries of a row visit that lie in a job are those of a search", "[schedule]") {
  int64_t searched = 0;
  for (const ProblemSize& size : kSizes) {
    const RandomProblem p(size);
    for (const SeenPlan& seen : plans_of(p.problem))
      for (const Phase& phase : seen.plan.phases) {
        const std::vector<QueryJob> jobs = make_jobs(phase, 48);
        const EntryRanges ranges(jobs);
        for (const QueryJob& job : jobs)
          for (int64_t g = job.group_begin; g < job.group_end; ++g) {
            const QueryGroup& group = job.pass->groups[static_cast<size_t>(g)];
            const bool whole = job.group_end - job.group_begin > 1;
            for (int64_t v = group.first_row_visit; v < group.last_row_visit; ++v) {
              const RowVisit& visit = job.pass->row_visits[static_cast<size_t>(v)];
              std::vector<int64_t> expected;
              for (int64_t e = visit.first_entry; e < visit.last_entry; ++e) {
                const int64_t position = job.pass->row_entries[static_cast<size_t>(e)].position;
                if (whole || (job.begin <= position && position < job.end)) expected.push_back(e);
              }
              std::vector<int64_t> found;
              const auto [first, last] = ranges.find(job, v);
              for (int64_t e = first; e < last; ++e) found.push_back(e);
              CAPTURE(testing::to_string(size), seen.name, job.begin, job.end, v);
              REQUIRE(found == expected);
              searched += job.entry_table >= 0 ? 1 : 0;
            }
          }
      }
  }
  CAPTURE(searched);
  CHECK(searched > 1000);
}

TEST_CASE("schedule: lists that many tiles visit are packed once, and the segments that rows visit",
          "[schedule]") {
  int shared = 0;
  int own = 0;
  for (const ProblemSize& size : kSizes) {
    const RandomProblem p(size);
    const TileLayout layout(p.problem, true);
    for (const SeenPlan& seen : plans_of(p.problem))
      for (const Phase& phase : seen.plan.phases) {
        constexpr int64_t kTile = 48;
        const SharedLists lists(p.problem, phase, layout, kTile);
        for (size_t n = 0; n < phase.passes.size(); ++n) {
          const Pass& pass = phase.passes[n];
          for (size_t l = 0; l < pass.lists.size(); ++l) {
            int64_t wanted = 0;  // key rows that packing for each tile would gather
            bool visited = false;
            for (const QueryGroup& group : pass.groups) {
              for_each_visit(pass, group, [&](const Visit& visit) {
                if (visit.list == static_cast<int32_t>(l))
                  for (int64_t begin = group.begin; begin < group.end; begin += kTile)
                    wanted += visit.end - visit.begin;
              });
              for_each_row_visit(pass, group, [&](const RowVisit& visit) {
                visited = visited ||
                          (visit.list == static_cast<int32_t>(l) && visit.first_entry < visit.last_entry);
              });
            }
            CAPTURE(testing::to_string(size), seen.name, n, l, wanted, pass.lists[l].order.count);
            const bool expected = wanted > 2 * pass.lists[l].order.count;
            REQUIRE((lists.find(static_cast<int64_t>(n), static_cast<int64_t>(l)) != nullptr) == expected);
            REQUIRE((lists.find_segments(static_cast<int64_t>(n), static_cast<int64_t>(l)) != nullptr) ==
                    visited);
            (expected ? shared : own) += 1;
          }
        }
      }
  }
  CAPTURE(shared, own);
  CHECK(shared > 50);
  CHECK(own > 50);
}

TEST_CASE("schedule: all rows are covered where every row of every head is in a group", "[schedule]") {
  const RandomProblem p({67, 41, 5, 3, 2, 3});
  Plan plan = exact_plan(p.problem);
  CHECK(covers_all_rows(plan.phases[0], p.problem));
  plan.phases[0].passes[1].groups[0].end -= 1;
  CHECK_FALSE(covers_all_rows(plan.phases[0], p.problem));
  plan.phases[0].passes.erase(plan.phases[0].passes.begin() + 1);
  CHECK_FALSE(covers_all_rows(plan.phases[0], p.problem));
}

namespace {

/// How often each entry (position, rank) of a pass's list is in a task.
struct Counts {
  int64_t ranks = 0;
  std::vector<uint8_t> times;

  uint8_t& at(int64_t position, int64_t rank) { return times[static_cast<size_t>(position * ranks + rank)]; }
};

std::map<const Pass*, Counts> zero_counts(const Phase& phase, size_t list) {
  std::map<const Pass*, Counts> counts;
  for (const Pass& pass : phase.passes) {
    if (list >= pass.lists.size()) continue;
    const int64_t ranks = pass.lists[list].order.count;
    counts[&pass] = {ranks, std::vector<uint8_t>(static_cast<size_t>(pass.queries.count * ranks), 0)};
  }
  return counts;
}

/// Entries of lists number `list` that are in no task.
int64_t missed_entries(size_t list, std::map<const Pass*, Counts>& counts) {
  int64_t missed = 0;
  for (auto& [pass, held] : counts)
    for (const QueryGroup& group : pass->groups)
      for (int64_t position = group.begin; position < group.end; ++position)
        for_each_entry_of_row(*pass, group, position, [&, &own = held, of = pass](const PlanEntry& entry) {
          if (entry.list == &of->lists[list] && own.at(position, entry.rank) == 0) ++missed;
        });
  return missed;
}

/// A row that a task adds to: of dQ ('q') by head, of dK and dV ('k') by key head or, where they are gathered
/// ('g'), by piece and copy.
using WrittenRow = std::tuple<char, const void*, int64_t, int64_t>;

std::vector<WrittenRow> written_by(const BackwardTask& task) {
  std::vector<WrittenRow> written;
  const ListPiece& piece = *task.piece;
  const Pass& pass = *piece.pass;
  const ChunkRange rows = chunk_range(pass.queries.count, piece.query_chunks, task.query_chunk);
  for (int64_t position = rows.begin; position < rows.end; ++position)
    written.emplace_back('q', nullptr, pass.head, pass.queries[position]);
  const ChunkRange ranks = piece.ranks_of(task.key_chunk);
  const KeyList& list = pass.lists[static_cast<size_t>(piece.list)];
  const int64_t copy = piece.replicas > 1 ? task.query_chunk : 0;
  for (int64_t rank = ranks.begin; rank < ranks.end; ++rank) {
    if (piece.direct)
      written.emplace_back('k', nullptr, pass.key_head, list.order[rank]);
    else
      written.emplace_back('g', &piece, copy, rank);
  }
  return written;
}

void count_entries_of(const BackwardTask& task, std::map<const Pass*, Counts>& counts) {
  const ListPiece& piece = *task.piece;
  const ChunkRange rows = chunk_range(piece.pass->queries.count, piece.query_chunks, task.query_chunk);
  const ChunkRange ranks = piece.ranks_of(task.key_chunk);
  Counts& held = counts.at(piece.pass);
  for (int64_t position = rows.begin; position < rows.end; ++position)
    for (int64_t rank = ranks.begin; rank < ranks.end; ++rank) ++held.at(position, rank);
}

}  // namespace

TEST_CASE("backward schedule: tasks hold every entry once, and those of a step write different rows",
          "[schedule]") {
  size_t most_steps = 0;
  int replicated = 0;
  for (const ProblemSize& size : kSizes) {
    const RandomProblem p(size);
    for (const SeenPlan& seen : plans_of(p.problem))
      for (const Phase& phase : seen.plan.phases)
        for (size_t list = 0; list < 4; ++list) {
          CAPTURE(testing::to_string(size), seen.name, list);
          std::map<const Pass*, Counts> counts = zero_counts(phase, list);
          for (const auto& pieces : make_pieces(p.problem, phase, static_cast<int64_t>(list))) {
            const std::vector<std::vector<BackwardTask>> steps = make_steps(pieces);
            most_steps = std::max(most_steps, steps.size());
            for (const ListPiece& piece : pieces) replicated += piece.replicas > 1 ? 1 : 0;
            for (const std::vector<BackwardTask>& step : steps) {
              std::set<WrittenRow> written;
              for (const BackwardTask& task : step) {
                const std::vector<WrittenRow> rows = written_by(task);
                const size_t before = written.size();
                written.insert(rows.begin(), rows.end());
                REQUIRE(written.size() == before + rows.size());
                count_entries_of(task, counts);
              }
            }
          }
          REQUIRE(missed_entries(list, counts) == 0);
          int64_t twice = 0;
          for (const auto& [pass, held] : counts)
            twice += std::count_if(held.times.begin(), held.times.end(), [](uint8_t n) { return n > 1; });
          REQUIRE(twice == 0);
        }
  }
  CAPTURE(most_steps, replicated);
  CHECK(most_steps > 1);
  CHECK(replicated > 0);
}

}  // namespace hyperattn
