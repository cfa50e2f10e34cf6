// How wide the terminal is.
#pragma once

#include <cstddef>

namespace hyperattn {

/// Columns of the terminal behind a file descriptor; `fallback` where it is none or does not say.
[[nodiscard]] size_t terminal_width(int descriptor, size_t fallback);

}  // namespace hyperattn
