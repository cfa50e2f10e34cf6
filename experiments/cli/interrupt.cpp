#include "experiments/cli/interrupt.h"

#include <unistd.h>

#include "core/cancel.h"
#include "experiments/running/exit_codes.h"

namespace hyperattn {
namespace {

extern "C" void on_signal(int) {
  if (cancel_cause() == CancelCause::interrupt) _exit(exit_code::kInterrupted);
  request_cancel(CancelCause::interrupt);
}

}  // namespace

InterruptHandler::InterruptHandler() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, &previous_interrupt_);
  sigaction(SIGTERM, &action, &previous_terminate_);
}

InterruptHandler::~InterruptHandler() {
  sigaction(SIGINT, &previous_interrupt_, nullptr);
  sigaction(SIGTERM, &previous_terminate_, nullptr);
}

}  // namespace hyperattn
