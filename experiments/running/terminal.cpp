#include "experiments/running/terminal.h"

#include <sys/ioctl.h>

namespace hyperattn {

size_t terminal_width(int descriptor, size_t fallback) {
  constexpr unsigned short kSmallestBelieved = 20;
  winsize size{};
  const bool known = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > kSmallestBelieved;
  return known ? size.ws_col : fallback;
}

}  // namespace hyperattn
