// Text in UTF-8 where bytes are counted.
#pragma once

#include <string>

namespace hyperattn {

/// The longest beginning of `text` that has at most `limit` bytes and ends between characters.
[[nodiscard]] std::string cut_utf8(const std::string& text, size_t limit);

/// Bytes of the UTF-8 sequence that starts at `position`, 0 if it is not well-formed.
[[nodiscard]] size_t utf8_length(const std::string& text, size_t position);

[[nodiscard]] bool is_utf8(const std::string& text);

/// The text as a terminal may have it: line breaks and tabs stay, other control characters and bytes that are
/// not UTF-8 become \xNN. What a message quotes may come from any file.
[[nodiscard]] std::string printable(const std::string& text);

}  // namespace hyperattn
