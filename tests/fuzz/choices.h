// Turns the fuzzer's bytes into decisions, so that every input means something: a mutated byte is another
// decision.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

namespace hyperattn::fuzz {

/// Decisions in the order in which they are asked for. When the bytes are used up, every decision is the
/// first choice; the first choices together should give a good input.
class Choices {
 public:
  explicit Choices(const std::string& bytes) : bytes_(bytes) {}

  uint8_t byte() { return next_ < bytes_.size() ? static_cast<uint8_t>(bytes_[next_++]) : 0; }
  /// In [0, count), count at most 256.
  size_t below(size_t count) { return byte() % count; }
  /// True for one value of the byte in `rarity`.
  bool rarely(size_t rarity) { return below(rarity) == rarity - 1; }
  int64_t integer64() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return static_cast<int64_t>(value);
  }
  template <class T>
  const T& of(const T* begin, const T* end) {
    return begin[below(static_cast<size_t>(end - begin))];
  }
  template <class Array>
  const auto& of(const Array& array) {
    return of(std::data(array), std::data(array) + std::size(array));
  }
  /// Up to `count` of the bytes that are left, then zeros.
  std::string text(size_t count) {
    const size_t taken = std::min(count, bytes_.size() - next_);
    std::string result = bytes_.substr(next_, taken);
    next_ += taken;
    result.resize(count, '\0');
    return result;
  }

 private:
  const std::string& bytes_;
  size_t next_ = 0;
};

}  // namespace hyperattn::fuzz
