#include "core/memory.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "core/error.h"

namespace hyperattn {
namespace {

constexpr int64_t kAlignment = 64;
// Large buffers ask for huge pages: gathers of scattered rows otherwise miss the TLB on every row.
constexpr int64_t kHugePage = int64_t{1} << 21;
// Below this, a request is not worth reading /proc for.
constexpr double kAlwaysAllowedBytes = 64.0 * 1024 * 1024;

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

int64_t padded(int64_t bytes, int64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

int64_t read_number(const char* path) {
  std::ifstream file(path);
  int64_t value = 0;
  return file >> value ? value : -1;
}

int64_t meminfo_available() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  std::string unit;
  while (file >> key >> kib) {
    std::getline(file, unit);
    if (key == "MemAvailable:") return kib * 1024;
  }
  return std::numeric_limits<int64_t>::max();
}

int64_t cgroup_available() {
  const int64_t limit = read_number("/sys/fs/cgroup/memory.max");
  const int64_t used = read_number("/sys/fs/cgroup/memory.current");
  return limit < 0 || used < 0 ? std::numeric_limits<int64_t>::max() : limit - used;
}

std::string in_gib(double bytes) {
  std::ostringstream text;
  text.precision(3);
  text << bytes / (1024.0 * 1024 * 1024) << " GiB";
  return text.str();
}

}  // namespace

int64_t allocated_bytes() {
  return live_bytes.load();
}
int64_t peak_allocated_bytes() {
  return peak_bytes.load();
}
void reset_peak_allocated_bytes() {
  peak_bytes.store(live_bytes.load());
}

int64_t available_memory_bytes() {
  const int64_t host = meminfo_available();
  const int64_t group = cgroup_available();
  return host < group ? host : group;
}

void require_memory(double bytes, const char* what) {
  if (bytes <= kAlwaysAllowedBytes) return;
  const auto available = static_cast<double>(available_memory_bytes());
  if (bytes > available)
    fail_environment(std::string(what) + " would take " + in_gib(bytes) + " of memory, but only " +
                     in_gib(available) + " is available; use a smaller size or a machine with more memory");
}

namespace detail {

void* allocate_counted(int64_t bytes) {
  if (bytes == 0) return nullptr;
  if (bytes < 0) fail_environment("a buffer's size exceeds what a 64-bit count of bytes can hold");
  require_memory(static_cast<double>(bytes), "a buffer");
  const int64_t alignment = bytes >= 2 * kHugePage ? kHugePage : kAlignment;
  const auto size = static_cast<size_t>(padded(bytes, alignment));
  void* pointer = std::aligned_alloc(static_cast<size_t>(alignment), size);
  if (pointer == nullptr) fail_environment("no memory for a buffer of " + std::to_string(bytes) + " bytes");
  if (alignment == kHugePage) madvise(pointer, size, MADV_HUGEPAGE);  // only a hint: failure changes nothing
  const int64_t now = live_bytes.fetch_add(bytes) + bytes;
  int64_t peak = peak_bytes.load();
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
  }
  return pointer;
}

void free_counted(void* pointer, int64_t bytes) noexcept {
  std::free(pointer);
  live_bytes.fetch_sub(bytes);
}

}  // namespace detail
}  // namespace hyperattn
