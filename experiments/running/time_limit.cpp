#include "experiments/running/time_limit.h"

#include <algorithm>
#include <cmath>

#include "core/cancel.h"

namespace hyperattn {
namespace {

constexpr double kLongestWait = 1e8;  // seconds; keeps the arithmetic of time points from overflowing

}  // namespace

TimeLimit::TimeLimit(double seconds) {
  if (std::isinf(seconds)) return;
  const std::chrono::duration<double> limit(std::clamp(seconds, 0.0, kLongestWait));
  const auto deadline =
      std::chrono::steady_clock::now() + std::chrono::duration_cast<std::chrono::nanoseconds>(limit);
  watchdog_ = std::thread([this, deadline] {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool in_time = wake_.wait_until(lock, deadline, [this] { return finished_; });
    if (!in_time) replace_cancel(CancelCause::none, CancelCause::timeout);
  });
}

TimeLimit::~TimeLimit() {
  if (!watchdog_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    finished_ = true;
  }
  wake_.notify_one();
  watchdog_.join();
  replace_cancel(CancelCause::timeout, CancelCause::none);
}

}  // namespace hyperattn
