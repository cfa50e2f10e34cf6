#include "algorithms/engines/cuda/planning.h"

#include <cuda_runtime.h>

#include <cub/device/device_radix_sort.cuh>

namespace hyperattn::cuda {
namespace {

constexpr int kThreads = 128;
constexpr unsigned kAll = 0xffffffffU;

cudaStream_t stream_of(void* stream) {
  return static_cast<cudaStream_t>(stream);
}

__device__ int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

/// body(arguments, index) for `count` indices, a thread each.
template <class Arguments, class Body>
__global__ void __launch_bounds__(kThreads) each_kernel(Arguments arguments, int64_t count, Body body) {
  const int64_t index = thread_index();
  if (index < count) body(arguments, index);
}

template <class Arguments, class Body>
LaunchError for_each(const Arguments& arguments, int64_t count, Body body, void* stream) {
  if (count == 0) return cudaSuccess;
  each_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream_of(stream)>>>(
      arguments, count, body);
  return cudaGetLastError();
}

struct NormOfRow {
  __device__ void operator()(const NormArguments& a, int64_t i) const { norm_of_row(a, i); }
};
struct Gather {
  __device__ void operator()(const GatherArguments& a, int64_t i) const {
    a.target[i] = a.rows.row(a.names[i / a.rows.depth])[i % a.rows.depth];
  }
};
struct MeanOfRun {
  __device__ void operator()(const RunArguments& a, int64_t i) const {
    mean_of_run(a, i / a.rows.depth, i % a.rows.depth);
  }
};
struct SquaresOfRun {
  __device__ void operator()(const RunArguments& a, int64_t i) const {
    squares_of_run(a, i / a.rows.depth, i % a.rows.depth);
  }
};
struct BestOfRow {
  __device__ void operator()(const CentreArguments& a, int64_t i) const { best_of_row(a, i); }
};
struct ScoreKey {
  __device__ void operator()(const MassArguments& a, int64_t i) const {
    score_key(a, i / a.queries, i % a.queries);
  }
};
template <int Lanes>
struct WeighChunk {
  __device__ void operator()(const MassArguments& a, int64_t i) const {
    weigh_chunk<Lanes>(a, i / a.queries, i % a.queries);
  }
};
struct MassOfKey {
  __device__ void operator()(const MassArguments& a, int64_t i) const { mass_of_key(a, i); }
};
struct CovarianceOfPart {
  __device__ void operator()(const CovarianceArguments& a, int64_t i) const {
    const int64_t entry = i / a.b.depth;
    covariance_of_part(a, entry / a.a.depth, entry % a.a.depth, i % a.b.depth);
  }
};
struct SumOfPart {
  __device__ void operator()(const PartSumArguments& a, int64_t i) const {
    sum_of_part(a, i / a.rows.depth, i % a.rows.depth);
  }
};
struct SquaresOfColumn {
  __device__ void operator()(const ColumnSquareArguments& a, int64_t i) const { squares_of_column(a, i); }
};
template <int Lanes>
struct PlaceRank {
  __device__ void operator()(const HalvingArguments& a, int64_t i) const { place_rank<Lanes>(a, i); }
};
struct VarianceOfRow {
  __device__ void operator()(const VarianceArguments& a, int64_t i) const {
    variance_of_row(a, i / a.rows, i % a.rows);
  }
};
struct GateCandidate {
  __device__ void operator()(const BeamArguments& a, int64_t i) const {
    gate_candidate(a, i / a.candidates, i % a.candidates);
  }
};

/// All threads of a block, for what needs no more than their waiting for each other.
struct BlockTeam {
  [[nodiscard]] __device__ static int index() { return static_cast<int>(threadIdx.x); }
  [[nodiscard]] __device__ static int size() { return static_cast<int>(blockDim.x); }
  __device__ static void sync() { __syncthreads(); }
};

/// A warp; see LoneThread.
struct WarpTeam {
  [[nodiscard]] __device__ static int index() { return static_cast<int>(threadIdx.x) % 32; }
  [[nodiscard]] __device__ static int size() { return 32; }
  [[nodiscard]] __device__ static int sum(int x) {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(kAll, x, step);
    return x;
  }
  [[nodiscard]] __device__ static int before(bool is) {
    return __popc(__ballot_sync(kAll, is) & ((1U << index()) - 1));
  }
  [[nodiscard]] __device__ static int count(bool is) { return __popc(__ballot_sync(kAll, is)); }
  [[nodiscard]] __device__ static uint64_t largest(uint64_t x) {
    for (int step = 16; step > 0; step /= 2) {
      const uint64_t other = __shfl_xor_sync(kAll, static_cast<unsigned long long>(x), step);
      x = other > x ? other : x;
    }
    return x;
  }
};

/// A block a segment.
template <int Lanes>
__global__ void __launch_bounds__(kThreads) direction_kernel(HalvingArguments a) {
  extern __shared__ float scratch[];
  const int64_t segment = blockIdx.x;
  if (a.sorted[segment] != 0) find_direction<Lanes>(BlockTeam(), a, segment, scratch);
}

template <int Lanes>
LaunchError halve(const HalvingArguments& a, void* stream) {
  const auto bytes = static_cast<size_t>(direction_scratch(a.keys.depth)) * sizeof(float);
  const cudaError_t error = cudaFuncSetAttribute(
      direction_kernel<Lanes>, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  if (error != cudaSuccess) return error;
  direction_kernel<Lanes><<<static_cast<unsigned>(a.segments), kThreads, bytes, stream_of(stream)>>>(a);
  const cudaError_t launched = cudaGetLastError();
  if (launched != cudaSuccess) return launched;
  return for_each(a, a.count, PlaceRank<Lanes>(), stream);
}

/// A warp a row.
__global__ void __launch_bounds__(kThreads) open_kernel(BeamArguments a) {
  const int64_t row = thread_index() / 32;
  if (row < a.rows) open_largest(WarpTeam(), a, row);
}

}  // namespace

LaunchError launch_norms(const NormArguments& a, void* stream) {
  return for_each(a, a.count, NormOfRow(), stream);
}
LaunchError launch_gather(const GatherArguments& a, void* stream) {
  return for_each(a, a.count * a.rows.depth, Gather(), stream);
}
LaunchError launch_run_means(const RunArguments& a, void* stream) {
  return for_each(a, a.runs * a.rows.depth, MeanOfRun(), stream);
}
LaunchError launch_run_squares(const RunArguments& a, void* stream) {
  return for_each(a, a.runs * a.rows.depth, SquaresOfRun(), stream);
}
LaunchError launch_best_centres(const CentreArguments& a, void* stream) {
  return for_each(a, a.count, BestOfRow(), stream);
}
LaunchError launch_mass_weights(int lanes, const MassArguments& a, void* stream) {
  const LaunchError scored = for_each(a, a.count * a.queries, ScoreKey(), stream);
  if (scored != cudaSuccess) return scored;
  const int64_t sums = a.chunks * a.queries;
  return lanes == 8 ? for_each(a, sums, WeighChunk<8>(), stream)
                    : for_each(a, sums, WeighChunk<16>(), stream);
}
LaunchError launch_masses(const MassArguments& a, void* stream) {
  return for_each(a, a.count, MassOfKey(), stream);
}
LaunchError launch_covariance(const CovarianceArguments& a, void* stream) {
  return for_each(a, a.parts * a.a.depth * a.b.depth, CovarianceOfPart(), stream);
}
LaunchError launch_part_sums(const PartSumArguments& a, void* stream) {
  return for_each(a, a.parts * a.rows.depth, SumOfPart(), stream);
}
LaunchError launch_column_squares(const ColumnSquareArguments& a, void* stream) {
  return for_each(a, a.rows.depth, SquaresOfColumn(), stream);
}

LaunchError launch_halving(int lanes, const HalvingArguments& arguments, void* stream) {
  return lanes == 8 ? halve<8>(arguments, stream) : halve<16>(arguments, stream);
}

LaunchError sort_places(void* scratch, size_t& scratch_bytes, const uint64_t* places, uint64_t* sorted_places,
                        const int32_t* rows, int32_t* sorted_rows, int64_t count, int bits, void* stream) {
  return cub::DeviceRadixSort::SortPairs(scratch, scratch_bytes, places, sorted_places, rows, sorted_rows,
                                         count, 0, bits, stream_of(stream));
}

LaunchError launch_variances(const VarianceArguments& a, void* stream) {
  return for_each(a, a.levels * a.rows, VarianceOfRow(), stream);
}

LaunchError launch_beam(const BeamArguments& a, void* stream) {
  const LaunchError gated = for_each(a, a.rows * a.candidates, GateCandidate(), stream);
  if (gated != cudaSuccess || a.rows == 0) return gated;
  constexpr int kRows = kThreads / 32;
  open_kernel<<<static_cast<unsigned>((a.rows + kRows - 1) / kRows), kThreads, 0, stream_of(stream)>>>(a);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
