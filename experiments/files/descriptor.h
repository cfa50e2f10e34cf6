// File descriptors that close themselves, and failures of writing in words.
#pragma once

#include <cstddef>
#include <string>

namespace hyperattn {

/// Error(environment): "'PATH' can't be written: REASON".
[[noreturn]] void fail_writing(const std::string& path, const std::string& reason);

/// An open file descriptor, closed on exec.
class Descriptor {
 public:
  /// Error(environment) that names `shown` (the path itself, if empty) where it can't be opened.
  Descriptor(const std::string& path, int flags, unsigned mode = 0, const std::string& shown = {});
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor();

  [[nodiscard]] int get() const { return value_; }
  /// Closing can report a write that failed late (network file systems do).
  void close();

 private:
  std::string shown_;
  int value_;
};

/// Writes all bytes; false with errno set if that failed.
[[nodiscard]] bool write_all(int descriptor, const char* bytes, size_t count);

}  // namespace hyperattn
