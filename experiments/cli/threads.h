// How many threads a command computes with.
#pragma once

#include "core/machine.h"

namespace hyperattn {

/// Where nobody says how many: `offered`, which is OpenMP's choice, or as many as the control groups grant
/// processor time for. Threads beyond that would all be stopped for a part of every tenth of a second.
[[nodiscard]] int default_threads(const MachineInfo& machine, int offered);

/// Sets `wanted` threads, or for 0 those of OMP_NUM_THREADS, or else `default_threads`; then, so that what is
/// recorded is what computes, as many as a team really has. Warns where that is fewer than `wanted`.
void set_up_threads(int wanted);

}  // namespace hyperattn
