// Bytes that a forward pass moves, against sums that are made by hand for plans of known form.
#include "algorithms/engines/cpu/traffic.h"

#include <catch2/catch.hpp>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/engines/cpu/schedule.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/plan_builder.h"
#include "core/parallel.h"
#include "tests/algorithms/engines/cpu/engine_cases.h"

namespace hyperattn {
namespace {

using namespace testing;

constexpr int64_t kStateOfRow = 4 + 8;              // reference and sum
constexpr int64_t kTile = 256 * (64 + 48 + 1) * 4;  // keys, values and biases, d = 64, d_v = 48

TEST_CASE("traffic: blocks gather their keys once, in tiles of their own", "[traffic]") {
  // 10 blocks of 80 rows in shuffled orders of 800; each sees its own 80 keys.
  const OwnedProblem owned({1, 2, 800, 800, 64, 48});
  PlanBuilder plan;
  plan.phase();
  for (int64_t head = 0; head < 2; ++head) {
    PassBuilder pass(owned.problem, head, 0, RowOrder::list(permutation(800, 3)));
    const int32_t keys = pass.add_keys(RowOrder::list(permutation(800, 5)), Stage::block);
    for (int64_t begin = 0; begin < 800; begin += 80)
      pass.group(begin, begin + 80).visit(keys, begin, begin + 80);
    plan.add(pass.take());
  }
  const ForwardTraffic seen = count_forward_traffic(owned.problem, plan.take());
  // 80 rows are two tiles of at most 48, where rows are few: each gathers the block's keys.
  const int64_t tiles_of_block = 2;
  const int64_t rows = 2 * 800;
  CHECK(seen.hash == 2 * rows * (64 * 4 + 4));
  CHECK(seen.sort == 2 * rows * (4 + 4 + 4));
  CHECK(seen.queries == rows * 64 * 4);
  CHECK(seen.gathers == tiles_of_block * rows * (64 + 48) * 4);
  CHECK(seen.orders == rows * 2 * 4 + tiles_of_block * rows * 2 * 4);
  CHECK(seen.packing == 0);
  CHECK(seen.tiles == 0);
  CHECK(seen.results == rows * (48 * 4 + 4 + kStateOfRow));
  CHECK(seen.total() == seen.hash + seen.sort + seen.queries + seen.gathers + seen.orders + seen.results);
  CHECK(least_forward_bytes(owned.problem) == rows * (64 + 64 + 48 + 48) * 4);
}

TEST_CASE("traffic: exact attention packs keys once and reads them for every tile of rows", "[traffic]") {
  const OwnedProblem owned({1, 1, 5000, 600, 64, 48});
  const Plan plan = exact_plan(owned.problem);
  const TileLayout layout(owned.problem, true);
  const auto jobs =
      static_cast<int64_t>(make_jobs(plan.phases[0], query_tile_rows(plan.phases[0], layout)).size());
  REQUIRE(jobs >= 5000 / 256);
  const ForwardTraffic seen = count_forward_traffic(owned.problem, plan);
  CHECK(seen.planning() == 0);
  CHECK(seen.orders == 0);
  CHECK(seen.gathers == 0);
  CHECK(seen.queries == 5000 * 64 * 4);
  CHECK(seen.packing == 600 * (64 + 48) * 4 + 3 * kTile);
  CHECK(seen.tiles == jobs * 3 * kTile);
  CHECK(seen.results == 5000 * (48 * 4 + 4 + kStateOfRow));
}

TEST_CASE("traffic: a second phase reads what the first has summed, and rows are finished apart",
          "[traffic]") {
  const OwnedProblem owned({1, 1, 300, 90, 64, 48});
  PlanBuilder plan;
  for (int phase = 0; phase < 2; ++phase) {
    plan.phase();
    PassBuilder pass(owned.problem, 0, 0, RowOrder::run(0, 300));
    plan.add(pass.everything_sees_all(pass.add_keys(RowOrder::run(0, 90), Stage::exact)).take());
  }
  const ForwardTraffic seen = count_forward_traffic(owned.problem, plan.take());
  const int64_t state = 48 * 4 + kStateOfRow;
  CHECK(seen.results == 300 * (state + 2 * state + state + 48 * 4 + 4));
  CHECK(seen.queries == 2 * 300 * 64 * 4);
}

TEST_CASE("traffic: a triangle's rows read no tile behind their diagonal", "[traffic]") {
  const OwnedProblem owned({1, 1, 2000, 2000, 64, 48, 1, true});
  const Plan plan = exact_plan(owned.problem);
  const TileLayout layout(owned.problem, true);
  int64_t tiles = 0;
  for (const QueryJob& job : make_jobs(plan.phases[0], query_tile_rows(plan.phases[0], layout)))
    for (int64_t tile = 0; tile < 2000; tile += 256) tiles += tile <= job.end - 1 ? 1 : 0;
  const ForwardTraffic seen = count_forward_traffic(owned.problem, plan);
  CHECK(seen.tiles == tiles * kTile);
  CHECK(seen.gathers == 0);
}

TEST_CASE("traffic: the number of threads changes nothing", "[traffic]") {
  const EngineCase c{1, 2, 1300, 700, 64, 48};
  const OwnedProblem owned(c);
  const Plan plan = two_phase_plan(c, owned, 140);
  const int before = thread_count();
  set_thread_count(1);
  const int64_t one = count_forward_traffic(owned.problem, plan).total();
  set_thread_count(3);
  const int64_t three = count_forward_traffic(owned.problem, plan).total();
  set_thread_count(before);
  CHECK(one == three);
  CHECK(one > least_forward_bytes(owned.problem));
}

}  // namespace
}  // namespace hyperattn
