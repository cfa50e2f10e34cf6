#include "algorithms/primitives/random_order.h"

#include <cassert>

namespace hyperattn {

// Fisher and Yates' shuffle from the front, which remembers only what it has moved.
void RandomOrder::draw(int64_t length) {
  assert(length <= count_);
  for (auto place = static_cast<int64_t>(drawn_.size()); place < length; ++place) {
    const uint64_t index = (static_cast<uint64_t>(number_) << 32) | static_cast<uint64_t>(place);
    const int64_t other =
        place + static_cast<int64_t>(stream_.below(index, static_cast<uint64_t>(count_ - place)));
    drawn_.push_back(at(other));
    if (other != place) moved_[other] = at(place);
    moved_.erase(place);
  }
}

int32_t RandomOrder::at(int64_t place) const {
  const auto found = moved_.find(place);
  return found == moved_.end() ? static_cast<int32_t>(place) : found->second;
}

}  // namespace hyperattn
