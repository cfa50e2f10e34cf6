#include "experiments/running/pinning.h"

#include <omp.h>
#include <sched.h>

#include <atomic>
#include <vector>

#include "core/error.h"
#include "core/machine.h"

namespace hyperattn {
namespace {

bool bind_this_thread(int processor) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

void pin_threads() {
  const std::vector<int> processors = one_of_each_core_first(allowed_processors());
  if (processors.empty())
    fail_environment("--pin: the operating system does not tell which processors may be used");
  std::atomic<bool> failed{false};
  // OpenMP keeps its threads from one parallel region to the next.
#pragma omp parallel
  if (!bind_this_thread(processors[static_cast<size_t>(omp_get_thread_num()) % processors.size()]))
    failed = true;
  if (failed) fail_environment("--pin: the operating system refuses to bind threads to processors");
}

}  // namespace hyperattn
