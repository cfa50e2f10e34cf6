// How rows that several hash functions hash are cut for the card, so that each is read once. Nothing here
// needs a device.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "algorithms/engines/cuda/sort.h"

namespace hyperattn::cuda {

/// The rows of a request among those of a tensor, and the task of the first of them.
struct HashedInterval {
  int64_t begin;
  int64_t end;
  HashTask task;
};

/// Stretches of rows that the same requests have, so that each is read once.
struct Stretches {
  Stretches() = default;
  /// Numbers are sorted and not intervals, which takes a fifth of the time.
  Stretches(const std::vector<HashedInterval>& intervals, int32_t of_keys) {
    std::vector<std::pair<int64_t, size_t>> begins;
    std::vector<int64_t> borders;
    begins.reserve(intervals.size());
    borders.reserve(2 * intervals.size());
    for (const HashedInterval& own : intervals) {
      begins.emplace_back(own.begin, begins.size());
      borders.insert(borders.end(), {own.begin, own.end});
    }
    std::sort(begins.begin(), begins.end());
    std::sort(borders.begin(), borders.end());
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    std::vector<HashedInterval> open;  // those that the next stretch lies in
    auto next = begins.begin();
    for (size_t i = 0; i + 1 < borders.size(); ++i) {
      const int64_t begin = borders[i];
      open.erase(std::remove_if(open.begin(), open.end(),
                                [&](const HashedInterval& own) { return own.end <= begin; }),
                 open.end());
      for (; next != begins.end() && next->first == begin; ++next)
        if (intervals[next->second].end > begin) open.push_back(intervals[next->second]);
      if (open.empty()) continue;
      const auto first_task = static_cast<int32_t>(tasks.size());
      for (const HashedInterval& own : open)
        tasks.push_back({own.task.directions, own.task.numbers + begin - own.begin});
      all.push_back({begin, borders[i + 1] - begin, of_keys, static_cast<int32_t>(blocks), first_task,
                     static_cast<int32_t>(tasks.size())});
      blocks += (all.back().count + kHashRows - 1) / kHashRows;
    }
  }

  /// Those of another tensor after them.
  void append(const Stretches& others) {
    for (HashStretch other : others.all) {
      other.first_block += static_cast<int32_t>(blocks);
      other.first_task += static_cast<int32_t>(tasks.size());
      other.last_task += static_cast<int32_t>(tasks.size());
      all.push_back(other);
    }
    tasks.insert(tasks.end(), others.tasks.begin(), others.tasks.end());
    blocks += others.blocks;
  }

  std::vector<HashStretch> all;
  std::vector<HashTask> tasks;
  int64_t blocks = 0;
};

}  // namespace hyperattn::cuda
