#include "core/random.h"

#include <Random123/philox.h>

#include <algorithm>
#include <bit>
#include <cassert>

#include "core/box_muller.h"
#include "core/cloned.h"

namespace hyperattn {
namespace {

using Philox = r123::Philox4x32;

__extension__ using UInt128 = unsigned __int128;

double unit_interval(uint64_t bits) {
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

uint64_t join(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}

uint64_t scaled(uint64_t bits, uint64_t bound) {
  return static_cast<uint64_t>((static_cast<UInt128>(bits) * bound) >> 64);
}

/// The halves of blocks of consecutive indices, side by side, which compilers make vectors of.
constexpr int kSideBySide = 16;
constexpr int kStretch = 4 * kSideBySide;
struct PhiloxHalves {
  uint64_t low[kStretch];
  uint64_t high[kStretch];
};

/// What Random123 computes one by one, for kSideBySide indices from `first` on: 448 take 1.8 µs in place of
/// 6.7 (Xeon with AVX-512). Words are held in 64 bits, whose products need no moves.
HYPERATTN_CLONED void philox_side_by_side(uint64_t first, const uint32_t* key, const uint32_t* counter_high,
                                          uint64_t* low, uint64_t* high) {
  for (int i = 0; i < kSideBySide; ++i) {
    const uint64_t index = first + static_cast<uint64_t>(i);
    uint64_t x[4] = {static_cast<uint32_t>(index), index >> 32, counter_high[0], counter_high[1]};
    uint32_t key_0 = key[0];
    uint32_t key_1 = key[1];
    for (int round = 0; round < PHILOX4x32_DEFAULT_ROUNDS; ++round) {
      const uint64_t product_0 = uint64_t{PHILOX_M4x32_0} * static_cast<uint32_t>(x[0]);
      const uint64_t product_1 = uint64_t{PHILOX_M4x32_1} * static_cast<uint32_t>(x[2]);
      x[0] = (product_1 >> 32) ^ x[1] ^ key_0;
      x[2] = (product_0 >> 32) ^ x[3] ^ key_1;
      x[1] = static_cast<uint32_t>(product_1);
      x[3] = static_cast<uint32_t>(product_0);
      key_0 += PHILOX_W32_0;
      key_1 += PHILOX_W32_1;
    }
    low[i] = x[1] << 32 | x[0];
    high[i] = x[3] << 32 | x[2];
  }
}

/// body(begin, n, halves) with the blocks of the indices first + begin, …, n of them, for all of [0, count).
template <class Body>
void for_each_stretch(uint64_t first, int64_t count, const uint32_t* key, const uint32_t* counter_high,
                      const Body& body) {
  PhiloxHalves halves;
  for (int64_t begin = 0; begin < count; begin += kStretch) {
    const int64_t stretch = std::min<int64_t>(kStretch, count - begin);
    for (int64_t i = 0; i < stretch; i += kSideBySide)
      philox_side_by_side(first + static_cast<uint64_t>(begin + i), key, counter_high, halves.low + i,
                          halves.high + i);
    body(begin, stretch, halves);
  }
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, Purpose purpose, uint32_t trial, uint32_t head, uint32_t node) {
  const Philox::key_type seed_key = {{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}};
  const Philox::ctr_type name = {{static_cast<uint32_t>(purpose), trial, head, node}};
  const Philox::ctr_type derived = Philox()(name, seed_key);
  name_.key[0] = derived[0];
  name_.key[1] = derived[1];
  name_.counter_high[0] = derived[2];
  name_.counter_high[1] = derived[3];
}

uint64_t RandomStream::bits(uint64_t index) const {
  const Philox::ctr_type block = Philox()({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                            name_.counter_high[0], name_.counter_high[1]}},
                                          {{name_.key[0], name_.key[1]}});
  return join(block[0], block[1]);
}

double RandomStream::uniform(uint64_t index) const {
  return unit_interval(bits(index));
}

double RandomStream::normal(uint64_t index) const {
  const Philox::ctr_type block = Philox()({{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                                            name_.counter_high[0], name_.counter_high[1]}},
                                          {{name_.key[0], name_.key[1]}});
  const uint64_t low = join(block[0], block[1]);
  const uint64_t high = join(block[2], block[3]);
  double number = 0;
  box_muller(&low, &high, 1, &number);
  return number;
}

void RandomStream::normals(uint64_t first, int64_t count, double* target) const {
  for_each_stretch(first, count, name_.key, name_.counter_high,
                   [&](int64_t begin, int64_t stretch, const PhiloxHalves& halves) {
                     box_muller(halves.low, halves.high, stretch, target + begin);
                   });
}

uint64_t RandomStream::below(uint64_t index, uint64_t bound) const {
  return scaled(bits(index), bound);
}

void RandomStream::below_last(uint64_t first, int64_t count, int32_t* target) const {
  for_each_stretch(first, count, name_.key, name_.counter_high,
                   [&](int64_t begin, int64_t stretch, const PhiloxHalves& halves) {
                     for (int64_t i = begin; i < begin + stretch; ++i)
                       target[i] = static_cast<int32_t>(
                           scaled(halves.low[i - begin], first + static_cast<uint64_t>(i) + 1));
                   });
}

namespace {

/// A set of numbers below a bound: a bit for each, and one for each word of 64 of them that has any.
class NumberSet {
 public:
  explicit NumberSet(int64_t bound)
      : words_(static_cast<size_t>(bound / 64 + 1), 0), filled_(words_.size() / 64 + 1, 0) {}

  /// Whether it was not there.
  bool insert(int64_t number) {
    const auto word = static_cast<size_t>(number / 64);
    const uint64_t bit = uint64_t{1} << (number % 64);
    const bool is_new = (words_[word] & bit) == 0;
    words_[word] |= bit;
    filled_[word / 64] |= uint64_t{1} << (word % 64);
    return is_new;
  }

  /// Writes them in increasing order.
  void write(int32_t* target) const {
    for_each_bit(filled_, [&](size_t word) {
      for_each_bit(words_[word], word * 64, [&](size_t number) { *target++ = static_cast<int32_t>(number); });
    });
  }

 private:
  template <class Body>
  static void for_each_bit(uint64_t bits, size_t first, const Body& body) {
    for (; bits != 0; bits &= bits - 1) body(first + static_cast<size_t>(std::countr_zero(bits)));
  }
  template <class Body>
  static void for_each_bit(const std::vector<uint64_t>& words, const Body& body) {
    for (size_t w = 0; w < words.size(); ++w) for_each_bit(words[w], w * 64, body);
  }

  std::vector<uint64_t> words_;
  std::vector<uint64_t> filled_;
};

}  // namespace

std::vector<int32_t> sample_without_replacement(const RandomStream& stream, int64_t population,
                                                int64_t count) {
  assert(0 <= count && count <= population);
  std::vector<int32_t> draws(static_cast<size_t>(count));
  stream.below_last(static_cast<uint64_t>(population - count), count, draws.data());
  NumberSet chosen(population);
  for (int64_t i = 0; i < count; ++i)
    if (!chosen.insert(draws[static_cast<size_t>(i)])) chosen.insert(population - count + i);
  chosen.write(draws.data());
  return draws;
}

}  // namespace hyperattn
