// SHA-256 (FIPS 180-4), to state which text a figure was measured on. Not for secrets.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace hyperattn {

/// The digest of bytes that come in pieces.
class Sha256 {
 public:
  Sha256();
  void add(std::string_view bytes);
  /// 64 lower-case hexadecimal digits. Nothing can be added afterwards.
  [[nodiscard]] std::string finish();

 private:
  std::array<uint32_t, 8> state_;
  uint64_t bytes_ = 0;
  std::string rest_;  ///< less than a block
};

/// The digest of the bytes, as 64 lower-case hexadecimal digits. O(size), one thread.
[[nodiscard]] std::string sha256(std::string_view bytes);

}  // namespace hyperattn
