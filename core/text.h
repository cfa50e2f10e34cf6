// Words and figures for people, in one place: lists, plurals, sizes and times.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace hyperattn {

/// "a, b, c".
[[nodiscard]] std::string join(const std::vector<std::string>& words, std::string_view separator = ", ");

/// The same of what text_of(item) says of each item.
template <class Items, class TextOf>
[[nodiscard]] std::string join_of(const Items& items, const TextOf& text_of,
                                  std::string_view separator = ", ") {
  std::vector<std::string> words;
  for (const auto& item : items) words.push_back(text_of(item));
  return join(words, separator);
}

/// "1 trial", "3 trials", "0 trials": for words whose plural has an s.
[[nodiscard]] std::string counted(int64_t count, std::string_view word);
[[nodiscard]] std::string counted(size_t count, std::string_view word);

/// "0.0123", "1.23e+10": `digits` significant digits; "" for NaN.
[[nodiscard]] std::string figure_text(double value, int digits = 4);
/// "3.2 %" of 0.032: three significant digits.
[[nodiscard]] std::string percent_text(double share);
/// What was measured: "12.3 ms"; "" for NaN.
[[nodiscard]] std::string seconds_text(double seconds);
/// What is waited for: "1 h 05 min", "3 min 20 s", "12 s".
[[nodiscard]] std::string duration_text(double seconds);
/// "1.5 GiB"; "" for a negative number.
[[nodiscard]] std::string bytes_text(double bytes);
/// 2.5e9, "FLOP": "2.5 GFLOP".
[[nodiscard]] std::string quantity_text(double value, const char* unit);

}  // namespace hyperattn
