// Text in UTF-8 where bytes are counted.
#pragma once

#include <string>

namespace hyperattn {

/// The longest beginning of `text` that has at most `limit` bytes and ends between characters.
[[nodiscard]] inline std::string cut_utf8(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

}  // namespace hyperattn
