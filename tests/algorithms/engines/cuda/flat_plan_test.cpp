// The layout of plans that kernels read: walked entry by entry on the host, it is the plan. Needs no GPU.
#include "algorithms/engines/cuda/flat_plan.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "algorithms/check_plan.h"
#include "algorithms/engines/cuda/flat_blocks.h"
#include "algorithms/plan_builder.h"
#include "algorithms/plan_walk.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/algorithms/random_plans.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {
namespace {

using namespace hyperattn::cuda;

/// A query row of a head, a row of K of a key head (or of the synthetic keys), and the weight's size.
struct FlatEntrySeen {
  int64_t query = 0;
  int64_t source = 0;
  bool synthetic = false;
  double numerator = 0;
  double denominator = 0;
  auto key() const { return std::make_tuple(query, synthetic, source); }
};

/// Sums of N, D and the count by (query row, key row): what does not depend on the order of entries.
struct Sums {
  double numerator = 0;
  double denominator = 0;
  int64_t count = 0;
};
using SumsByPair = std::map<std::tuple<int64_t, bool, int64_t>, Sums>;

void add(SumsByPair& sums, const FlatEntrySeen& entry) {
  Sums& own = sums[entry.key()];
  own.numerator += entry.numerator;
  own.denominator += entry.denominator;
  ++own.count;
}

int64_t at(const FlatPlan& flat, const FlatOrder& order, int64_t index) {
  if (order.remote != nullptr) return order.remote[index];
  return order.rows == kNone ? order.first + index : flat.integers[order.rows + index];
}
double number(const FlatPlan& flat, int64_t offset, int64_t index, double otherwise) {
  return offset == kNone ? otherwise : static_cast<double>(flat.numbers[static_cast<size_t>(offset + index)]);
}

class FlatWalk {
 public:
  explicit FlatWalk(const FlatPlan& flat) : flat_(flat) {}

  void add_entry(const FlatPass& pass, const FlatList& list, int64_t position, int64_t rank) {
    if (pass.triangular != 0 && (rank > position + pass.diagonal ||
                                 (pass.window > 0 && rank <= position + pass.diagonal - pass.window)))
      return;
    const double log_weight = number(flat_, list.log_weight, rank, static_cast<double>(list.uniform));
    if (std::isinf(log_weight)) return;
    const double factor =
        1 + number(flat_, list.factor_row, position, 0) * number(flat_, list.factor_rank, rank, 0);
    const double weight = std::exp2(log_weight) * factor;
    add(sums,
        {pass.row_base + at(flat_, pass.queries, position), list.source_row + at(flat_, list.order, rank),
         list.synthetic != 0, weight * number(flat_, list.numerator, rank, 1),
         weight * number(flat_, list.denominator, rank, 1)});
  }

  [[nodiscard]] bool is_excluded(int64_t begin, int64_t end, int64_t rank) const {
    return std::binary_search(flat_.integers.begin() + begin, flat_.integers.begin() + end,
                              static_cast<int32_t>(rank));
  }

  /// As the forward kernel goes.
  void walk_tiles() {
    for (const FlatTile& tile : flat_.tiles) {
      const FlatPass& pass = flat_.passes[static_cast<size_t>(tile.pass)];
      for (int64_t v = tile.first_visit; v < tile.last_visit; ++v) {
        const FlatVisit& visit = flat_.visits[v];
        for (int64_t i = 0; i < tile.count; ++i)
          for (int64_t rank = visit.begin; rank < visit.end; ++rank)
            if (!is_excluded(visit.excluded_begin, visit.excluded_end, rank))
              add_entry(pass, list(visit.list), tile.begin + i, rank);
      }
      for (int64_t p = tile.first_pack; p < tile.last_pack; ++p) walk_pack(tile, pass, flat_.packs[p]);
    }
  }

  void walk_pack(const FlatTile& tile, const FlatPass& pass, const FlatPack& pack) {
    for (int s = 0; s < kPackSegments; ++s)
      for (int64_t e = pack.first_entry[s]; e < pack.last_entry[s]; ++e) {
        const FlatEntry& entry = flat_.entries[e];
        CHECK(entry.position >= tile.begin);
        CHECK(entry.position < tile.begin + tile.count);
        for (int64_t rank = pack.begin[s]; rank < pack.end[s]; ++rank)
          if ((entry.skip >> (rank - pack.begin[s]) & 1) == 0)
            add_entry(pass, list(pack.list), entry.position, rank);
      }
  }

  /// As the kernel of the keys' gradient goes; and the key rows to which each slot belongs.
  void walk_jobs(const KeyWork& work) {
    for (const KeyJob& job : work.jobs)
      for (int64_t i = job.first_item; i < job.last_item; ++i) {
        const KeyItem& item = work.items[i];
        for (int64_t index = item.begin; index < item.end; ++index)
          for (int64_t rank = job.rank; rank < job.rank + job.count; ++rank) {
            if (rank < item.first_rank || rank >= item.last_rank) continue;
            if (is_excluded(item.excluded_begin, item.excluded_end, rank)) continue;
            int64_t position = index;
            if (item.entries != 0) {
              const FlatEntry& entry = flat_.entries[index];
              if ((entry.skip >> (rank - item.first_rank) & 1) != 0) continue;
              position = entry.position;
            }
            add_entry(flat_.passes[static_cast<size_t>(job.pass)], list(job.list), position, rank);
          }
      }
  }

  SumsByPair sums;

 private:
  [[nodiscard]] const FlatList& list(int32_t number) const {
    return flat_.lists[static_cast<size_t>(number)];
  }
  const FlatPlan& flat_;
};

/// The plan's own entries, with the rows that flatten gives to its synthetic keys.
SumsByPair entries_of(const AttentionProblem& problem, const Plan& plan, const FlatPlan& flat) {
  std::map<const SyntheticKeys*, int64_t> rows;
  int64_t next = 0;
  for (const SyntheticKeys* keys : flat.synthetic) {
    rows[keys] = next;
    next += keys->key.shape().rows;
  }
  SumsByPair sums;
  for_each_entry(plan, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
    const SyntheticKeys* synthetic = entry.list->synthetic.get();
    const double weight = std::exp(entry.log_weight());
    if (entry.numerator() == 0 && entry.denominator() == 0) return;
    add(sums,
        {pass.head * problem.query_count() + pass.queries[entry.position],
         (synthetic != nullptr ? rows[synthetic] : pass.key_head * problem.key_count()) + entry.key_row(),
         synthetic != nullptr, weight * entry.numerator(), weight * entry.denominator()});
  });
  return sums;
}

void check_equal(const SumsByPair& seen, const SumsByPair& expected) {
  REQUIRE(seen.size() == expected.size());
  double worst = 0;
  int64_t counts = 0;
  for (const auto& [key, sums] : expected) {
    const auto own = seen.find(key);
    REQUIRE(own != seen.end());
    counts += own->second.count == sums.count ? 0 : 1;
    const double size = 1 + std::abs(sums.numerator) + std::abs(sums.denominator);
    worst = std::max({worst, std::abs(own->second.numerator - sums.numerator) / size,
                      std::abs(own->second.denominator - sums.denominator) / size});
  }
  INFO("weights differ by " << worst << ", and " << counts << " pairs have another number of entries");
  CHECK(worst < 3e-6);
  CHECK(counts == 0);
}

TEST_CASE("a flattened plan has the plan's entries, by tiles of rows and by blocks of keys") {
  for (const PlanFamily& family : plan_families())
    for (const ProblemSize& size : {ProblemSize{1, 1, 2, 2, 1, 1}, ProblemSize{150, 131, 3, 2, 1, 2},
                                    ProblemSize{64, 200, 2, 3, 1, 4, false, 2}}) {
      const RandomProblem p(size);
      for (uint64_t seed = 0; seed < 8; ++seed) {
        INFO(family.name << ", " << to_string(size) << ", plan " << seed);
        const Plan plan = RandomPlan(p.problem, family, seed).make();
        const FlatPlan flat = flatten(p.problem, plan);
        const SumsByPair expected = entries_of(p.problem, plan, flat);
        FlatWalk by_tiles(flat);
        by_tiles.walk_tiles();
        check_equal(by_tiles.sums, expected);
        FlatWalk by_jobs(flat);
        for (size_t phase = 0; phase < flat.phases.size(); ++phase)
          by_jobs.walk_jobs(invert(p.problem, plan, flat, static_cast<int64_t>(phase)));
        check_equal(by_jobs.sums, expected);
      }
    }
}

/// For every slot of the jobs: the key rows that get a share of it.
TEST_CASE(
    "every slot of a job goes to the key row of its rank, and to a synthetic key's members by their shares") {
  const RandomProblem p({90, 170, 3, 2, 1, 4, false, 2});
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const Plan plan = RandomPlan(p.problem, plan_families()[seed % 3], seed).make();
    const FlatPlan flat = flatten(p.problem, plan);
    for (size_t phase = 0; phase < plan.phases.size(); ++phase) {
      const KeyWork work = invert(p.problem, plan, flat, static_cast<int64_t>(phase));
      std::map<std::pair<int64_t, int64_t>, double> seen;  // (key row, slot) → share
      for (int64_t r = 0; r < work.rows.size(); ++r)
        for (int64_t part = work.part_begin[r]; part < work.part_begin[r + 1]; ++part) {
          const KeyPart& own = work.parts[part];
          if (part > work.part_begin[r]) CHECK(work.parts[part - 1].slot <= own.slot);
          seen[{work.rows[r], own.slot}] += static_cast<double>(own.share);
        }
      std::map<std::pair<int64_t, int64_t>, double> expected;
      for (const KeyJob& job : work.jobs) {
        if (job.slot == kNone) continue;
        // The list of the plan by its number among all lists.
        int64_t number = 0;
        for (const Phase& each : plan.phases)
          for (const Pass& pass : each.passes)
            for (const KeyList& list : pass.lists) {
              if (number++ != job.list) continue;
              for (int64_t i = 0; i < job.count; ++i) {
                const int64_t row = list.order[job.rank + i];
                const int64_t base = pass.key_head * 170;
                if (!list.synthetic) {
                  expected[{base + row, job.slot + i}] += 1;
                  continue;
                }
                const auto s = static_cast<size_t>(row);
                for (int64_t m = list.synthetic->member_begin[s]; m < list.synthetic->member_begin[s + 1];
                     ++m)
                  expected[{base + list.synthetic->member_order[m], job.slot + i}] +=
                      static_cast<double>(list.synthetic->share(row, m));
              }
            }
      }
      INFO("plan " << seed << ", phase " << phase);
      REQUIRE(seen.size() == expected.size());
      double worst = 0;
      for (const auto& [pair, share] : expected)
        worst = std::max(worst, std::abs(seen.count(pair) != 0 ? seen[pair] - share : 1e9));
      CHECK(worst < 1e-6);
    }
  }
}

TEST_CASE("no two jobs of a round without slots have a key in common, and jobs with slots come last") {
  int64_t without_slots = 0;
  for (uint64_t seed = 0; seed < 24; ++seed) {
    const RandomProblem p({90, 170, 3, 2, 1, 4, false, seed % 2 == 0 ? 2 : 0});
    const Plan plan = RandomPlan(p.problem, plan_families()[seed % 3], seed).make();
    const FlatPlan flat = flatten(p.problem, plan);
    for (size_t phase = 0; phase < plan.phases.size(); ++phase) {
      const KeyWork work = invert(p.problem, plan, flat, static_cast<int64_t>(phase));
      INFO("plan " << seed << ", phase " << phase);
      int64_t job = 0;
      for (const int64_t end : work.round_end) {
        std::set<int64_t> keys;
        for (; job < end; ++job) {
          const KeyJob& own = work.jobs[job];
          REQUIRE(own.slot == kNone);
          const FlatList& list = flat.lists[static_cast<size_t>(own.list)];
          for (int64_t i = 0; i < own.count; ++i)
            CHECK(keys.insert(list.source_row + at(flat, list.order, own.rank + i)).second);
          ++without_slots;
        }
        if (end == work.round_end[0])
          CHECK(work.covers_keys ==
                (static_cast<int64_t>(keys.size()) == p.problem.key_heads() * p.problem.key_count()));
      }
      for (; job < work.jobs.size(); ++job) CHECK(work.jobs[job].slot != kNone);
    }
  }
  CHECK(without_slots > 0);
}

TEST_CASE("jobs of more ranks have the same keys, and a first round of all keys says so") {
  const RandomProblem p({70, 300, 3, 2, 1, 4, false, 2});
  const Plan plan = exact_plan(p.problem);
  const FlatPlan flat = flatten(p.problem, plan, kWideTileRows);
  const KeyWork work = invert(p.problem, plan, flat, 0, kWideTileRows);
  CHECK(work.covers_keys);
  CHECK(work.round_end == std::vector<int64_t>{6, 12});  // 128 + 128 + 44 ranks of two heads each
  for (const KeyJob& job : work.jobs) CHECK(job.count == (job.rank < 256 ? 128 : 44));

  const RandomProblem long_one({3000, 300, 3, 2, 1, 1});  // so many rows that all blocks are cut
  const Plan cut = exact_plan(long_one.problem);
  CHECK(!invert(long_one.problem, cut, flatten(long_one.problem, cut), 0).covers_keys);
}

TEST_CASE("a block of keys that very many rows visit is cut into several jobs of bounded length") {
  const RandomProblem p({9000, 70, 1, 1, 1, 1});
  const Plan plan = exact_plan(p.problem);
  const FlatPlan flat = flatten(p.problem, plan);
  const KeyWork work = invert(p.problem, plan, flat, 0);
  std::map<int32_t, int64_t> rows_of_block;
  for (const KeyJob& job : work.jobs) {
    int64_t rows = 0;
    for (int64_t i = job.first_item; i < job.last_item; ++i) rows += work.items[i].end - work.items[i].begin;
    CHECK(rows <= 2048);
    rows_of_block[job.rank] += rows;
  }
  CHECK(rows_of_block == std::map<int32_t, int64_t>{{0, 9000}, {64, 9000}});
  CHECK(work.jobs.size() == 10);
}

/// Numbers of a card that is the host.
class HostNumbers final : public RemoteNumbers {
 public:
  explicit HostNumbers(std::vector<int32_t> numbers) : numbers_(std::move(numbers)) {}
  [[nodiscard]] int64_t count() const override { return static_cast<int64_t>(numbers_.size()); }
  [[nodiscard]] const int32_t* on_device() const override { return numbers_.data(); }
  [[nodiscard]] const std::vector<int32_t>& on_host() const override { return numbers_; }

 private:
  std::vector<int32_t> numbers_;
};

/// A problem whose engine finds blocks itself.
class BlocksProblem final : public BoundProblem {
 public:
  using BoundProblem::BoundProblem;
  [[nodiscard]] bool takes_sampled_blocks() const override { return true; }
  [[nodiscard]] std::vector<SortedRows> sort_by_bucket(const std::vector<SortRequest>& requests,
                                                       int64_t bucket_count, BucketOrder order,
                                                       SortSeconds* seconds) const override {
    std::vector<SortedRows> sorted = BoundProblem::sort_by_bucket(requests, bucket_count, order, seconds);
    for (size_t r = 0; r < sorted.size(); ++r) {
      if (requests[r].asked_rows != nullptr) sorted[r].asked = asked_of(requests[r], sorted[r]);
      sorted[r] = {{}, {}, std::make_shared<const HostNumbers>(sorted[r].order), sorted[r].asked};
    }
    return sorted;
  }

 private:
  static RemoteRanks asked_of(const SortRequest& request, const SortedRows& sorted) {
    std::vector<int32_t> ranks;
    for (const int32_t row : *request.asked_rows) ranks.push_back(sorted.ranks[static_cast<size_t>(row)]);
    std::vector<int32_t> increasing = ranks;
    std::sort(increasing.begin(), increasing.end());
    std::vector<int32_t> rows;
    for (const int32_t rank : increasing) rows.push_back(sorted.order[static_cast<size_t>(rank)]);
    return {std::make_shared<const HostNumbers>(ranks), std::make_shared<const HostNumbers>(increasing),
            std::make_shared<const HostNumbers>(rows)};
  }
};

/// The flat plan with the tiles and visits of its blocks, as the card writes them; returns what they leave
/// out.
int64_t write_blocks(FlatPlan& flat, int64_t tile_rows) {
  Buffer<FlatTile> tiles(flat.tiles.size() + flat.block_tiles);
  Buffer<FlatVisit> visits(flat.visits.size() + flat.block_visits);
  std::copy(flat.tiles.begin(), flat.tiles.end(), tiles.data());
  std::copy(flat.visits.begin(), flat.visits.end(), visits.data());
  const BlockTarget target{tiles.data(), visits.data(), flat.identity, static_cast<int32_t>(tile_rows)};
  int64_t excluded = 0;
  for (const FlatBlocks& own : flat.blocks)
    for (int64_t number = 0; number < own.block_count * own.block_tiles; ++number)
      excluded += write_block_tile(own, target, number);
  flat.tiles = std::move(tiles);
  flat.visits = std::move(visits);
  return excluded;
}

void check_same_groups(const Plan& seen, const Plan& expected) {
  REQUIRE(seen.phases.size() == expected.phases.size());
  for (size_t phase = 0; phase < seen.phases.size(); ++phase) {
    REQUIRE(seen.phases[phase].passes.size() == expected.phases[phase].passes.size());
    for (size_t p = 0; p < seen.phases[phase].passes.size(); ++p) {
      const Pass& a = seen.phases[phase].passes[p];
      const Pass& b = expected.phases[phase].passes[p];
      INFO("phase " << phase << ", pass " << p);
      REQUIRE(a.groups.size() == b.groups.size());
      for (size_t g = 0; g < a.groups.size(); ++g) {
        CHECK(a.groups[g].begin == b.groups[g].begin);
        CHECK(a.groups[g].end == b.groups[g].end);
        CHECK(a.groups[g].is_last == b.groups[g].is_last);
      }
      CHECK(a.excluded == b.excluded);
      CHECK(a.visits.size() == b.visits.size());
    }
  }
}

TEST_CASE("blocks that an engine finds itself are the groups that the host lists") {
  int64_t with_blocks = 0;
  for (const ProblemSize& size : {ProblemSize{400, 400, 5, 4, 1, 2}, ProblemSize{1001, 333, 5, 4, 1, 2},
                                  ProblemSize{300, 511, 5, 4, 2, 2}, ProblemSize{400, 400, 5, 4, 1, 2, true},
                                  ProblemSize{331, 500, 5, 4, 1, 1, true}})
    for (const Settings& extra :
         {Settings{}, Settings{{"sampling", std::string("uniform_iid")}},
          Settings{{"collisions", std::string("count")}}, Settings{{"sampling", std::string("value_norm")}},
          Settings{{"residual", std::string("none")}}})
      for (const int64_t block : {64, 1000}) {
        const RandomProblem p(size);
        Settings settings = {
            {"min_seq_len", int64_t{128}}, {"block_size", block}, {"sample_size", int64_t{48}}};
        settings.insert(settings.end(), extra.begin(), extra.end());
        const Call call = call_for("hyper", settings);
        INFO(to_string(size) << ", blocks of " << block << ", " << (extra.empty() ? "" : extra[0].first));
        const BlocksProblem bound(p.problem, default_engine());
        const PlannedCall left = backend_named("hyper").method().plan(bound, call);
        const PlannedCall host = planned("hyper", p.problem, settings);
        const Plan listed = with_groups(*left.plan);
        check_same_groups(listed, *host.plan);
        const DoubleResult seen = run_plan_in_double(p.problem, listed);
        const DoubleResult expected = run_plan_in_double(p.problem, *host.plan);
        CHECK(largest_difference(seen.out, expected.out) == 0);
        CHECK(check_plan(p.problem, *left.plan) == "");
        with_blocks += has_sampled_blocks(*left.plan) ? 1 : 0;
        if (block == 1000 && !extra.empty() && extra[0].first == "residual")
          CHECK(has_sampled_blocks(*left.plan));
        const int64_t tile_rows = extra.empty() ? kTileRows : kWidestTileRows;
        FlatPlan flat = flatten(p.problem, *left.plan, tile_rows);
        const int64_t excluded = write_blocks(flat, tile_rows);
        FlatWalk walk(flat);
        walk.walk_tiles();
        check_equal(walk.sums, entries_of(p.problem, *host.plan, flat));
        CHECK(count_entries(*left.plan) - excluded == count_entries(*host.plan));
        CHECK(count_excluded(*left.plan) + excluded == count_excluded(*host.plan));
        int64_t rows = 0;
        int64_t last_rows = 0;
        for (const FlatTile& tile : flat.tiles) {
          rows += tile.count;
          last_rows += tile.is_last != 0 ? tile.count : 0;
        }
        CHECK(flat.rows == rows);
        CHECK(flat.last_rows == last_rows);
        CHECK(last_rows == p.problem.heads() * p.problem.query_count());
      }
  CHECK(with_blocks > 12);
}

}  // namespace
}  // namespace hyperattn::testing
