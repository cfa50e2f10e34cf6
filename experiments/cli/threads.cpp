#include "experiments/cli/threads.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>

#include "core/parallel.h"
#include "core/text.h"
#include "experiments/messages/log.h"

namespace hyperattn {

int default_threads(const MachineInfo& machine, int offered) {
  if (machine.core_quota <= 0) return offered;
  // Below the number of processors, so that a quota beyond any integer is none.
  const double granted = std::clamp(machine.core_quota, 1.0, static_cast<double>(offered));
  return static_cast<int>(granted);
}

void set_up_threads(int wanted) {
  int threads = wanted;
  if (wanted == 0)
    threads = std::getenv("OMP_NUM_THREADS") != nullptr
                  ? omp_get_max_threads()
                  : default_threads(describe_machine(), omp_get_max_threads());
  set_thread_count(threads);
  const int started = started_threads();
  if (started >= threads) return;
  set_thread_count(started);
  if (wanted > 0)
    log_warning(fmt::format(
        "--threads {} is more than OpenMP's environment allows (OMP_THREAD_LIMIT, OMP_MAX_ACTIVE_LEVELS): {} "
        "used",
        wanted, counted(int64_t{started}, "thread") + (started == 1 ? " is" : " are")));
}

}  // namespace hyperattn
