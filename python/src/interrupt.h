// How Python's thread waits for a computation: without the GIL, ended by Ctrl-C, and in forked processes,
// too.
#pragma once

#include <functional>

namespace hyperattn::python {

/// Calls `work` without the GIL. On the main thread SIGINT stops it; then the program's own handler decides:
/// where it raises (KeyboardInterrupt), so does this; where it does not, the work is done again. So is the
/// work of other threads, which the same signal stops. `work` must therefore give the same result each time.
void compute(const std::function<void()>& work);

/// From now on `compute` works in processes that are forked from this one. Call it once.
void note_forks();

}  // namespace hyperattn::python
