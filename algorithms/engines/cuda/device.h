// The card: which one, what it says of itself, its memory, and its errors as sentences. No CUDA header comes
// in here, so every source can ask.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/memory.h"

namespace hyperattn::cuda {

/// Why nothing can be computed on the chosen card, to follow the engine's name; empty: it can. Where the
/// program was built without CUDA this says so. Asked once, then remembered.
[[nodiscard]] std::string why_unavailable();

/// The card that the process uses, counted from 0: before anything else is asked. Error(usage): there are not
/// as many.
void choose_device(int number);

/// For tensors of a caller that lie on card `number`: that card becomes the process's, unless it uses another
/// one already. Error(usage): it does.
void require_device(int number);

/// What the card and its driver say of themselves; empty or 0: not told.
struct DeviceFacts {
  std::string name;          ///< "NVIDIA H100 80GB HBM3"
  std::string driver;        ///< "580.159.04"
  std::string cuda;          ///< of the runtime that the program has, "13.0"
  int64_t memory_bytes = 0;  ///< all of it
  int multiprocessors = 0;
  int clock_megahertz = 0;         ///< of the multiprocessors, the highest allowed
  int memory_clock_megahertz = 0;  ///< likewise
  double power_limit_watts = 0;
};
/// Throws Error(environment) where there is no card.
[[nodiscard]] DeviceFacts device_facts();
/// "NVIDIA H100 80GB HBM3, 81559 MiB, 132 multiprocessors at 1980 MHz, memory at 2619 MHz, 700 W, driver …,
/// CUDA …".
[[nodiscard]] std::string to_string(const DeviceFacts& facts);

/// Throws Error(environment) with the CUDA error's words if `error` (a cudaError_t) is one. An error that the
/// card does not recover from makes every later call fail with the same sentence.
void check(int error, const char* doing);

/// Calls share one stream and its memory: one at a time.
[[nodiscard]] std::mutex& one_call();

/// While it lives, what this thread does on the card goes to a stream of the caller's.
class StreamScope {
 public:
  explicit StreamScope(void* stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  void* before_;
};

/// Makes the card of this process current for the calling thread, and its stream.
class Device {
 public:
  /// Throws Error(environment) with `why_unavailable`.
  [[nodiscard]] static Device& current();

  /// The innermost StreamScope's of this thread, else the engine's own.
  [[nodiscard]] void* stream() const;
  /// For copies to the card that go on beside kernels. Memory that is taken on it is of a pool of its own: it
  /// never waits for kernels, and leaves the large pieces of the other one whole.
  [[nodiscard]] void* copy_stream() const { return copy_stream_; }
  [[nodiscard]] void* copy_pool() const { return copy_pool_; }
  /// What `stream` does from now on comes after all that the copy stream has to do.
  void follow_copies(void* stream) const;
  [[nodiscard]] int64_t shared_bytes_per_block() const { return shared_bytes_; }
  void wait();

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

 private:
  Device();
  void* stream_ = nullptr;
  void* copy_stream_ = nullptr;
  void* copy_pool_ = nullptr;
  void* copied_ = nullptr;  // an event
  int64_t shared_bytes_ = 0;
};

/// Seconds between two points of the stream, by the card's clock.
class DeviceTimer {
 public:
  explicit DeviceTimer(Device& device);
  ~DeviceTimer();
  DeviceTimer(const DeviceTimer&) = delete;
  DeviceTimer& operator=(const DeviceTimer&) = delete;
  void start();
  /// Ends a span, whose seconds `seconds` counts once the stream has been waited for.
  void stop();
  [[nodiscard]] double seconds();

 private:
  struct Span {
    void* begin = nullptr;
    void* end = nullptr;
  };
  Device& device_;
  std::vector<Span> spans_;
};

namespace detail {
void* allocate(int64_t bytes, const char* what);
void release(void* pointer, void* stream) noexcept;
void upload(void* target, const void* source, int64_t bytes);
void download(void* target, const void* source, int64_t bytes);
/// The same of little memory, which it releases.
void take(void* target, void* source, int64_t bytes);
void clear(void* target, int64_t bytes);

/// Host memory, and where it goes in memory of the card.
struct Piece {
  const void* source;
  int64_t bytes;
  int64_t offset;
};
/// All of them, in increasing order of offsets, in few copies, which also write what lies between them.
void upload(void* target, const std::vector<Piece>& pieces);
}  // namespace detail

/// Memory of the card, in the order of the stream that it was taken on. Throws Error(environment) that names
/// `what`, the bytes wanted and the bytes free where the card has no room.
template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(int64_t size, const char* what)
      : data_(size > 0 ? static_cast<T*>(detail::allocate(size * bytes_of_one(), what)) : nullptr),
        size_(size),
        stream_(data_ != nullptr ? Device::current().stream() : nullptr) {}
  /// A copy of host memory.
  DeviceArray(const T* source, int64_t size, const char* what) : DeviceArray(size, what) {
    upload(source, size);
  }
  DeviceArray(const std::vector<T>& source, const char* what)
      : DeviceArray(source.data(), static_cast<int64_t>(source.size()), what) {}
  DeviceArray(const Buffer<T>& source, const char* what) : DeviceArray(source.data(), source.size(), what) {}
  DeviceArray(DeviceArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        stream_(other.stream_) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(stream_, other.stream_);
    return *this;
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { detail::release(data_, stream_); }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] int64_t size() const { return size_; }
  /// Copies `count` elements of host memory to its beginning.
  void upload(const T* source, int64_t count) const {
    if (count > 0) detail::upload(data_, source, count * bytes_of_one());
  }
  void clear() const {
    if (size_ > 0) detail::clear(data_, size_ * bytes_of_one());
  }
  /// From now on it is in the order of another stream, which follows this one.
  void hand_to(void* stream) { stream_ = stream; }
  void download(T* target) const {
    if (size_ > 0) detail::download(target, data_, size_ * bytes_of_one());
  }
  /// The same, and nothing stays on the card: the memory is given back before the stream is waited for. Where
  /// some was given back afterwards, the next call's kernels began later.
  void take(T* target) {
    if (size_ > 0) detail::take(target, std::exchange(data_, nullptr), size_ * bytes_of_one());
    size_ = 0;
  }
  void download_part(T* target, int64_t first, int64_t count) const {
    if (count > 0) detail::download(target, data_ + first, count * bytes_of_one());
  }

 private:
  static constexpr int64_t bytes_of_one() { return static_cast<int64_t>(sizeof(T)); }
  T* data_ = nullptr;
  int64_t size_ = 0;
  void* stream_ = nullptr;
};

/// Several arrays of host memory that are copied to the card at once: `add` each, then `upload`, then take
/// their addresses. The copy goes on beside kernels that were launched before, on a stream of its own, which
/// only the next ones wait for.
class DeviceBundle {
 public:
  /// Where `room` elements begin, of which `given` are copied.
  template <class T>
  int64_t add(const T* source, int64_t given, int64_t room) {
    constexpr int64_t kAlignment = 256;
    const int64_t offset = (bytes_ + kAlignment - 1) / kAlignment * kAlignment;
    bytes_ = offset + room * static_cast<int64_t>(sizeof(T));
    if (given > 0) pieces_.push_back({source, given * static_cast<int64_t>(sizeof(T)), offset});
    return offset;
  }
  template <class Array>
  int64_t add(const Array& source) {
    return add(source.data(), static_cast<int64_t>(source.size()), static_cast<int64_t>(source.size()));
  }
  void upload(const char* what) {
    const Device& device = Device::current();
    void* stream = device.stream();
    {
      const StreamScope copying(device.copy_stream());
      memory_ = DeviceArray<unsigned char>(bytes_, what);
      detail::upload(memory_.data(), pieces_);
    }
    device.follow_copies(stream);
    memory_.hand_to(stream);
  }
  template <class T>
  [[nodiscard]] T* at(int64_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }

 private:
  std::vector<detail::Piece> pieces_;
  int64_t bytes_ = 0;
  DeviceArray<unsigned char> memory_;
};

}  // namespace hyperattn::cuda
