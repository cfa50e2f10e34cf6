// SHA-256 (FIPS 180-4), to state which text a figure was measured on. Not for secrets.
#pragma once

#include <string>
#include <string_view>

namespace hyperattn {

/// The digest of the bytes, as 64 lower-case hexadecimal digits. O(size), one thread.
[[nodiscard]] std::string sha256(std::string_view bytes);

}  // namespace hyperattn
