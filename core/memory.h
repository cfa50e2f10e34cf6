// Aligned buffers that are counted, so that "peak bytes" in the results is a measurement, and that are
// refused with a sentence, before the allocation, when the machine cannot hold them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/checked.h"

namespace hyperattn {

/// Bytes held by all live buffers of the process, and the largest value since the last reset. Thread-safe.
/// Freed large buffers that are kept for later requests do not count.
[[nodiscard]] int64_t allocated_bytes();
[[nodiscard]] int64_t peak_allocated_bytes();
void reset_peak_allocated_bytes();

/// Bytes that we could get now: what the operating system has (/proc/meminfo's MemAvailable) and the control
/// groups grant, and freed buffers that are kept.
[[nodiscard]] int64_t available_memory_bytes();

/// Throws Error(environment) naming `what`, the size wanted and the size available when `bytes` does not fit.
void require_memory(double bytes, const char* what);

/// 64-byte aligned, uninitialised storage of `size` trivially copyable elements. Move-only.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(int64_t size);
  Buffer(int64_t size, T fill) : Buffer(size) {
    for (int64_t i = 0; i < size; ++i) data_[i] = fill;
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] int64_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  [[nodiscard]] const T* begin() const { return data_; }
  [[nodiscard]] const T* end() const { return data_ + size_; }

 private:
  T* data_ = nullptr;
  int64_t size_ = 0;
};

namespace detail {
void* allocate_counted(int64_t bytes);
void free_counted(void* pointer, int64_t bytes) noexcept;
}  // namespace detail

template <class T>
Buffer<T>::Buffer(int64_t size)
    : data_(static_cast<T*>(
          detail::allocate_counted(checked_product({size, static_cast<int64_t>(sizeof(T))}).value_or(-1)))),
      size_(size) {}

template <class T>
Buffer<T>::~Buffer() {
  if (data_ != nullptr) detail::free_counted(data_, size_ * static_cast<int64_t>(sizeof(T)));
}

}  // namespace hyperattn
