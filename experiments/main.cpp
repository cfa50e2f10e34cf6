#include <fcntl.h>

#include <cerrno>

#include "experiments/cli/command_line.h"

namespace {

/// A file that is opened while a standard descriptor is closed takes its number, and what is printed then
/// lands in it: progress lines in the journal, say. So the closed ones of the three are opened before
/// anything else.
void open_standard_descriptors() {
  for (int descriptor = 0; descriptor <= 2; ++descriptor)
    if (fcntl(descriptor, F_GETFD) < 0 && errno == EBADF) {
      // The lowest free number is this one; without /dev/null there is nothing better to do than go on.
      if (open("/dev/null", O_RDWR) < 0) return;
    }
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_descriptors();
  return hyperattn::run_command_line(argc, argv);
}
