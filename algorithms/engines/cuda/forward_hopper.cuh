// The forward pass of one phase on Hopper's matrix units, for rows of 64 columns in 16 bits and key lists
// that the rows of a tile share: eight warps for 128 query rows, and two that gather (hopper_pipe.cuh).
#pragma once

#include "algorithms/engines/cuda/forward.cuh"
#include "algorithms/engines/cuda/hopper_pipe.cuh"

namespace hyperattn::cuda {

#if HYPERATTN_HAS_WGMMA

/// A row's reference follows its largest score when that is larger by more than this, in base 2: sums and
/// numerators are then scaled seldom, and weights stay below 2^8.
constexpr float kReferenceSlack = 8;
/// Sums of so many chunks are taken in fp32, then added up in double precision.
constexpr int kSumChunks = 16;

/// The running state of the two rows of a thread.
struct HopperRun {
  float maximum[2];
  float part[2];  ///< of the sum: what the thread's own columns have added to it lately
  double sum[2];
  float out[8][4];
};

/// Weighted scores x·scale + bias to weights; references, sums and numerators follow them.
template <class T>
__device__ __forceinline__ void weigh_chunk(float (&x)[8][4], HopperRun& run, float scale, float bias) {
  float shift[2];
  float kept[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most[2] = {fmaxf(x[0][2 * h], x[0][2 * h + 1]), fmaxf(x[1][2 * h], x[1][2 * h + 1])};
#pragma unroll
    for (int n = 2; n < 8; ++n) most[n % 2] = fmaxf(most[n % 2], fmaxf(x[n][2 * h], x[n][2 * h + 1]));
    float all = fmaxf(most[0], most[1]);
    all = fmaxf(all, __shfl_xor_sync(0xffffffffU, all, 1));
    all = fmaxf(all, __shfl_xor_sync(0xffffffffU, all, 2));
    all = fmaf(all, scale, bias);
    const float before = run.maximum[h];
    const bool rises = all > before + kReferenceSlack;
    run.maximum[h] = rises ? all : before;
    kept[h] = rises ? power_of_two<T>(before - all) : 1;
    shift[h] = bias - (run.maximum[h] > minus_infinity() ? run.maximum[h] : 0);
  }
  if (__any_sync(0xffffffffU, kept[0] != 1 || kept[1] != 1)) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      run.part[h] *= kept[h];
      run.sum[h] *= static_cast<double>(kept[h]);
#pragma unroll
      for (int c = 0; c < 8; ++c) {
        run.out[c][2 * h] *= kept[h];
        run.out[c][2 * h + 1] *= kept[h];
      }
    }
  }
  float sum[2][2] = {{run.part[0], 0}, {run.part[1], 0}};
#pragma unroll
  for (int n = 0; n < 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      x[n][e] = power_of_two<T>(fmaf(x[n][e], scale, shift[e / 2]));
      sum[e / 2][e % 2] += x[n][e];
    }
#pragma unroll
  for (int h = 0; h < 2; ++h) run.part[h] = sum[h][0] + sum[h][1];
}

/// To the sums that the four threads of a row all have.
__device__ __forceinline__ void add_parts(HopperRun& run) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float part = run.part[h];
    part += __shfl_xor_sync(0xffffffffU, part, 1);
    part += __shfl_xor_sync(0xffffffffU, part, 2);
    run.sum[h] += static_cast<double>(part);
    run.part[h] = 0;
  }
}

/// Rows of a phase that is the only one have no state yet.
__device__ __forceinline__ void begin_run(const ForwardArguments& arguments, const int64_t* query_row,
                                          const OwnRows& own, HopperRun& run) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    run.maximum[h] = minus_infinity();
    run.part[h] = 0;
    run.sum[h] = 0;
  }
  clear_products(run.out);
  if (arguments.is_only) return;
  const RowState& state = arguments.state;
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!own.there[h]) continue;
    const int64_t row = query_row[own.row[h]];
    run.maximum[h] = state.maximum[row];
    if (!(run.maximum[h] > minus_infinity())) continue;
    run.sum[h] = state.sum[row];
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      const float2 pair = *reinterpret_cast<const float2*>(state.out + row * kHopperColumns + c * 8 + 2 * t);
      run.out[c][2 * h] = pair.x;
      run.out[c][2 * h + 1] = pair.y;
    }
  }
}

/// Numerators times `factor` as 64 elements of a row in 16 bits: neighbours change pairs, so that four
/// threads write 32 bytes side by side.
template <class T>
__device__ __forceinline__ void store_row(T* out, const float (&sum)[8][4], int h, float factor, bool there) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const bool odd = t % 2 != 0;
#pragma unroll
  for (int c = 0; c < 8; c += 2) {
    const uint32_t first =
        pack(sum[c][2 * h] * factor, sum[c][2 * h + 1] * factor, static_cast<const T*>(nullptr));
    const uint32_t second =
        pack(sum[c + 1][2 * h] * factor, sum[c + 1][2 * h + 1] * factor, static_cast<const T*>(nullptr));
    const uint32_t other = __shfl_xor_sync(0xffffffffU, odd ? first : second, 1);
    const uint2 both = odd ? uint2{other, second} : uint2{first, other};
    if (there) *reinterpret_cast<uint2*>(out + (c + (odd ? 1 : 0)) * 8 + t / 2 * 4) = both;
  }
}

/// Row `row` of a matrix in some type.
__device__ __forceinline__ void store_row(void* rows, Precision type, int64_t row, int width,
                                          const float (&sum)[8][4], int h, float factor, bool there) {
  if (width == kHopperColumns && type == Precision::bf16)
    return store_row(static_cast<__nv_bfloat16*>(rows) + row * kHopperColumns, sum, h, factor, there);
  if (width == kHopperColumns && type == Precision::fp16)
    return store_row(static_cast<__half*>(rows) + row * kHopperColumns, sum, h, factor, there);
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int c = 0; c < 8; ++c)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int column = c * 8 + 2 * t + e;
      if (there && column < width)
        store_element(rows, type, row * width + column, sum[c][2 * h + e] * factor);
    }
}

/// What store_finished does.
__device__ __forceinline__ void finish_run(const FinishArguments& finish, const int64_t* query_row,
                                           const OwnRows& own, const HopperRun& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const auto sum = static_cast<float>(run.sum[h]);
    const int64_t row = own.there[h] ? query_row[own.row[h]] : 0;
    const RowEnd end = row_end(sum, 0);
    const RowValues values = row_values_in_fp32(run.maximum[h], sum);
    const float factor = end.empty ? 0.0F : values.inverse;
    float check = 0;  // becomes NaN by a NaN or infinity
#pragma unroll
    for (int c = 0; c < 8; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) check = fmaf(run.out[c][2 * h + e] * factor, 0.0F, check);
    store_row(finish.out, finish.out_type, row, finish.value_dim, run.out, h, factor, own.there[h]);
    const bool infinite = any_of_four(!(check == 0));
    if (t == 0 && own.there[h]) store_row_end(finish, row, run.maximum[h], run.sum[h], end, values, infinite);
  }
}

__device__ __forceinline__ void keep_run(const RowState& state, const int64_t* query_row, const OwnRows& own,
                                         const HopperRun& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!own.there[h]) continue;
    const int64_t row = query_row[own.row[h]];
    if (t == 0) {
      state.maximum[row] = run.maximum[h];
      state.sum[row] = run.sum[h];
    }
#pragma unroll
    for (int c = 0; c < 8; ++c)
      *reinterpret_cast<float2*>(state.out + row * kHopperColumns + c * 8 + 2 * t) = {run.out[c][2 * h],
                                                                                      run.out[c][2 * h + 1]};
  }
}

/// The warps that multiply. Weights times values of a chunk and queries times keys of the next are under way
/// together.
template <class T, class Shape>
__device__ __forceinline__ void multiply_forward(const ForwardArguments& arguments, HopperPipe<Shape>& pipe) {
  const int warp = static_cast<int>(own_warp() % kHopperWarps);
  const bool signals = threadIdx.x % 32 == 0;
  PipePlace<Shape::kStages> place;
  float x[8][4] = {};
  HopperRun run;
  for (int turn = 0;; ++turn) {
    const int side = turn % 2;
    await_phase(pipe.tile_full[side], turn / 2 % 2);
    const TileNote& note = pipe.tile[side];
    if (note.is_end != 0) return;
    begin_run(arguments, pipe.query_row[side], own_rows(note.tile, note.pass, warp), run);
    if (note.has_chunks != 0) {
      const uint64_t queries = descriptor_of(pipe.rows[side][0] + warp / 4 * kTileBytes);
      await_phase(pipe.chunk_full[place.stage], place.parity);
      show_to_products();
      begin_products();
      multiply_tiles<T>(x, queries, descriptor_of(pipe.stage[place.stage].keys));
      await_products(x);
      uint32_t weights[4][4];
      for (int count = 1;; ++count) {
        const int stage = place.stage;
        const ChunkNote chunk = pipe.chunk[stage];
        float scale = arguments.inputs.scale;
        float bias = chunk.bias[0];
        if (!(bias == chunk.bias[1])) {
          score_chunk(x, pipe.bias[stage], chunk, note, scale);
          scale = 1;
          bias = 0;
        }
        weigh_chunk<T>(x, run, scale, bias);
        if (count % kSumChunks == 0) add_parts(run);
        pack_weights<T>(weights, x);
        if (chunk.is_last != 0) break;
        place.advance();
        await_phase(pipe.chunk_full[place.stage], place.parity);
        show_to_products();
        begin_products();
        multiply_weights_tile<T>(run.out, weights, descriptor_of(pipe.stage[stage].values));
        multiply_tiles<T>(x, queries, descriptor_of(pipe.stage[place.stage].keys));
        await_products(x, run.out);
        if (signals) arrive_at(pipe.chunk_free[stage]);
      }
      begin_products();
      multiply_weights_tile<T>(run.out, weights, descriptor_of(pipe.stage[place.stage].values));
      await_products(run.out);
      if (signals) arrive_at(pipe.chunk_free[place.stage]);
      place.advance();
    }
    add_parts(run);
    const OwnRows own = own_rows(note.tile, note.pass, warp);
    if (arguments.finishes(note.tile))
      finish_run(arguments.finish, pipe.query_row[side], own, run);
    else
      keep_run(arguments.state, pipe.query_row[side], own, run);
    __syncwarp();
    if (signals) arrive_at(pipe.tile_free[side]);
  }
}

#endif

template <class T, class Shape>
__global__ void __launch_bounds__(kHopperThreads<Shape>, 1)
    hopper_forward_kernel(const __grid_constant__ ForwardArguments arguments) {
#if HYPERATTN_HAS_WGMMA
  extern __shared__ unsigned char memory[];
  auto* pipes = &aligned_shared<HopperPipe<Shape>>(memory);
  begin_pipes(pipes);
  auto& pipe = pipes[own_pipe<Shape>()];
  if (threadIdx.x >= kMultipliers<Shape>) {
    give_registers<Shape::kFeedRegisters>();
    PipeFeed<T, Shape> feed(arguments.plan, arguments.inputs, pipe);
    feed.run(arguments.first_tile, static_cast<int32_t>(arguments.tile_count), {arguments.inputs.query});
  } else {
    take_registers<Shape::kMultiplierRegisters>();
    multiply_forward<T, Shape>(arguments, pipe);
  }
#endif
}

/// Whether the kernel that was loaded is that for Hopper, and not one that the driver made of general code.
template <class T>
bool is_hopper_code() {
  static const bool is = [] {
    cudaFuncAttributes attributes{};
    return cudaFuncGetAttributes(&attributes, hopper_forward_kernel<T, ForwardShape>) == cudaSuccess &&
           attributes.ptxVersion == 90;
  }();
  return is;
}

}  // namespace hyperattn::cuda
