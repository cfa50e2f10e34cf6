// Stopping a long computation from outside: a signal handler or a watchdog sets a flag, every parallel loop
// looks at it before each piece of work, and the computation ends by an exception within one piece's time.
#pragma once

#include <atomic>
#include <stdexcept>

namespace hyperattn {

enum class CancelCause : int { none, interrupt, timeout };

/// Thrown out of a computation that was asked to stop. Not an Error: nobody is to blame.
class Cancelled : public std::runtime_error {
 public:
  explicit Cancelled(CancelCause cause)
      : std::runtime_error(cause == CancelCause::timeout ? "the time limit was reached" : "interrupted"),
        cause_(cause) {}
  [[nodiscard]] CancelCause cause() const { return cause_; }

 private:
  CancelCause cause_;
};

namespace detail {
inline std::atomic<CancelCause> cancel_cause{CancelCause::none};
static_assert(std::atomic<CancelCause>::is_always_lock_free, "signal handlers need a lock-free flag");
}  // namespace detail

/// Asks all parallel loops of the process, running and to come, to stop. Safe in a signal handler.
inline void request_cancel(CancelCause cause) noexcept {
  detail::cancel_cause.store(cause, std::memory_order_relaxed);
}
inline void clear_cancel() noexcept {
  request_cancel(CancelCause::none);
}
/// Changes the request only if it is `expected` at this moment, so that one cause cannot hide another.
inline void replace_cancel(CancelCause expected, CancelCause cause) noexcept {
  detail::cancel_cause.compare_exchange_strong(expected, cause, std::memory_order_relaxed);
}
[[nodiscard]] inline CancelCause cancel_cause() noexcept {
  return detail::cancel_cause.load(std::memory_order_relaxed);
}
/// For long loops that are not parallel.
inline void throw_if_cancelled() {
  if (const CancelCause cause = cancel_cause(); cause != CancelCause::none) throw Cancelled(cause);
}

}  // namespace hyperattn
