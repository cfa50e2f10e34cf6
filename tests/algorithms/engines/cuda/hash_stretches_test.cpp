// Stretches of rows against the intervals that they were cut from, row by row.
#include "algorithms/engines/cuda/hash_stretches.h"

#include <catch2/catch.hpp>
#include <map>
#include <utility>
#include <vector>

#include "core/random.h"

namespace hyperattn::cuda {
namespace {

/// Of each (row, function): where its number goes.
using Numbers = std::map<std::pair<int64_t, int64_t>, int64_t>;

Numbers numbers_of(const std::vector<HashedInterval>& intervals) {
  Numbers numbers;
  for (const HashedInterval& own : intervals)
    for (int64_t row = own.begin; row < own.end; ++row)
      numbers[{row, own.task.directions}] = own.task.numbers + row - own.begin;
  return numbers;
}

/// Checks that no row lies in two stretches, and that blocks are those that rows need.
Numbers walk(const Stretches& stretches) {
  Numbers numbers;
  int64_t block = 0;
  int32_t task = 0;
  std::map<std::pair<int32_t, int64_t>, int> times;
  for (const HashStretch& own : stretches.all) {
    CHECK(own.first_block == block);
    block += (own.count + kHashRows - 1) / kHashRows;
    CHECK(own.count > 0);
    CHECK(own.first_task == task);
    CHECK(own.last_task > own.first_task);
    task = own.last_task;
    for (int64_t row = 0; row < own.count; ++row) {
      CHECK(++times[{own.of_keys, own.first_row + row}] == 1);
      for (int32_t t = own.first_task; t < own.last_task; ++t) {
        const HashTask& hash = stretches.tasks[static_cast<size_t>(t)];
        numbers[{own.first_row + row, hash.directions}] = hash.numbers + row;
      }
    }
  }
  CHECK(stretches.blocks == block);
  CHECK(static_cast<int32_t>(stretches.tasks.size()) == task);
  return numbers;
}

TEST_CASE("halves of halves are read once, by a function of each level") {
  // The second halves of [0, 8), [0, 4) and [4, 8): rows 4 to 7, 2 to 3 and 6 to 7.
  const Stretches stretches({{4, 8, {0, 0}}, {2, 4, {10, 16}}, {6, 8, {20, 32}}}, 1);
  REQUIRE(stretches.all.size() == 3);
  CHECK(stretches.all[0].first_row == 2);
  CHECK(stretches.all[1].first_row == 4);
  CHECK(stretches.all[2].first_row == 6);
  CHECK(stretches.all[2].count == 2);
  CHECK(stretches.all[2].of_keys == 1);
  REQUIRE(stretches.tasks.size() == 4);
  CHECK(stretches.tasks[2].directions == 0);
  CHECK(stretches.tasks[2].numbers == 2);
  CHECK(stretches.tasks[3].directions == 20);
  CHECK(stretches.tasks[3].numbers == 32);
}

TEST_CASE("stretches hold each row of each request once") {
  const RandomStream stream(9, Purpose::other);
  uint64_t next = 0;
  const auto below = [&](int64_t bound) {
    return static_cast<int64_t>(stream.below(next++, static_cast<uint64_t>(bound)));
  };
  for (int run = 0; run < 60; ++run) {
    std::vector<HashedInterval> intervals;
    int64_t numbers = 0;
    const int64_t count = below(12);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t begin = below(3000);
      const int64_t rows = below(run % 2 == 0 ? 40 : 2500);
      intervals.push_back({begin, begin + rows, {i * 64, numbers}});
      numbers += rows;
    }
    INFO("run " << run);
    Stretches stretches(intervals, 0);
    CHECK(walk(stretches) == numbers_of(intervals));
    stretches.append(Stretches({{5, 9, {7777, numbers}}}, 1));
    intervals.push_back({5, 9, {7777, numbers}});
    CHECK(walk(stretches) == numbers_of(intervals));
  }
}

}  // namespace
}  // namespace hyperattn::cuda
