// Chooses the size of tiles by the width of rows, and launches. One source for each precision includes this,
// so that they compile side by side.
#pragma once

#include <algorithm>

#include "algorithms/engines/cuda/backward.cuh"
#include "algorithms/engines/cuda/backward_hopper.cuh"
#include "algorithms/engines/cuda/forward.cuh"
#include "algorithms/engines/cuda/forward_hopper.cuh"

namespace hyperattn::cuda {

/// Keys (or query rows) of a chunk: what fits beside the own tile.
template <class T>
constexpr int kChunkOfNarrow = 64;
template <>
inline constexpr int kChunkOfNarrow<float> = 32;
constexpr int kChunkOfWide = 32;
constexpr int kWide = 128;  // beyond this many columns

template <class Arguments>
LaunchError launch(void (*kernel)(Arguments), dim3 grid, int64_t shared, const Arguments& arguments,
                   void* stream, int threads = kThreads) {
  if (grid.x == 0 || grid.y == 0) return cudaSuccess;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error != cudaSuccess) return error;
  kernel<<<grid, threads, static_cast<size_t>(shared), static_cast<cudaStream_t>(stream)>>>(arguments);
  return cudaGetLastError();
}

template <class T>
struct Launches {
  static constexpr int kNarrow = kChunkOfNarrow<T>;

  static LaunchError forward(const ForwardArguments& arguments, void* stream) {
    const int d = arguments.inputs.head_dim;
    const int d_v = arguments.inputs.value_dim;
    const dim3 grid(static_cast<unsigned>(arguments.tile_count));
    if constexpr (sizeof(T) == 2) {
      if (arguments.tile_rows == kWidestTileRows) return hopper_forward<ForwardShape>(arguments, stream);
      if (arguments.tile_rows == kWideTileRows) return hopper_forward<NarrowForwardShape>(arguments, stream);
    }
    const bool wide = std::max(d, d_v) > kWide;
    const int64_t shared =
        wide ? forward_shared_bytes<T, kChunkOfWide>(d, d_v) : forward_shared_bytes<T, kNarrow>(d, d_v);
    if (wide) return launch(forward_kernel<T, kChunkOfWide, 32>, grid, shared, arguments, stream);
    if (d_v > 64) return launch(forward_kernel<T, kNarrow, 16>, grid, shared, arguments, stream);
    return launch(forward_kernel<T, kNarrow, 8>, grid, shared, arguments, stream);
  }

  template <class Shape>
  static LaunchError hopper_forward(const ForwardArguments& arguments, void* stream) {
    return launch(hopper_forward_kernel<T, Shape>, dim3(pipe_blocks(arguments.tile_count, Shape::kBlocks)),
                  kPipeBytes<Shape>, arguments, stream, kHopperThreads<Shape>);
  }

  static bool takes_wide_tiles(int64_t head_dim, int64_t value_dim) {
    if constexpr (sizeof(T) == 2)
      return padded_width(head_dim) == kHopperColumns && padded_width(value_dim) == kHopperColumns &&
             is_hopper_code<T>();
    return false;
  }

  static LaunchError query_gradient(const QueryGradientArguments& arguments, void* stream) {
    const int d = arguments.inputs.head_dim;
    const int d_v = arguments.inputs.value_dim;
    const dim3 grid(static_cast<unsigned>(arguments.tile_count));
    if constexpr (sizeof(T) == 2)
      if (arguments.wide_tiles)
        return launch(hopper_query_gradient_kernel<T>, dim3(pipe_blocks(arguments.tile_count)),
                      kPipeBytes<QueryGradientShape>, arguments, stream, kHopperThreads<QueryGradientShape>);
    const bool wide = std::max(d, d_v) > kWide;
    const int64_t shared = wide ? query_gradient_shared_bytes<T, kChunkOfWide>(d, d_v)
                                : query_gradient_shared_bytes<T, kNarrow>(d, d_v);
    if (wide) return launch(query_gradient_kernel<T, kChunkOfWide, 32>, grid, shared, arguments, stream);
    if (d > 64) return launch(query_gradient_kernel<T, kNarrow, 16>, grid, shared, arguments, stream);
    return launch(query_gradient_kernel<T, kNarrow, 8>, grid, shared, arguments, stream);
  }

  static LaunchError key_gradient(const KeyGradientArguments& arguments, void* stream) {
    const int d = arguments.inputs.head_dim;
    const int upstream = arguments.rows.upstream_dim;
    const bool of_keys = arguments.of_keys;
    if constexpr (sizeof(T) == 2)
      if (arguments.is_plain)
        return launch(hopper_key_gradient_kernel<T>, dim3(pipe_blocks(arguments.job_count)), kKeyPipeBytes,
                      arguments, stream, kHopperThreads<KeyGradientShape>);
    const auto slices = [](int width) {
      return static_cast<unsigned>((width + kSliceColumns - 1) / kSliceColumns);
    };
    const dim3 grid(static_cast<unsigned>(arguments.job_count), slices(upstream) + (of_keys ? slices(d) : 0));
    const int columns = of_keys ? upstream : std::min(upstream, kSliceColumns);
    if (std::max(d, columns) > kWide)
      return launch(key_gradient_kernel<T, kChunkOfWide>, grid,
                    key_gradient_shared_bytes<T, kChunkOfWide>(d, columns), arguments, stream);
    return launch(key_gradient_kernel<T, kNarrow>, grid, key_gradient_shared_bytes<T, kNarrow>(d, columns),
                  arguments, stream);
  }

  static int64_t shared(int64_t head_dim, int64_t value_dim) {
    const auto d = static_cast<int>(padded_width(head_dim));
    const auto d_v = static_cast<int>(padded_width(value_dim));
    if (std::max(d, d_v) > kWide)
      return std::max({forward_shared_bytes<T, kChunkOfWide>(d, d_v),
                       query_gradient_shared_bytes<T, kChunkOfWide>(d, d_v),
                       key_gradient_shared_bytes<T, kChunkOfWide>(d, d_v)});
    return std::max({forward_shared_bytes<T, kNarrow>(d, d_v),
                     query_gradient_shared_bytes<T, kNarrow>(d, d_v),
                     key_gradient_shared_bytes<T, kNarrow>(d, d_v)});
  }
};

/// Defines the launches of one precision under names that end in it; kernels.cu calls them.
#define HYPERATTN_CUDA_PRECISION(NAME, TYPE)                                                 \
  LaunchError forward_##NAME(const ForwardArguments& arguments, void* stream) {              \
    return Launches<TYPE>::forward(arguments, stream);                                       \
  }                                                                                          \
  LaunchError query_gradient_##NAME(const QueryGradientArguments& arguments, void* stream) { \
    return Launches<TYPE>::query_gradient(arguments, stream);                                \
  }                                                                                          \
  LaunchError key_gradient_##NAME(const KeyGradientArguments& arguments, void* stream) {     \
    return Launches<TYPE>::key_gradient(arguments, stream);                                  \
  }                                                                                          \
  bool takes_wide_tiles_##NAME(int64_t head_dim, int64_t value_dim) {                        \
    return Launches<TYPE>::takes_wide_tiles(head_dim, value_dim);                            \
  }                                                                                          \
  int64_t shared_##NAME(int64_t head_dim, int64_t value_dim) {                               \
    return Launches<TYPE>::shared(head_dim, value_dim);                                      \
  }

}  // namespace hyperattn::cuda
