// A watchdog: asks the computation in its scope to stop when the time is up.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace hyperattn {

/// While it lives, a time limit is set on this process's parallel loops (core/cancel.h): after `seconds` they
/// throw Cancelled(timeout), within the time of one piece of work. No limit for `seconds` = ∞. The
/// destructor takes the request back, unless an interrupt has come meanwhile.
class TimeLimit {
 public:
  explicit TimeLimit(double seconds);
  ~TimeLimit();
  TimeLimit(const TimeLimit&) = delete;
  TimeLimit& operator=(const TimeLimit&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool finished_ = false;
  std::thread watchdog_;
};

}  // namespace hyperattn
