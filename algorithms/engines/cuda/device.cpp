#include "algorithms/engines/cuda/device.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "algorithms/engines/cuda/kernels.h"
#include "core/error.h"
#include "core/parallel.h"

namespace hyperattn::cuda {
namespace {

constexpr int kLeastMajor = 8;  // of the compute capability: mma.sync with bf16

/// The error that the card does not recover from, once there was one.
std::string& lasting_failure() {
  static std::string failure;
  return failure;
}

std::string words_of(cudaError_t error) {
  return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int& chosen_device() {
  static int number = 0;
  return number;
}

bool& device_is_in_use() {
  static bool in_use = false;
  return in_use;
}

std::string find_obstacle() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return "needs an NVIDIA driver, and this machine has none";
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorInsufficientDriver)
    return "needs a driver for CUDA " + version_text(CUDART_VERSION) + ", and this machine's is for CUDA " +
           version_text(driver);
  if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0))
    return "needs an NVIDIA GPU, and this machine shows none";
  if (error != cudaSuccess) return "cannot reach the GPU: " + words_of(error);
  int major = 0;
  int minor = 0;
  static_cast<void>(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, chosen_device()));
  static_cast<void>(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, chosen_device()));
  if (major < kLeastMajor)
    return "needs a GPU of compute capability 8.0 or more, and this one has " + std::to_string(major) + "." +
           std::to_string(minor);
  return {};
}

cudaStream_t stream() {
  return static_cast<cudaStream_t>(Device::current().stream());
}

std::string mebibytes(int64_t bytes) {
  return std::to_string(bytes / (1 << 20) + (bytes % (1 << 20) != 0 ? 1 : 0)) + " MiB";
}

}  // namespace

std::string why_unavailable() {
  static const std::string obstacle = find_obstacle();
  return obstacle;
}

void choose_device(int number) {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 0 && number >= count)
    fail_usage("GPU " + std::to_string(number) + " was chosen, but this machine shows " +
               std::to_string(count) + ", counted from 0");
  chosen_device() = number;
}

void require_device(int number) {
  const std::lock_guard<std::mutex> lock(one_call());
  if (!device_is_in_use()) choose_device(number);
  device_is_in_use() = true;
  if (number != chosen_device())
    fail_usage("the tensors are on GPU " + std::to_string(number) + ", but this process computes on GPU " +
               std::to_string(chosen_device()));
}

void check(int error, const char* doing) {
  std::string& lasting = lasting_failure();
  if (!lasting.empty()) fail_environment(lasting);
  if (error == cudaSuccess) return;
  const auto code = static_cast<cudaError_t>(error);
  static_cast<void>(cudaGetLastError());
  const std::string sentence = "engine 'cuda': " + std::string(doing) + " failed: " + words_of(code);
  // An error that is still there after it was taken back belongs to the card's context, for good.
  if (cudaDeviceSynchronize() != cudaSuccess && cudaGetLastError() != cudaSuccess)
    lasting = sentence + "; the GPU cannot be used again before the program starts anew";
  fail_environment(lasting.empty() ? sentence : lasting);
}

std::mutex& one_call() {
  static std::mutex mutex;
  return mutex;
}

Device::Device() {
  const int device = chosen_device();
  device_is_in_use() = true;
  check(cudaSetDevice(device), "choosing the GPU");
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream");
  stream_ = made;
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking for the GPU's shared memory");
  shared_bytes_ = bytes;
  // Memory that was given back is kept for the next call: the system takes milliseconds for new memory.
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "asking for the GPU's memory");
  uint64_t kept = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "keeping the GPU's memory");
}

Device& Device::current() {
  if (const std::string obstacle = why_unavailable(); !obstacle.empty())
    fail_environment("engine 'cuda' " + obstacle);
  static Device device;
  check(cudaSetDevice(chosen_device()), "choosing the GPU");  // of this thread
  return device;
}

namespace {

void*& stream_of_caller() {
  thread_local void* stream = nullptr;
  return stream;
}

}  // namespace

StreamScope::StreamScope(void* stream) : before_(std::exchange(stream_of_caller(), stream)) {}

StreamScope::~StreamScope() {
  stream_of_caller() = before_;
}

void* Device::stream() const {
  return stream_of_caller() != nullptr ? stream_of_caller() : stream_;
}

void Device::wait() {
  check(cudaStreamSynchronize(static_cast<cudaStream_t>(stream())), "computing");
}

DeviceTimer::DeviceTimer(Device& device) : device_(device) {}

DeviceTimer::~DeviceTimer() {
  for (const Span& span : spans_) {
    static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(span.begin)));
    if (span.end != nullptr) static_cast<void>(cudaEventDestroy(static_cast<cudaEvent_t>(span.end)));
  }
}

namespace {

void* record_event(void* stream) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "making an event");
  check(cudaEventRecord(event, static_cast<cudaStream_t>(stream)), "recording an event");
  return event;
}

}  // namespace

void DeviceTimer::start() {
  spans_.push_back({record_event(device_.stream()), nullptr});
}

void DeviceTimer::stop() {
  spans_.back().end = record_event(device_.stream());
}

double DeviceTimer::seconds() {
  device_.wait();
  double sum = 0;
  for (const Span& span : spans_) {
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(span.begin),
                               static_cast<cudaEvent_t>(span.end)),
          "reading an event");
    sum += 1e-3 * static_cast<double>(milliseconds);
  }
  return sum;
}

namespace detail {
namespace {

/// Memory that was kept for later calls, which may lie in pieces too small for this one.
void give_back_unused() {
  cudaMemPool_t pool = nullptr;
  static_cast<void>(cudaStreamSynchronize(stream()));
  if (cudaDeviceGetDefaultMemPool(&pool, chosen_device()) == cudaSuccess)
    static_cast<void>(cudaMemPoolTrimTo(pool, 0));
}

/// Copies from memory that the card reads itself go on while kernels run; others wait until the stream is
/// idle. Larger ones, which inputs are, would take as much of such memory.
constexpr int64_t kMostStaged = int64_t{32} << 20;

/// Page-locked memory, and the event after which it is free again.
struct StagingBlock {
  void* memory = nullptr;
  int64_t bytes = 0;
  cudaEvent_t copied = nullptr;
};

bool is_over(cudaEvent_t event) {
  const bool over = cudaEventQuery(event) == cudaSuccess;
  if (!over) static_cast<void>(cudaGetLastError());  // "not ready" would pass for a launch's error
  return over;
}

/// Those of the process, kept for later copies: the system takes a millisecond for a new one.
class StagingBlocks {
 public:
  static StagingBlocks& all() {
    static StagingBlocks blocks;
    return blocks;
  }

  StagingBlock take(int64_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (auto block = blocks_.begin(); block != blocks_.end(); ++block) {
        if (block->bytes < bytes || !is_over(block->copied)) continue;
        const StagingBlock taken = *block;
        blocks_.erase(block);
        return taken;
      }
    }
    StagingBlock made;
    made.bytes = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(bytes, kLeastBytes))));
    check(cudaMallocHost(&made.memory, static_cast<size_t>(made.bytes)), "taking page-locked memory");
    check(cudaEventCreateWithFlags(&made.copied, cudaEventDisableTiming), "making an event");
    return made;
  }

  /// Blocks by size, so that the least that is enough is found first.
  void give_back(const StagingBlock& block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto place = std::find_if(blocks_.begin(), blocks_.end(),
                                    [&](const StagingBlock& other) { return other.bytes >= block.bytes; });
    blocks_.insert(place, block);
  }

 private:
  static constexpr int64_t kLeastBytes = int64_t{1} << 16;
  std::mutex mutex_;
  std::vector<StagingBlock> blocks_;
};

void copy_in_parallel(void* target, const void* source, int64_t bytes) {
  constexpr int64_t kChunk = int64_t{1} << 19;
  parallel_for((bytes + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    std::memcpy(static_cast<char*>(target) + begin, static_cast<const char*>(source) + begin,
                static_cast<size_t>(std::min(kChunk, bytes - begin)));
  });
}

void copy_to_card(void* target, const void* source, int64_t bytes) {
  check(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream()),
        "copying to the GPU");
}

void copy_staged(void* target, const StagingBlock& block, int64_t bytes) {
  copy_to_card(target, block.memory, bytes);
  check(cudaEventRecord(block.copied, stream()), "recording an event");
  StagingBlocks::all().give_back(block);
}

}  // namespace

void* allocate(int64_t bytes, const char* what) {
  void* pointer = nullptr;
  cudaError_t error = cudaMallocAsync(&pointer, static_cast<size_t>(bytes), stream());
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    give_back_unused();
    error = cudaMallocAsync(&pointer, static_cast<size_t>(bytes), stream());
  }
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    give_back_unused();  // what the refused request was about to take counts as taken
    size_t free = 0;
    size_t total = 0;
    static_cast<void>(cudaMemGetInfo(&free, &total));
    fail_environment("engine 'cuda': " + std::string(what) + " need " + mebibytes(bytes) +
                     " of the GPU's memory, of which " + mebibytes(static_cast<int64_t>(free)) + " of " +
                     mebibytes(static_cast<int64_t>(total)) + " are free");
  }
  check(error, "taking memory of the GPU");
  return pointer;
}

void release(void* pointer, void* stream) noexcept {
  if (pointer != nullptr) static_cast<void>(cudaFreeAsync(pointer, static_cast<cudaStream_t>(stream)));
}

void upload(void* target, const void* source, int64_t bytes) {
  if (bytes > kMostStaged) return copy_to_card(target, source, bytes);
  const StagingBlock block = StagingBlocks::all().take(bytes);
  copy_in_parallel(block.memory, source, bytes);
  copy_staged(target, block, bytes);
}

void upload(void* target, const std::vector<Piece>& pieces) {
  if (pieces.empty()) return;
  const int64_t bytes = pieces.back().offset + pieces.back().bytes;
  if (bytes > kMostStaged) {
    for (const Piece& piece : pieces)
      upload(static_cast<char*>(target) + piece.offset, piece.source, piece.bytes);
    return;
  }
  StagingBlock block = StagingBlocks::all().take(bytes);
  for (const Piece& piece : pieces)
    copy_in_parallel(static_cast<char*>(block.memory) + piece.offset, piece.source, piece.bytes);
  copy_staged(target, block, bytes);
}

void download(void* target, const void* source, int64_t bytes) {
  check(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream()),
        "copying from the GPU");
  Device::current().wait();
}

void clear(void* target, int64_t bytes) {
  check(cudaMemsetAsync(target, 0, static_cast<size_t>(bytes), stream()), "clearing memory of the GPU");
}

}  // namespace detail
}  // namespace hyperattn::cuda
