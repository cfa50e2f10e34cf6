#include "experiments/files/descriptor.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace hyperattn {

void fail_writing(const std::string& path, const std::string& reason) {
  fail_environment(fmt::format("'{}' can't be written: {}", path, reason));
}

Descriptor::Descriptor(const std::string& path, int flags, unsigned mode, const std::string& shown)
    : shown_(shown.empty() ? path : shown), value_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {
  if (value_ < 0) fail_writing(shown_, std::strerror(errno));
}

Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

void Descriptor::close() {
  if (::close(std::exchange(value_, -1)) != 0) fail_writing(shown_, std::strerror(errno));
}

bool write_all(int descriptor, const char* bytes, size_t count) {
  while (count > 0) {
    const ssize_t written = ::write(descriptor, bytes, count);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    bytes += written;
    count -= static_cast<size_t>(written);
  }
  return true;
}

}  // namespace hyperattn
