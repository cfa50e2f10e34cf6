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

namespace {

void* make_stream() {
  cudaStream_t made = nullptr;
  check(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking), "making a stream");
  return made;
}

/// Memory that was given back is kept for the next call: the system takes milliseconds for new memory.
void keep_memory(cudaMemPool_t pool) {
  uint64_t kept = UINT64_MAX;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept), "keeping the GPU's memory");
}

/// Memory of this pool does not wait for the kernels that had it before: other memory is taken.
void* make_pool(int device) {
  cudaMemPoolProps properties = {};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  cudaMemPool_t pool = nullptr;
  check(cudaMemPoolCreate(&pool, &properties), "making a pool of the GPU's memory");
  keep_memory(pool);
  int waits = 0;
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolReuseAllowInternalDependencies, &waits),
        "making a pool of the GPU's memory");
  return pool;
}

}  // namespace

Device::Device() {
  const int device = chosen_device();
  device_is_in_use() = true;
  check(cudaSetDevice(device), "choosing the GPU");
  stream_ = make_stream();
  copy_stream_ = make_stream();
  cudaEvent_t copied = nullptr;
  check(cudaEventCreateWithFlags(&copied, cudaEventDisableTiming), "making an event");
  copied_ = copied;
  int bytes = 0;
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking for the GPU's shared memory");
  shared_bytes_ = bytes;
  cudaMemPool_t pool = nullptr;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "asking for the GPU's memory");
  keep_memory(pool);
  copy_pool_ = make_pool(device);
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

void Device::follow_copies(void* stream) const {
  auto* const copied = static_cast<cudaEvent_t>(copied_);
  check(cudaEventRecord(copied, static_cast<cudaStream_t>(copy_stream_)), "recording an event");
  check(cudaStreamWaitEvent(static_cast<cudaStream_t>(stream), copied), "waiting for a copy");
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
  static_cast<void>(cudaDeviceSynchronize());  // memory may be given back on other streams than this one
  if (cudaDeviceGetDefaultMemPool(&pool, chosen_device()) == cudaSuccess)
    static_cast<void>(cudaMemPoolTrimTo(pool, 0));
  static_cast<void>(cudaMemPoolTrimTo(static_cast<cudaMemPool_t>(Device::current().copy_pool()), 0));
}

cudaError_t take_memory(void** pointer, int64_t bytes) {
  const Device& device = Device::current();
  const auto size = static_cast<size_t>(bytes);
  if (device.stream() != device.copy_stream()) return cudaMallocAsync(pointer, size, stream());
  return cudaMallocFromPoolAsync(pointer, size, static_cast<cudaMemPool_t>(device.copy_pool()), stream());
}

/// Copies from memory that the card reads itself go on while kernels run; others wait until the stream is
/// idle. Larger ones go part by part.
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

/// Those of the process, kept for later copies: the system takes milliseconds for a new large one. Of these a
/// few may be on their way, then copies wait for one of them.
class StagingBlocks {
 public:
  static StagingBlocks& all() {
    static StagingBlocks blocks;
    return blocks;
  }

  StagingBlock take(int64_t bytes) {
    StagingBlock block = take_kept(bytes, false);
    if (block.memory != nullptr) return block;
    block.bytes = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max(bytes, kLeastBytes))));
    const cudaError_t error = cudaMallocHost(&block.memory, static_cast<size_t>(block.bytes));
    if (error == cudaSuccess) {
      check(cudaEventCreateWithFlags(&block.copied, cudaEventDisableTiming), "making an event");
      return block;
    }
    static_cast<void>(cudaGetLastError());
    block = take_kept(bytes, true);
    if (block.memory == nullptr) check(error, "taking page-locked memory");
    return block;
  }

  /// Blocks by size, so that the least that is enough is found first, and among equal ones the oldest.
  void give_back(const StagingBlock& block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto place = std::find_if(blocks_.begin(), blocks_.end(),
                                    [&](const StagingBlock& other) { return other.bytes > block.bytes; });
    blocks_.insert(place, block);
  }

 private:
  /// One that is enough; without memory where there is none that is free. It is waited for if `waits`, and if
  /// there are many large ones.
  StagingBlock take_kept(int64_t bytes, bool waits) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto enough = std::find_if(blocks_.begin(), blocks_.end(),
                                     [&](const StagingBlock& block) { return block.bytes >= bytes; });
    auto free =
        std::find_if(enough, blocks_.end(), [](const StagingBlock& block) { return is_over(block.copied); });
    const bool are_many = bytes >= kLarge && blocks_.end() - enough >= kMostLarge;
    if (free == blocks_.end() && enough != blocks_.end() && (waits || are_many)) {
      check(cudaEventSynchronize(enough->copied), "copying to the GPU");
      free = enough;
    }
    if (free == blocks_.end()) return {};
    const StagingBlock taken = *free;
    blocks_.erase(free);
    return taken;
  }

  static constexpr int64_t kLeastBytes = int64_t{1} << 16;
  static constexpr int64_t kLarge = int64_t{4} << 20;
  static constexpr int64_t kMostLarge = 8;
  std::mutex mutex_;
  std::vector<StagingBlock> blocks_;
};

constexpr size_t kFewPieces = 64;  // which are copied one after the other, each by all threads

void copy_in_parallel(void* target, const void* source, int64_t bytes) {
  constexpr int64_t kChunk = int64_t{1} << 19;
  parallel_for((bytes + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    std::memcpy(static_cast<char*>(target) + begin, static_cast<const char*>(source) + begin,
                static_cast<size_t>(std::min(kChunk, bytes - begin)));
  });
}

void copy_staged(void* target, const StagingBlock& block, int64_t bytes) {
  check(cudaMemcpyAsync(target, block.memory, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, stream()),
        "copying to the GPU");
  check(cudaEventRecord(block.copied, stream()), "recording an event");
  StagingBlocks::all().give_back(block);
}

}  // namespace

void* allocate(int64_t bytes, const char* what) {
  void* pointer = nullptr;
  cudaError_t error = take_memory(&pointer, bytes);
  if (error == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());
    give_back_unused();
    error = take_memory(&pointer, bytes);
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

namespace {

/// The same in pieces of at most kMostStaged bytes.
std::vector<Piece> cut(const std::vector<Piece>& pieces) {
  std::vector<Piece> parts;
  parts.reserve(pieces.size());
  for (const Piece& piece : pieces)
    for (int64_t begin = 0; begin < piece.bytes; begin += kMostStaged)
      parts.push_back({static_cast<const char*>(piece.source) + begin,
                       std::min(kMostStaged, piece.bytes - begin), piece.offset + begin});
  return parts;
}

/// The first piece after those that are staged together with piece `first`.
size_t end_of_window(const std::vector<Piece>& pieces, size_t first) {
  size_t end = first + 1;
  while (end < pieces.size() && pieces[end].offset + pieces[end].bytes - pieces[first].offset <= kMostStaged)
    ++end;
  return end;
}

/// Pieces [first, end), in one copy.
void upload_window(char* target, const std::vector<Piece>& pieces, size_t first, size_t end) {
  const int64_t begin = pieces[first].offset;
  const int64_t bytes = pieces[end - 1].offset + pieces[end - 1].bytes - begin;
  const StagingBlock block = StagingBlocks::all().take(bytes);
  const auto stage = [&](const Piece& piece) {
    copy_in_parallel(static_cast<char*>(block.memory) + piece.offset - begin, piece.source, piece.bytes);
  };
  if (end - first <= kFewPieces)
    std::for_each(pieces.data() + first, pieces.data() + end, stage);
  else
    for_small_pieces(end - first, [&](size_t p) { stage(pieces[first + p]); });
  copy_staged(target + begin, block, bytes);
}

}  // namespace

void upload(void* target, const std::vector<Piece>& pieces) {
  const std::vector<Piece> parts = cut(pieces);
  for (size_t first = 0; first < parts.size();) {
    const size_t end = end_of_window(parts, first);
    upload_window(static_cast<char*>(target), parts, first, end);
    first = end;
  }
}

void upload(void* target, const void* source, int64_t bytes) {
  upload(target, std::vector<Piece>{{source, bytes, 0}});
}

namespace {

void copy_to_host(void* target, const void* source, int64_t bytes) {
  check(cudaMemcpyAsync(target, source, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, stream()),
        "copying from the GPU");
}

}  // namespace

void download(void* target, const void* source, int64_t bytes) {
  copy_to_host(target, source, bytes);
  Device::current().wait();
}

void take(void* target, void* source, int64_t bytes) {
  const StagingBlock block = StagingBlocks::all().take(bytes);
  copy_to_host(block.memory, source, bytes);
  release(source, stream());
  Device::current().wait();
  std::memcpy(target, block.memory, static_cast<size_t>(bytes));
  StagingBlocks::all().give_back(block);
}

void clear(void* target, int64_t bytes) {
  check(cudaMemsetAsync(target, 0, static_cast<size_t>(bytes), stream()), "clearing memory of the GPU");
}

}  // namespace detail
}  // namespace hyperattn::cuda
