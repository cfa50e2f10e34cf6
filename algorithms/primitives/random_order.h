// A random order of 0 … n−1 that is drawn as far as it is wanted: its first b numbers are a uniform sample
// without replacement for every b, and do not depend on how far it is drawn.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "core/random.h"

namespace hyperattn {

class RandomOrder {
 public:
  /// Orders of one stream with different numbers are independent. 0 ≤ count < 2³¹.
  RandomOrder(const RandomStream& stream, uint32_t number, int64_t count)
      : stream_(stream), number_(number), count_(count) {}

  /// Draws up to `length` ≤ count numbers. O(1) expected time and memory for each.
  void draw(int64_t length);
  [[nodiscard]] const std::vector<int32_t>& drawn() const { return drawn_; }
  [[nodiscard]] int64_t count() const { return count_; }

 private:
  [[nodiscard]] int32_t at(int64_t place) const;

  RandomStream stream_;
  uint32_t number_;
  int64_t count_;
  std::vector<int32_t> drawn_;
  std::unordered_map<int64_t, int32_t> moved_;  // places beyond the drawn ones that hold another number
};

}  // namespace hyperattn
