#include "experiments/running/progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "core/text.h"
#include "core/utf8.h"
#include "experiments/running/terminal.h"

namespace hyperattn {
namespace {

constexpr int kBarWidth = 24;

constexpr size_t kNarrow = 80;

}  // namespace

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
  std::string line = fmt::format("[{}{}] {}/{}", std::string(static_cast<size_t>(filled), '='),
                                 std::string(static_cast<size_t>(kBarWidth - filled), ' '), rows_, total_);
  if (share > 0) line += fmt::format(", {} left", duration_text(watch_.seconds() * (1 - share) / share));
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
