#include "experiments/running/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/utf8.h"
#include "experiments/running/terminal.h"

namespace hyperattn {
namespace {

constexpr int kBarWidth = 24;

constexpr size_t kNarrow = 80;

}  // namespace

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

Progress::Progress(int64_t total, double total_weight)
    : total_(total), total_weight_(total_weight), terminal_(isatty(STDERR_FILENO) != 0) {
  draw();
}

Progress::~Progress() {
  clear();
}

void Progress::doing(const std::string& what) {
  doing_ = what;
  draw();
}

void Progress::advance(double weight) {
  weight_ += weight;
  draw();
}

void Progress::row_done(const std::string& line, bool must_stay) {
  ++rows_;
  if (!terminal_ || must_stay) {
    clear();
    std::fprintf(stderr, "[%ld/%ld] %s\n", static_cast<long>(rows_), static_cast<long>(total_), line.c_str());
  }
  draw();
}

void Progress::draw() {
  if (!terminal_) return;
  const double share = total_weight_ > 0 ? std::min(1.0, weight_ / total_weight_) : 0;
  const int filled = static_cast<int>(share * kBarWidth);
  std::string line = "[" + std::string(static_cast<size_t>(filled), '=') +
                     std::string(static_cast<size_t>(kBarWidth - filled), ' ') + "] " +
                     std::to_string(rows_) + "/" + std::to_string(total_);
  if (share > 0) line += ", " + duration_text(watch_.seconds() * (1 - share) / share) + " left";
  if (!doing_.empty()) line += "  " + doing_;
  const size_t width = terminal_width(STDERR_FILENO, kNarrow) - 1;
  std::fprintf(stderr, "\r\033[K%s", cut_utf8(line, width).c_str());
  std::fflush(stderr);
}

void Progress::clear() {
  if (!terminal_) return;
  std::fprintf(stderr, "\r\033[K");
  std::fflush(stderr);
}

}  // namespace hyperattn
