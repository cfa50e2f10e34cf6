// Ctrl-C (SIGINT) and SIGTERM become a request to stop (core/cancel.h); a second one ends the process at
// once.
#pragma once

#include <signal.h>

namespace hyperattn {

/// Handles the two signals while it lives; restores what was before.
class InterruptHandler {
 public:
  InterruptHandler();
  ~InterruptHandler();
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;

 private:
  struct sigaction previous_interrupt_ {};
  struct sigaction previous_terminate_ {};
};

}  // namespace hyperattn
