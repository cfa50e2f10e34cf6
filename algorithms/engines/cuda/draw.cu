// Directions of hash functions (sort.h). Nothing is fused here, so that they are the bits of the host.
#include <cuda_runtime.h>

#include <Random123/philox.h>

#include "algorithms/engines/cuda/sort.h"
#include "core/box_muller.h"

namespace hyperattn::cuda {
namespace {

constexpr int kThreads = 256;

__device__ uint64_t joined(uint32_t low, uint32_t high) {
  return static_cast<uint64_t>(high) << 32 | low;
}

/// RandomStream::normal.
__device__ double normal(const RandomStream::Name& stream, uint64_t index) {
  const r123::Philox4x32::ctr_type counter = {{static_cast<uint32_t>(index),
                                               static_cast<uint32_t>(index >> 32), stream.counter_high[0],
                                               stream.counter_high[1]}};
  const r123::Philox4x32::ctr_type block = r123::Philox4x32()(counter, {{stream.key[0], stream.key[1]}});
  return box_muller_steps::number(joined(block[0], block[1]), joined(block[2], block[3]));
}

/// A thread an element of a function's groups.
__global__ void __launch_bounds__(kThreads) draw_kernel(DrawArguments a) {
  const int64_t of_function =
      static_cast<int64_t>((a.bits + kDirections - 1) / kDirections) * kDirections * a.width;
  const int64_t number = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (number >= a.function_count * of_function) return;
  const StreamPlace source = a.functions[number / of_function];
  const int64_t place = number % of_function;
  const int64_t row = place / kDirections;  // of d × 8 numbers, group by group
  const int64_t direction = row / a.width * kDirections + place % kDirections;
  const bool is_there = direction < a.bits;
  const auto index = source.first + static_cast<uint64_t>(direction * a.width + row % a.width);
  a.directions[number] = is_there ? static_cast<float>(normal(source.stream, index)) : 0.0F;
}

}  // namespace

LaunchError launch_draw(const DrawArguments& arguments, void* stream) {
  const int64_t groups = (arguments.bits + kDirections - 1) / kDirections;
  const int64_t numbers = arguments.function_count * groups * kDirections * arguments.width;
  if (numbers == 0) return cudaSuccess;
  draw_kernel<<<static_cast<unsigned>((numbers + kThreads - 1) / kThreads), kThreads, 0,
                static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
