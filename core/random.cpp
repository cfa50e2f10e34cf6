#include "core/random.h"

#include <Random123/philox.h>

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <numbers>

namespace hyperattn {
namespace {

using Philox = r123::Philox4x32;

__extension__ using UInt128 = unsigned __int128;

/// Integers ≥ 0 in a table of at least twice as many places, found by looking from a place of their own
/// onwards. Drawing takes half of the time that it takes with a set of the standard library, which asks for
/// memory for each.
class SmallSet {
 public:
  explicit SmallSet(int64_t count)
      : shift_(64 - std::bit_width(static_cast<uint64_t>(2 * count + 1))),
        places_(size_t{1} << (64 - shift_), -1) {}

  /// False where it is there already.
  bool insert(int32_t number) {
    size_t place = static_cast<uint64_t>(number) * 0x9E3779B97F4A7C15U >> shift_;
    for (; places_[place] >= 0; place = (place + 1) & (places_.size() - 1))
      if (places_[place] == number) return false;
    places_[place] = number;
    return true;
  }

 private:
  int shift_;
  std::vector<int32_t> places_;
};

double unit_interval(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

uint64_t join(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, Purpose purpose, uint32_t trial, uint32_t head, uint32_t node) {
  const Philox::key_type seed_key = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const Philox::ctr_type name = {{static_cast<uint32_t>(purpose), trial, head, node}};
  const Philox::ctr_type derived = Philox()(name, seed_key);
  key_[0] = derived[0];
  key_[1] = derived[1];
  counter_high_[0] = derived[2];
  counter_high_[1] = derived[3];
}

uint64_t RandomStream::bits(uint64_t index) const {
  const Philox::ctr_type block = Philox()({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                            counter_high_[0], counter_high_[1]}},
                                          {{key_[0], key_[1]}});
  return join(block[0], block[1]);
}

double RandomStream::uniform(uint64_t index) const {
  return unit_interval(bits(index));
}

double RandomStream::normal(uint64_t index) const {
  const Philox::ctr_type block = Philox()({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                            counter_high_[0], counter_high_[1]}},
                                          {{key_[0], key_[1]}});
  // 1 - u lies in (0, 1], so the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - unit_interval(join(block[0], block[1]))));
  return radius * std::cos(2.0 * std::numbers::pi * unit_interval(join(block[2], block[3])));
}

uint64_t RandomStream::below(uint64_t index, uint64_t bound) const {
  return static_cast<uint64_t>((static_cast<UInt128>(bits(index)) * bound) >> 64);
}

std::vector<int32_t> sample_without_replacement(const RandomStream& stream, int64_t population,
                                                int64_t count) {
  assert(0 <= count && count <= population);
  SmallSet chosen(count);
  std::vector<int32_t> result;
  result.reserve(static_cast<size_t>(count));
  for (int64_t last = population - count; last < population; ++last) {
    const auto draw =
        static_cast<int32_t>(stream.below(static_cast<uint64_t>(last), static_cast<uint64_t>(last) + 1));
    const int32_t taken = chosen.insert(draw) ? draw : static_cast<int32_t>(last);
    if (taken != draw) chosen.insert(taken);
    result.push_back(taken);
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace hyperattn
