#include "interrupt.h"

#include <pthread.h>
#include <pybind11/pybind11.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <thread>

#include "core/cancel.h"

namespace hyperattn::python {
namespace {

namespace py = pybind11;

struct sigaction previous_action;
std::atomic<bool> guarded{false};
std::atomic<bool> forked{false};

extern "C" void stop_loops(int signal, siginfo_t* info, void* context) {
  request_cancel(CancelCause::interrupt);
  if ((previous_action.sa_flags & SA_SIGINFO) != 0)
    previous_action.sa_sigaction(signal, info, context);
  else
    previous_action.sa_handler(signal);
}

/// While it lives on the main thread, SIGINT stops all parallel loops before Python takes note of it.
/// Elsewhere, and where the process ignores SIGINT or dies of it, it does nothing.
class InterruptGuard {
 public:
  InterruptGuard() {
    if (gettid() != getpid() || sigaction(SIGINT, nullptr, &previous_action) != 0) return;
    if (previous_action.sa_handler == SIG_DFL || previous_action.sa_handler == SIG_IGN) return;
    struct sigaction action = previous_action;
    action.sa_flags |= SA_SIGINFO;
    action.sa_sigaction = stop_loops;
    active_ = sigaction(SIGINT, &action, nullptr) == 0;
    if (active_) guarded = true;
  }
  ~InterruptGuard() {
    if (!active_) return;
    sigaction(SIGINT, &previous_action, nullptr);
    clear_cancel();
    guarded = false;
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  bool active_ = false;
};

/// GNU's OpenMP keeps a team for each thread that used it; in a forked process these teams are gone, and who
/// waits for them waits forever. A new thread starts a team of its own.
void call_on_new_thread(const std::function<void()>& work) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

/// Whether the work ended rather than being stopped.
bool finished(const std::function<void()>& work) {
  const InterruptGuard guard;
  try {
    if (forked)
      call_on_new_thread(work);
    else
      work();
    return true;
  } catch (const Cancelled&) {
    return false;
  }
}

}  // namespace

void note_forks() {
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
}

void compute(const std::function<void()>& work) {
  for (;;) {
    {
      const py::gil_scoped_release released;
      if (finished(work)) return;
      // A signal's handler may still have been running when its guard went.
      if (!guarded) clear_cancel();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
}

}  // namespace hyperattn::python
