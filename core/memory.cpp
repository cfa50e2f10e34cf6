#include "core/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <mutex>
#include <string>
#include <vector>

#include "core/control_groups.h"
#include "core/error.h"
#include "core/text.h"

namespace hyperattn {
namespace {

constexpr int64_t kAlignment = 64;
// Large buffers ask for huge pages: gathers of scattered rows otherwise miss the TLB on every row, and new
// memory costs a page fault for every 4 KiB. Where "large" begins does not show: with any value from 64 KiB
// to 1 GiB, `hyper` at n = 16384 (24.1 to 24.7 ms), at n = 65536 (98 to 100 ms) and `exact` at n = 4096 (41.3
// to 41.6 ms) take the same time within the 2 % by which equal runs differ (d = 64, Zen 4, one thread).
constexpr int64_t kHugePage = int64_t{1} << 21;
constexpr int64_t kLargeBytes = kHugePage / 2;
// Freed large buffers are kept for later requests of the same size, up to this many bytes in all. The system
// hands out memory page by page and filled with zeros: keeping none, `hyper` takes 24.9 ms for 24.0 at
// n = 16384, 100.7 for 99.1 at n = 65536, and 360 for 350 with the gradient (d = 64, Zen 4, one thread).
// Those calls are served by 64 MiB as by 512; longer problems and several heads have larger buffers.
#ifdef __SANITIZE_ADDRESS__
constexpr int64_t kMostKeptBytes = 0;  // or use after free would go unseen
#else
constexpr int64_t kMostKeptBytes = int64_t{512} << 20;
#endif
// Below this, a request is not worth reading /proc for.
constexpr int64_t kAlwaysAllowedBytes = int64_t{64} << 20;

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

int64_t alignment_of(int64_t bytes) {
  return bytes >= kLargeBytes ? kHugePage : kAlignment;
}

int64_t padded_size(int64_t bytes) {
  const int64_t alignment = alignment_of(bytes);
  return (bytes + alignment - 1) / alignment * alignment;
}

class KeptBuffers {
 public:
  /// A kept buffer of exactly this size, or null.
  void* take(int64_t size) {
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(buffers_.begin(), buffers_.end(),
                                    [size](const Kept& kept) { return kept.size == size; });
    if (found == buffers_.end()) return nullptr;
    void* pointer = found->pointer;
    bytes_ -= size;
    buffers_.erase(found);
    return pointer;
  }

  /// Keeps the buffer for later; those kept longest are freed where that makes too many bytes.
  void keep(void* pointer, int64_t size) {
    const std::lock_guard lock(mutex_);
    buffers_.push_back({pointer, size});
    bytes_ += size;
    while (bytes_ > kMostKeptBytes) free_oldest();
  }

  void free_all() {
    const std::lock_guard lock(mutex_);
    while (!buffers_.empty()) free_oldest();
  }

  [[nodiscard]] int64_t bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  struct Kept {
    void* pointer;
    int64_t size;
  };

  void free_oldest() {
    std::free(buffers_.front().pointer);
    bytes_ -= buffers_.front().size;
    buffers_.erase(buffers_.begin());
  }

  std::mutex mutex_;
  std::vector<Kept> buffers_;
  int64_t bytes_ = 0;
};

// Never destroyed: buffers of static lifetime may be freed after it otherwise would be.
KeptBuffers& kept_buffers() {
  static auto* kept = new KeptBuffers;
  return *kept;
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

int64_t groups_available() {
  static const GroupFolders folders = find_control_groups();
  return read_group_limits(folders).memory_available;
}

void* new_pages(int64_t bytes, int64_t size) {
  const auto alignment = static_cast<size_t>(alignment_of(bytes));
  if (bytes > kAlwaysAllowedBytes && bytes > available_memory_bytes() - kept_buffers().bytes())
    kept_buffers().free_all();
  void* pointer = std::aligned_alloc(alignment, static_cast<size_t>(size));
  if (pointer == nullptr) {
    kept_buffers().free_all();
    pointer = std::aligned_alloc(alignment, static_cast<size_t>(size));
  }
  if (pointer == nullptr) fail_environment("no memory for a buffer of " + std::to_string(bytes) + " bytes");
  // Only a hint: failure changes nothing.
  if (bytes >= kLargeBytes) madvise(pointer, static_cast<size_t>(size), MADV_HUGEPAGE);
  return pointer;
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
  return std::min(meminfo_available(), groups_available()) + kept_buffers().bytes();
}

void require_memory(double bytes, const char* what) {
  if (bytes <= static_cast<double>(kAlwaysAllowedBytes)) return;
  const auto available = static_cast<double>(available_memory_bytes());
  if (bytes > available)
    fail_environment(std::string(what) + " would take " + bytes_text(bytes) + " of memory, but only " +
                     bytes_text(available) +
                     " is available; use a smaller size or a machine with more memory");
}

namespace detail {

void* allocate_counted(int64_t bytes) {
  if (bytes == 0) return nullptr;
  if (bytes < 0) fail_environment("a buffer's size exceeds what a 64-bit count of bytes can hold");
  require_memory(static_cast<double>(bytes), "a buffer");
  const int64_t size = padded_size(bytes);
  void* pointer = bytes >= kLargeBytes ? kept_buffers().take(size) : nullptr;
  if (pointer == nullptr) pointer = new_pages(bytes, size);
  const int64_t now = live_bytes.fetch_add(bytes) + bytes;
  int64_t peak = peak_bytes.load();
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
  }
  return pointer;
}

void free_counted(void* pointer, int64_t bytes) noexcept {
  if (bytes >= kLargeBytes)
    kept_buffers().keep(pointer, padded_size(bytes));
  else
    std::free(pointer);
  live_bytes.fetch_sub(bytes);
}

}  // namespace detail
}  // namespace hyperattn
