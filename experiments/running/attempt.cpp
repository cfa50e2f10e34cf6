#include "experiments/running/attempt.h"

#include <fmt/core.h>

#include <new>

#include "core/cancel.h"
#include "core/error.h"
#include "core/parameters.h"
#include "core/timing.h"
#include "experiments/running/time_limit.h"

namespace hyperattn {
namespace {

std::string too_long(double limit) {
  return fmt::format("took longer than the limit of {} s for one trial (--case-timeout)",
                     to_string(ParameterValue(limit)));
}

}  // namespace

std::string why_failed(double limit, double spent, const std::function<void()>& work) {
  const Stopwatch watch;
  try {
    const TimeLimit watchdog(limit - spent);
    throw_if_cancelled();
    work();
  } catch (const Cancelled& cancelled) {
    if (cancelled.cause() == CancelCause::interrupt) throw;
    return too_long(limit);
  } catch (const Error& error) {
    return error.what();
  } catch (const std::bad_alloc&) {
    return "not enough memory";
  }
  // Work that ends before the watchdog's thread has begun is not stopped by it.
  return spent + watch.seconds() > limit ? too_long(limit) : "";
}

}  // namespace hyperattn
