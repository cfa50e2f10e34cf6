#include "core/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <iterator>

namespace hyperattn {
namespace {

std::string formatted(double value, int digits, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*g%s", digits, value, unit);
  return text.data();
}

/// `value` with three significant digits and without an exponent, below 1000.
std::string three_digits(double value, const char* unit) {
  std::array<char, 64> text{};
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f %s", decimals, value, unit);
  return text.data();
}

}  // namespace

std::string join(const std::vector<std::string>& words, std::string_view separator) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) text += separator;
    text += words[i];
  }
  return text;
}

std::string counted(int64_t count, std::string_view word) {
  return std::to_string(count) + " " + std::string(word) + (count == 1 ? "" : "s");
}

std::string counted(size_t count, std::string_view word) {
  return counted(static_cast<int64_t>(count), word);
}

std::string percent_text(double share) {
  return formatted(100 * share, 3, " %");
}

std::string figure_text(double value, int digits) {
  return std::isnan(value) ? "" : formatted(value, digits, "");
}

std::string seconds_text(double seconds) {
  if (std::isnan(seconds)) return "";
  if (!(seconds < 999.5)) return formatted(seconds, 4, " s");
  if (seconds >= 0.9995) return three_digits(seconds, "s");
  if (seconds >= 0.9995e-3) return three_digits(seconds * 1e3, "ms");
  return three_digits(seconds * 1e6, "µs");
}

std::string bytes_text(double bytes) {
  if (!(bytes >= 0)) return "";
  const std::array<const char*, 5> units{" B", " KiB", " MiB", " GiB", " TiB"};
  size_t unit = 0;
  while (bytes >= 1023.5 && unit + 1 < units.size()) {
    bytes /= 1024;
    ++unit;
  }
  return formatted(bytes, bytes < 999.5 ? 3 : 4, units[unit]);
}

std::string duration_text(double seconds) {
  char text[64];
  const auto whole = static_cast<int64_t>(std::llround(std::max(0.0, std::min(seconds, 1e12))));
  if (whole == 0 && seconds > 0) return "< 1 s";
  if (whole >= 3600)
    std::snprintf(text, sizeof text, "%ld h %02ld min", static_cast<long>(whole / 3600),
                  static_cast<long>(whole / 60 % 60));
  else if (whole >= 60)
    std::snprintf(text, sizeof text, "%ld min %02ld s", static_cast<long>(whole / 60),
                  static_cast<long>(whole % 60));
  else
    std::snprintf(text, sizeof text, "%ld s", static_cast<long>(whole));
  return text;
}

std::string quantity_text(double value, const char* unit) {
  constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P", "E"};
  size_t prefix = 0;
  constexpr double kRoundsTo1000 = 999.5;  // in three digits
  for (; value >= kRoundsTo1000 && prefix + 1 < std::size(kPrefixes); ++prefix) value /= 1000;
  char text[64];
  std::snprintf(text, sizeof text, "%.3g %s%s", value, kPrefixes[prefix], unit);
  return text;
}

}  // namespace hyperattn
