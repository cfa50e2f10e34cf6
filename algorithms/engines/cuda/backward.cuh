// Gradients of one phase. Queries: a block for each tile of query rows, which walks as the forward pass does.
// Keys and values: a block for each block of ranks of a key list, which walks through all rows that visit it,
// so that nothing is added up in an order of chance.
#pragma once

#include "algorithms/engines/cuda/row_tile.cuh"

namespace hyperattn::cuda {

/// e = 2^(x − maximum)·inverse, 0 for rows without gradient.
template <class T>
__device__ __forceinline__ float normalised(float x, float maximum, float inverse) {
  return inverse > 0 ? power_of_two<T>(x - maximum) * inverse : 0;
}

/// What the backward pass knows of a thread's two rows; zeros where there is none.
struct OwnWeights {
  float maximum[2] = {0, 0};
  float inverse[2] = {0, 0};
  float delta[2] = {0, 0};
};

__device__ __forceinline__ OwnWeights own_weights(const BackwardRows& rows, const int64_t* query_row,
                                                  const OwnRows& own) {
  OwnWeights known;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!own.there[h]) continue;
    const int64_t row = query_row[own.row[h]];
    known.maximum[h] = rows.maximum[row];
    known.inverse[h] = rows.inverse[row];
    known.delta[h] = rows.delta[row];
  }
  return known;
}

template <int K>
struct QueryGradientShared {
  int64_t query_row[kTileRows];
  ChunkShared<K> chunk;
};

template <class T, int K>
__host__ __device__ constexpr int64_t query_gradient_shared_bytes(int head_dim, int value_dim) {
  return static_cast<int64_t>(sizeof(QueryGradientShared<K>)) +
         static_cast<int64_t>(sizeof(T)) * (kTileRows + K) *
             (tile_stride<T>(head_dim) + tile_stride<T>(value_dim));
}

/// C · 8 columns of queries at most.
template <class T, int K, int C>
__global__ void __launch_bounds__(kThreads, blocks_at_once<T>(8 * C))
    query_gradient_kernel(QueryGradientArguments arguments) {
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<QueryGradientShared<K>*>(memory);
  const int d = arguments.inputs.head_dim;
  const int d_v = arguments.inputs.value_dim;
  const int query_stride = tile_stride<T>(d);
  const int value_stride = tile_stride<T>(d_v);
  T* queries = reinterpret_cast<T*>(memory + sizeof(QueryGradientShared<K>));
  T* keys = queries + kTileRows * query_stride;
  T* upstream = keys + K * query_stride;
  T* values = upstream + kTileRows * value_stride;
  const PlanArrays& plan = arguments.plan;
  const InputArrays& inputs = arguments.inputs;
  const FlatTile tile = plan.tiles[arguments.first_tile + blockIdx.x];
  const FlatPass pass = plan.passes[tile.pass];

  find_rows(tile, pass, plan.integers, shared.query_row);
  __syncthreads();
  gather_rows(queries, query_stride, static_cast<const T*>(inputs.query), d, shared.query_row, kTileRows, d);
  gather_rows(upstream, value_stride, static_cast<const T*>(arguments.rows.upstream), d_v, shared.query_row,
              kTileRows, d_v);
  const OwnRows own = own_rows(tile, pass);
  const OwnWeights known = own_weights(arguments.rows, shared.query_row, own);
  const float cap[2] = {-minus_infinity(), -minus_infinity()};
  float sum[C][4] = {};

  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int t = static_cast<int>(threadIdx.x) % 4;
  ChunkWalk<K> walk(plan, tile, pass, false);
  for (ChunkTraits traits; walk.next(shared.chunk, traits);) {
    __syncthreads();
    const bool synthetic = traits.list->synthetic != 0;
    const bool with_signs = traits.list->numerator != kNone;
    gather_rows(keys, query_stride, static_cast<const T*>(synthetic ? inputs.synthetic_key : inputs.key), d,
                shared.chunk.row, K, d);
    gather_rows(values, value_stride,
                static_cast<const T*>(synthetic ? inputs.synthetic_value : inputs.value), d_v,
                shared.chunk.row, K, d_v);
    __syncthreads();
    float x[K / 8][4];
    rows_times_rows<T, K / 8>(x, queries + warp * kWarpRows * query_stride, keys, query_stride, d);
    weigh_scores<K>(x, shared.chunk, traits, own, pass.triangular != 0, inputs.scale, cap, plan.numbers,
                    [] {});
    float along[K / 8][4];
    rows_times_rows<T, K / 8>(along, upstream + warp * kWarpRows * value_stride, values, value_stride, d_v);
#pragma unroll
    for (int n = 0; n < K / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int slot = n * 8 + 2 * t + e % 2;
        const int h = e / 2;
        const float weight = normalised<T>(x[n][e], known.maximum[h], known.inverse[h]);
        const float numerator = with_signs ? shared.chunk.numerator[slot] : 1;
        const float denominator = with_signs ? shared.chunk.denominator[slot] : 1;
        x[n][e] = weight * (numerator * along[n][e] - denominator * known.delta[h]);
      }
    add_weights_times_rows<T, K / 8, C>(sum, x, keys, query_stride, d);
  }
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (!own.there[h]) continue;
    float* target = arguments.dquery + shared.query_row[own.row[h]] * d;
#pragma unroll
    for (int c = 0; c < C; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = c * 8 + 2 * t + e;
        if (column < d) target[column] += arguments.gradient_scale * sum[c][2 * h + e];
      }
  }
}

/// Columns of a gradient that a block has: more blocks share a job where the rows are wider.
constexpr int kSliceColumns = 128;

/// What a chunk of R query rows says.
template <int R>
struct RowsShared {
  int64_t key_row[kTileRows];
  int64_t query_row[R];
  int32_t first[R];  ///< visible ranks
  int32_t last[R];
  float maximum[R];
  float inverse[R];
  float delta[R];
  float factor[R];
  uint32_t skip[R];
  uint8_t excluded[kTileRows];
};

template <class T, int R>
__host__ __device__ constexpr int64_t key_gradient_shared_bytes(int head_dim, int value_dim) {
  const int64_t own = (static_cast<int64_t>(sizeof(RowsShared<R>)) + 15) / 16 * 16;
  return own + static_cast<int64_t>(sizeof(T)) * (kTileRows + R) *
                   (tile_stride<T>(head_dim) + tile_stride<T>(value_dim));
}

__device__ __forceinline__ int32_t as_rank(int64_t rank) {
  return static_cast<int32_t>(rank < 0 ? 0 : (rank > INT32_MAX ? INT32_MAX : rank));
}

/// Query rows [begin, end) of an item, R at most.
template <int R>
__device__ __forceinline__ void describe_rows(const PlanArrays& plan, const FlatPass& pass,
                                              const FlatList& list, const KeyItem& item,
                                              const BackwardRows& rows, int64_t begin, int64_t end,
                                              RowsShared<R>& chunk) {
  for (int slot = static_cast<int>(threadIdx.x); slot < R; slot += kThreads) {
    const bool there = begin + slot < end;
    int64_t position = begin + slot;
    uint32_t skip = 0;
    if (there && item.entries != 0) {
      skip = plan.entries[begin + slot].skip;
      position = plan.entries[begin + slot].position;
    }
    const int64_t row = there ? pass.row_base + row_of(pass.queries, position, plan.integers) : -1;
    chunk.query_row[slot] = row;
    chunk.skip[slot] = skip;
    chunk.first[slot] = pass.triangular ? as_rank(first_visible(pass, position)) : 0;
    chunk.last[slot] = pass.triangular ? as_rank(last_visible(pass, position)) : INT32_MAX;
    chunk.maximum[slot] = there ? rows.maximum[row] : 0;
    chunk.inverse[slot] = there ? rows.inverse[row] : 0;
    chunk.delta[slot] = there && rows.delta != nullptr ? rows.delta[row] : 0;
    chunk.factor[slot] = there && list.factor_row != kNone ? plan.numbers[list.factor_row + position] : 0;
  }
}

/// Positions of an item that may see one of the job's ranks, in a triangular pass.
__device__ __forceinline__ void narrow(const FlatPass& pass, const KeyJob& job, int64_t& begin,
                                       int64_t& end) {
  if (!pass.triangular) return;
  const int64_t first = job.rank - pass.diagonal;  // sees its first rank
  begin = first > begin ? first : begin;
  if (pass.window <= 0) return;
  const int64_t last = job.rank + job.count - 1 - pass.diagonal + pass.window;
  end = last < end ? last : end;
}

/// Whether positions [begin, end) all see all of the job's ranks.
__device__ __forceinline__ bool sees_all(const FlatPass& pass, const KeyJob& job, int64_t begin,
                                         int64_t end) {
  return !pass.triangular ||
         (job.rank >= first_visible(pass, end - 1) && job.rank + job.count <= last_visible(pass, begin));
}

/// R query rows at a time. blockIdx.y counts slices of columns: first those of values, then those of keys.
template <class T, int R>
__global__ void __launch_bounds__(kThreads) key_gradient_kernel(KeyGradientArguments arguments) {
  constexpr int kColumns = kSliceColumns / 8;
  extern __shared__ __align__(16) unsigned char memory[];
  auto& shared = *reinterpret_cast<RowsShared<R>*>(memory);
  const InputArrays& inputs = arguments.inputs;
  const PlanArrays& plan = arguments.plan;
  const int d = inputs.head_dim;
  const int upstream_dim = arguments.rows.upstream_dim;
  const int value_slices = (upstream_dim + kSliceColumns - 1) / kSliceColumns;
  const bool of_keys = static_cast<int>(blockIdx.y) >= value_slices;
  const int first_column = (static_cast<int>(blockIdx.y) - (of_keys ? value_slices : 0)) * kSliceColumns;
  const int all_columns = of_keys ? d : upstream_dim;
  const int columns = all_columns - first_column < kSliceColumns ? all_columns - first_column : kSliceColumns;
  const int key_stride = tile_stride<T>(d);
  // The gradient of values needs its own columns of the upstream gradient alone.
  const int upstream_columns = of_keys ? upstream_dim : columns;
  const int upstream_first = of_keys ? 0 : first_column;
  const int value_stride = tile_stride<T>(upstream_columns);
  T* keys = reinterpret_cast<T*>(memory + (sizeof(RowsShared<R>) + 15) / 16 * 16);
  T* queries = keys + kTileRows * key_stride;
  T* upstream = queries + R * key_stride;
  T* values = upstream + R * value_stride;

  const KeyJob job = arguments.jobs[blockIdx.x];
  const FlatPass pass = plan.passes[job.pass];
  const FlatList list = plan.lists[job.list];
  const bool with_signs = list.numerator != kNone;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int g = static_cast<int>(threadIdx.x) % 32 / 4;
  const int t = static_cast<int>(threadIdx.x) % 4;
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows; i += kThreads)
    shared.key_row[i] =
        i < job.count ? list.source_row + row_of(list.order, job.rank + i, plan.integers) : -1;
  __syncthreads();
  gather_rows(keys, key_stride, static_cast<const T*>(list.synthetic ? inputs.synthetic_key : inputs.key), d,
              shared.key_row, kTileRows, d);
  if (of_keys)
    gather_rows(values, value_stride,
                static_cast<const T*>(list.synthetic ? inputs.synthetic_value : inputs.value), upstream_dim,
                shared.key_row, kTileRows, upstream_dim);
  int32_t own_rank[2];
  int own_slot[2];
  RankWeights weights[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    own_slot[h] = warp * kWarpRows + g + 8 * h;
    own_rank[h] = job.rank + own_slot[h];
    weights[h].bias = minus_infinity();
    if (own_slot[h] < job.count) weights[h] = weights_of(list, own_rank[h], plan.numbers);
  }
  float sum[kColumns][4] = {};

  for (int64_t i = job.first_item; i < job.last_item; ++i) {
    const KeyItem item = arguments.items[i];
    int64_t begin = item.begin;
    int64_t end = item.end;
    narrow(pass, job, begin, end);
    if (begin >= end) continue;
    __syncthreads();
    for (int slot = static_cast<int>(threadIdx.x); slot < kTileRows; slot += kThreads) {
      const int32_t rank = job.rank + slot;
      shared.excluded[slot] = rank < item.first_rank || rank >= item.last_rank ||
                              is_among(plan.integers, item.excluded_begin, item.excluded_end, rank);
    }
    for (; begin < end; begin += R) {
      __syncthreads();
      describe_rows(plan, pass, list, item, arguments.rows, begin, end, shared);
      __syncthreads();
      gather_rows(queries, key_stride, static_cast<const T*>(inputs.query), d, shared.query_row, R, d);
      gather_rows(upstream, value_stride, static_cast<const T*>(arguments.rows.upstream) + upstream_first,
                  upstream_dim, shared.query_row, R, upstream_columns);
      __syncthreads();
      float x[R / 8][4];
      rows_times_rows<T, R / 8>(x, keys + warp * kWarpRows * key_stride, queries, key_stride, d);
      const bool alike = item.entries == 0 && list.factor_row == kNone &&
                         sees_all(pass, job, begin, begin + R < end ? begin + R : end);
      float bias[2];
#pragma unroll
      for (int h = 0; h < 2; ++h)
        bias[h] = shared.excluded[own_slot[h]] != 0 ? minus_infinity() : weights[h].bias;
#pragma unroll
      for (int n = 0; n < R / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int slot = n * 8 + 2 * t + e % 2;
          const int h = e / 2;
          float score = fmaf(x[n][e], inputs.scale, bias[h]);
          if (!alike) {
            bool seen = own_rank[h] >= shared.first[slot] && own_rank[h] < shared.last[slot];
            if (item.entries != 0)
              seen = seen && (shared.skip[slot] >> (own_rank[h] - item.first_rank & 31) & 1) == 0;
            if (list.factor_row != kNone) score += factor_bias(shared.factor[slot], weights[h].factor);
            if (!seen) score = minus_infinity();
          }
          x[n][e] = normalised<T>(score, shared.maximum[slot], shared.inverse[slot]);
        }
      if (!of_keys) {
#pragma unroll
        for (int n = 0; n < R / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e) x[n][e] *= with_signs ? weights[e / 2].numerator : 1;
        add_weights_times_rows<T, R / 8, kColumns>(sum, x, upstream, value_stride, columns);
        continue;
      }
      float along[R / 8][4];
      rows_times_rows<T, R / 8>(along, values + warp * kWarpRows * value_stride, upstream, value_stride,
                                upstream_dim);
#pragma unroll
      for (int n = 0; n < R / 8; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int slot = n * 8 + 2 * t + e % 2;
          const float numerator = with_signs ? weights[e / 2].numerator : 1;
          const float denominator = with_signs ? weights[e / 2].denominator : 1;
          x[n][e] *= numerator * along[n][e] - denominator * shared.delta[slot];
        }
      add_weights_times_rows<T, R / 8, kColumns>(sum, x, queries + first_column, key_stride, columns);
    }
  }
  const float factor = of_keys ? arguments.gradient_scale : 1;
  if (job.slot < 0) {  // no other job of the launch has these keys
    float* gradients = of_keys ? arguments.key_gradient : arguments.value_gradient;
    const int width = of_keys ? arguments.key_width : arguments.value_width;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      if (own_slot[h] >= job.count) continue;
      float* row = gradients + shared.key_row[own_slot[h]] * width;
#pragma unroll
      for (int c = 0; c < kColumns; ++c)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = first_column + c * 8 + 2 * t + e;
          if (c * 8 < columns && column < width) row[column] += factor * sum[c][2 * h + e];
        }
    }
    return;
  }
  float* target = of_keys ? arguments.dkey : arguments.dvalue;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    if (own_slot[h] >= job.count) continue;
    float* row = target + (job.slot + own_slot[h]) * all_columns + first_column;
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = c * 8 + 2 * t + e;
        if (column < columns) row[column] = factor * sum[c][2 * h + e];
      }
  }
}

}  // namespace hyperattn::cuda
