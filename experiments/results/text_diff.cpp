#include "experiments/results/text_diff.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <sstream>
#include <vector>

namespace hyperattn {
namespace {

// Beyond this, the table of common subsequences would be large; then all lines count as different.
constexpr size_t kMaxLines = 3000;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// Longest common subsequence of the tails a[i…], b[j…], for all i and j.
std::vector<std::vector<int32_t>> common_tails(const std::vector<std::string>& a,
                                               const std::vector<std::string>& b) {
  std::vector<std::vector<int32_t>> length(a.size() + 1, std::vector<int32_t>(b.size() + 1, 0));
  for (size_t i = a.size(); i-- > 0;)
    for (size_t j = b.size(); j-- > 0;)
      length[i][j] = a[i] == b[j] ? length[i + 1][j + 1] + 1 : std::max(length[i + 1][j], length[i][j + 1]);
  return length;
}

std::vector<std::string> differing_lines(const std::vector<std::string>& a,
                                         const std::vector<std::string>& b) {
  std::vector<std::string> result;
  size_t i = 0;
  size_t j = 0;
  if (a.size() <= kMaxLines && b.size() <= kMaxLines) {
    const auto length = common_tails(a, b);
    while (i < a.size() && j < b.size()) {
      if (a[i] == b[j]) {
        ++i;
        ++j;
      } else if (length[i + 1][j] >= length[i][j + 1]) {
        result.push_back("- " + a[i++]);
      } else {
        result.push_back("+ " + b[j++]);
      }
    }
  }
  while (i < a.size()) result.push_back("- " + a[i++]);
  while (j < b.size()) result.push_back("+ " + b[j++]);
  return result;
}

}  // namespace

std::string text_diff(const std::string& before, const std::string& after, int limit) {
  const std::vector<std::string> lines = differing_lines(lines_of(before), lines_of(after));
  std::string text;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (static_cast<int>(i) == limit) return fmt::format("{}… and {} more lines\n", text, lines.size() - i);
    text += lines[i] + "\n";
  }
  return text;
}

}  // namespace hyperattn
