#include "experiments/running/attempt.h"

#include <new>

#include "core/cancel.h"
#include "core/error.h"
#include "core/parameters.h"
#include "experiments/running/time_limit.h"

namespace hyperattn {

std::string why_failed(double limit, double spent, const std::function<void()>& work) {
  try {
    const TimeLimit watchdog(limit - spent);
    throw_if_cancelled();
    work();
  } catch (const Cancelled& cancelled) {
    if (cancelled.cause() == CancelCause::interrupt) throw;
    return "took longer than the limit of " + to_string(ParameterValue(limit)) +
           " s for one trial (--case-timeout)";
  } catch (const Error& error) {
    return error.what();
  } catch (const std::bad_alloc&) {
    return "not enough memory";
  }
  return {};
}

}  // namespace hyperattn
