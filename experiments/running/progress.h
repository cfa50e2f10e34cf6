// How far a sweep is: a bar with the time left on a terminal, plain lines elsewhere.
#pragma once

#include <cstdint>
#include <string>

#include "core/timing.h"

namespace hyperattn {

/// Writes to standard error. The time left assumes that the rest runs at the speed so far, by weight.
class Progress {
 public:
  /// `total` rows to make, of `total_weight` together.
  Progress(int64_t total, double total_weight);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// What is being done now (shown beside the bar; not shown as a line of its own).
  void doing(const std::string& what);
  /// Work of this weight is done; some rows may follow.
  void advance(double weight);
  /// A row is stored. `line` is printed where there is no bar, and above it where it must stay visible (a
  /// failure).
  void row_done(const std::string& line, bool must_stay);

 private:
  void draw();
  void clear();

  int64_t total_;
  double total_weight_;
  int64_t rows_ = 0;
  double weight_ = 0;
  bool terminal_;
  std::string doing_;
  Stopwatch watch_;
};

}  // namespace hyperattn
