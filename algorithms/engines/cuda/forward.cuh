// The forward pass of one phase: a block of four warps for each tile of query rows.
#pragma once

#include "algorithms/engines/cuda/row_tile.cuh"

namespace hyperattn::cuda {

template <int K>
struct ForwardShared {
  int64_t query_row[kTileRows];
  ChunkShared<K> chunk;
};

template <class T, int K>
__host__ __device__ constexpr int64_t forward_shared_bytes(int head_dim, int value_dim) {
  return static_cast<int64_t>(sizeof(ForwardShared<K>)) +
         static_cast<int64_t>(sizeof(T)) *
             ((kTileRows + K) * tile_stride<T>(head_dim) + K * tile_stride<T>(value_dim));
}

/// The running state of the two rows of a thread. Sums are the thread's own part until `combine`.
template <int C>
struct RunningRows {
  float maximum[2];
  double sum[2];
  double absolute[2];
  double linear[2];
  float out[C][4];
};

/// `has_state`: false where these are the only tiles.
template <int C>
__device__ __forceinline__ void load_state(const RowState& state, const int64_t* query_row,
                                           const OwnRows& own, bool has_state, int stride,
                                           RunningRows<C>& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const bool mine = own.there[h] && has_state;
    const int64_t row = mine ? query_row[own.row[h]] : 0;
    run.maximum[h] = mine ? state.maximum[row] : minus_infinity();
    run.sum[h] = mine && t == 0 ? state.sum[row] : 0;
    run.absolute[h] = mine && t == 0 && state.absolute != nullptr ? state.absolute[row] : 0;
    run.linear[h] = 0;
    const bool is_begun = mine && state.out != nullptr && run.maximum[h] > minus_infinity();
#pragma unroll
    for (int c = 0; c < C; ++c) {  // pairs of columns, of which rows have an even number
      float2 pair = {0, 0};
      if (is_begun && c * 8 + 2 * t < stride)
        pair = *reinterpret_cast<const float2*>(state.out + row * stride + c * 8 + 2 * t);
      run.out[c][2 * h] = pair.x;
      run.out[c][2 * h + 1] = pair.y;
    }
  }
}

__device__ __forceinline__ double sum_of_four(double value) {
  value += __shfl_xor_sync(0xffffffffU, value, 1);
  return value + __shfl_xor_sync(0xffffffffU, value, 2);
}

template <int C>
__device__ __forceinline__ void store_state(const RowState& state, const int64_t* query_row,
                                            const OwnRows& own, int stride, const RunningRows<C>& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const double sum = sum_of_four(run.sum[h]);
    const double absolute = sum_of_four(run.absolute[h]);
    const double linear = sum_of_four(run.linear[h]);
    if (!own.there[h]) continue;
    const int64_t row = query_row[own.row[h]];
    if (t == 0) {
      state.maximum[row] = run.maximum[h];
      state.sum[row] = sum;
      if (state.absolute != nullptr) state.absolute[row] = absolute;
      if (state.linear != nullptr) state.linear[row] = linear;
    }
    if (state.out == nullptr) continue;
#pragma unroll
    for (int c = 0; c < C; ++c)
      if (c * 8 + 2 * t < stride)
        *reinterpret_cast<float2*>(state.out + row * stride + c * 8 + 2 * t) = {run.out[c][2 * h],
                                                                                run.out[c][2 * h + 1]};
  }
}

/// The end of rows that nothing more is added to: finish_kernel's, from registers.
template <int C>
__device__ __forceinline__ void store_finished(const FinishArguments& finish, const int64_t* query_row,
                                               const OwnRows& own, const RunningRows<C>& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const double sum = sum_of_four(run.sum[h]);
    const double absolute = finish.state.absolute != nullptr ? sum_of_four(run.absolute[h]) : 0;
    const int64_t row = own.there[h] ? query_row[own.row[h]] : 0;
    const RowEnd end = row_end(sum, absolute);
    const double factor = end.empty ? 0 : 1 / sum;
    bool infinite = false;
    if (finish.out != nullptr && own.there[h])
#pragma unroll
      for (int c = 0; c < C; ++c) {
        float value[2];
#pragma unroll
        for (int e = 0; e < 2; ++e)
          value[e] =
              end.empty ? 0.0F : static_cast<float>(static_cast<double>(run.out[c][2 * h + e]) * factor);
        const int column = c * 8 + 2 * t;
        const int64_t element = row * finish.value_dim + column;
        if (column + 1 < finish.value_dim && finish.value_dim % 2 == 0) {
          store_pair(finish.out, finish.out_type, element, value[0], value[1]);
          infinite =
              infinite || !(fabsf(value[0]) < -minus_infinity() && fabsf(value[1]) < -minus_infinity());
          continue;
        }
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (column + e < finish.value_dim) {
            store_element(finish.out, finish.out_type, element + e, value[e]);
            infinite = infinite || !(fabsf(value[e]) < -minus_infinity());
          }
      }
    infinite = any_of_four(infinite);
    if (t == 0 && own.there[h])
      store_row_end(finish, row, run.maximum[h], sum, end, row_values(run.maximum[h], sum), infinite);
  }
}

/// Raises the maxima to those of the scores, which become weights times N; sums follow.
template <class T, int K, int C>
__device__ __forceinline__ void add_scores(float (&x)[K / 8][4], const ChunkShared<K>& chunk,
                                           const ChunkTraits& traits, RunningRows<C>& run) {
  const int t = static_cast<int>(threadIdx.x) % 4;
  const bool with_signs = traits.list->numerator != kNone;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    float most = run.maximum[h];
#pragma unroll
    for (int n = 0; n < K / 8; ++n) most = fmaxf(most, fmaxf(x[n][2 * h], x[n][2 * h + 1]));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 1));
    most = fmaxf(most, __shfl_xor_sync(0xffffffffU, most, 2));
    const float reference = most > minus_infinity() ? most : 0;
    const float kept = exp2f(run.maximum[h] - reference);
    run.maximum[h] = most;
    float sum = 0;
    float absolute = 0;
#pragma unroll
    for (int n = 0; n < K / 8; ++n)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int slot = n * 8 + 2 * t + e;
        const float weight = power_of_two<T>(x[n][2 * h + e] - reference);
        sum += with_signs ? weight * chunk.denominator[slot] : weight;
        absolute += with_signs ? weight * fabsf(chunk.denominator[slot]) : weight;
        x[n][2 * h + e] = with_signs ? weight * chunk.numerator[slot] : weight;
      }
    run.sum[h] = run.sum[h] * static_cast<double>(kept) + static_cast<double>(sum);
    run.absolute[h] = run.absolute[h] * static_cast<double>(kept) + static_cast<double>(absolute);
    run.linear[h] = run.linear[h] * static_cast<double>(kept) +
                    (traits.list->linear != 0 ? static_cast<double>(sum) : 0.0);
#pragma unroll
    for (int c = 0; c < C; ++c) {
      run.out[c][2 * h] *= kept;
      run.out[c][2 * h + 1] *= kept;
    }
  }
}

/// C · 8 columns of values at most.
template <class T, int K, int C>
__global__ void __launch_bounds__(kThreads, blocks_at_once<T>(8 * C))
    forward_kernel(ForwardArguments arguments) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<ForwardShared<K>*>(memory);
  const int d = arguments.inputs.head_dim;
  const int d_v = arguments.inputs.value_dim;
  const int query_stride = tile_stride<T>(d);
  const int value_stride = tile_stride<T>(d_v);
  T* queries = reinterpret_cast<T*>(memory + sizeof(ForwardShared<K>));
  T* keys = queries + kTileRows * query_stride;
  T* values = keys + K * query_stride;
  const PlanArrays& plan = arguments.plan;
  const InputArrays& inputs = arguments.inputs;
  const FlatTile tile = plan.tiles[arguments.first_tile + blockIdx.x];
  const FlatPass pass = plan.passes[tile.pass];
  const bool with_values = arguments.values;

  find_rows(tile, pass, plan.integers, shared.query_row);
  __syncthreads();
  gather_rows(queries, query_stride, static_cast<const T*>(inputs.query), d, shared.query_row, kTileRows, d);
  const OwnRows own = own_rows(tile, pass);
  RunningRows<C> run;
  load_state(arguments.state, shared.query_row, own, !arguments.is_only, d_v, run);
  float cap[2];
#pragma unroll
  for (int h = 0; h < 2; ++h)
    cap[h] = arguments.score_cap != nullptr && own.there[h]
                 ? arguments.score_cap[shared.query_row[own.row[h]]]
                 : -minus_infinity();
  unsigned capped = 0;

  const int warp = static_cast<int>(threadIdx.x) / 32;
  ChunkWalk<K> walk(plan, tile, pass, arguments.score_cap != nullptr);
  for (ChunkTraits traits; walk.next(shared.chunk, traits);) {
    __syncthreads();
    const bool synthetic = traits.list->synthetic != 0;
    gather_rows(keys, query_stride, static_cast<const T*>(synthetic ? inputs.synthetic_key : inputs.key), d,
                shared.chunk.row, K, d);
    if (with_values)
      gather_rows(values, value_stride,
                  static_cast<const T*>(synthetic ? inputs.synthetic_value : inputs.value), d_v,
                  shared.chunk.row, K, d_v);
    __syncthreads();
    float x[K / 8][4];
    rows_times_rows<T, K / 8>(x, queries + warp * kWarpRows * query_stride, keys, query_stride, d);
    weigh_scores<K>(x, shared.chunk, traits, own, pass.triangular != 0, inputs.scale, cap, plan.numbers,
                    [&] { ++capped; });
    add_scores<T, K, C>(x, shared.chunk, traits, run);
    if (with_values) add_weights_times_rows<T, K / 8, C>(run.out, x, values, value_stride, d_v);
  }
  if (arguments.finishes(tile))
    store_finished(arguments.finish, shared.query_row, own, run);
  else
    store_state(arguments.state, shared.query_row, own, d_v, run);
  if (arguments.score_cap != nullptr && capped > 0) atomicAdd(&arguments.counts->capped, capped);
}

}  // namespace hyperattn::cuda
