// Binding threads to cores, so that timings do not suffer from threads that wander.
#pragma once

namespace hyperattn {

/// Binds thread i of the parallel loops to processor i (modulo their number) of those that this process may
/// use, one of each physical core first. Holds for the current thread count. Throws Error(environment) if the
/// operating system refuses.
void pin_threads();

}  // namespace hyperattn
