// Everything beside the products of tiles: rounding, finishing, clipping, moments, adding up; and the choice
// of the precision. Plain loops of one thread or one warp a row.
#include "algorithms/engines/cuda/tile.cuh"

namespace hyperattn::cuda {

#define DECLARE_PRECISION(NAME)                                                             \
  LaunchError forward_##NAME(const ForwardArguments& arguments, void* stream);              \
  LaunchError query_gradient_##NAME(const QueryGradientArguments& arguments, void* stream); \
  LaunchError key_gradient_##NAME(const KeyGradientArguments& arguments, void* stream);     \
  bool takes_wide_tiles_##NAME(int64_t head_dim, int64_t value_dim);                        \
  int64_t shared_##NAME(int64_t head_dim, int64_t value_dim);
DECLARE_PRECISION(bf16)
DECLARE_PRECISION(fp16)
DECLARE_PRECISION(fp32)

namespace {

constexpr int kBlock = 256;
constexpr int kWarp = 32;

unsigned blocks_of(int64_t threads) {
  return static_cast<unsigned>((threads + kBlock - 1) / kBlock);
}
cudaStream_t stream_of(void* stream) {
  return static_cast<cudaStream_t>(stream);
}
__device__ int64_t thread_index() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <class T>
__device__ T rounded(float x);
template <>
__device__ __nv_bfloat16 rounded(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __half rounded(float x) {
  return __float2half_rn(x);
}
template <>
__device__ float rounded(float x) {
  return x;
}
__device__ float wide(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ float wide(__half x) {
  return __half2float(x);
}
__device__ float wide(float x) {
  return x;
}

/// A warp a row.
template <class T, class S>
__global__ void round_kernel(RoundArguments arguments) {
  const int64_t row = thread_index() / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (row >= arguments.count) return;
  const int stride = (arguments.width + 15) / 16 * 16;
  const S* source = static_cast<const S*>(arguments.rows) + row * arguments.width;
  const S* out = static_cast<const S*>(arguments.out) + row * arguments.width;
  T* target = static_cast<T*>(arguments.rounded) + row * stride;
  float along = 0;
  for (int c = lane; c < stride; c += kWarp) {
    const bool there = c < arguments.width &&
                       (arguments.clipped == nullptr || arguments.clipped[row * arguments.width + c] == 0);
    const T value = rounded<T>(there ? wide(source[c]) : 0.0F);
    if (arguments.rounded != nullptr) target[c] = value;
    if (there && arguments.out != nullptr) along += wide(value) * wide(out[c]);
  }
  if (arguments.out == nullptr) return;
  for (int step = kWarp / 2; step > 0; step /= 2) along += __shfl_xor_sync(0xffffffffU, along, step);
  if (lane == 0) arguments.delta[row] = along;
}

/// A thread four columns of a row.
__global__ void store_kernel(StoreArguments arguments) {
  const int64_t index = thread_index();
  const int quads = (arguments.width + 3) / 4;
  if (index >= arguments.count * quads) return;
  const int64_t row = index / quads;
  const int first = static_cast<int>(index - row * quads) * 4;
  const float* source = arguments.rows + row * arguments.stride + first;
  const int64_t element = row * arguments.width + first;
  if (arguments.width % 4 == 0 && arguments.stride % 4 == 0) {
    const float4 value = *reinterpret_cast<const float4*>(source);
    store_pair(arguments.target, arguments.type, element, value.x, value.y);
    store_pair(arguments.target, arguments.type, element + 2, value.z, value.w);
    return;
  }
  for (int c = 0; c < 4 && first + c < arguments.width; ++c)
    store_element(arguments.target, arguments.type, element + c, source[c]);
}

/// ⟨row, out row⟩ of rows of 16 bits whose width is a multiple of 8: eight lanes a row.
template <class S>
__global__ void delta_kernel(RoundArguments arguments) {
  constexpr int kLanes = 8;
  const int64_t row = thread_index() / kLanes;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  float along = 0;
  if (row < arguments.count)
    for (int c = lane * 8; c < arguments.width; c += kLanes * 8) {
      const int64_t element = row * arguments.width + c;
      const uint4 left = *reinterpret_cast<const uint4*>(static_cast<const S*>(arguments.rows) + element);
      const uint4 right = *reinterpret_cast<const uint4*>(static_cast<const S*>(arguments.out) + element);
      const S* a = reinterpret_cast<const S*>(&left);
      const S* b = reinterpret_cast<const S*>(&right);
#pragma unroll
      for (int e = 0; e < 8; ++e) along += wide(a[e]) * wide(b[e]);
    }
  for (int step = kLanes / 2; step > 0; step /= 2) along += __shfl_xor_sync(0xffffffffU, along, step);
  if (lane == 0 && row < arguments.count) arguments.delta[row] = along;
}

template <class T>
__global__ void widen_kernel(const T* rounded_rows, float* wide_rows, int64_t elements) {
  const int64_t i = thread_index();
  if (i < elements) wide_rows[i] = wide(rounded_rows[i]);
}

__global__ void fill_kernel(float* target, float value, int64_t elements) {
  const int64_t i = thread_index();
  if (i < elements) target[i] = value;
}

/// Σ over a warp.
__device__ float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}

/// (s·q)·C of a row, column c.
__device__ float cross_product(const float* query, const float* matrix, int d, int d_v, int c, float scale) {
  float sum = 0;
  for (int k = 0; k < d; ++k) sum += query[k] * matrix[static_cast<int64_t>(k) * d_v + c];
  return scale * sum;
}

/// KeyMoments of plan.h, one row by a warp.
__device__ void add_moments(const QueryTermArguments& a, const FlatPass& pass, int64_t keys, int64_t row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int d = a.head_dim;
  const int d_v = a.value_dim;
  const float* query = a.query + row * a.query_stride;
  const float* mean_key = a.plan.numbers + pass.moments;
  const float* mean_value = mean_key + d;
  const float* covariance = mean_value + d_v;
  const float* cross = covariance + static_cast<int64_t>(d) * d;
  float mean_score = 0;
  float variance = 0;
  for (int c = lane; c < d; c += kWarp) {
    mean_score += a.scale * query[c] * mean_key[c];
    variance += a.scale * query[c] * cross_product(query, covariance, d, d, c, a.scale);
  }
  mean_score = warp_sum(mean_score);
  variance = warp_sum(variance);
  const double log_keys = log(static_cast<double>(keys));
  const auto critical = static_cast<float>(sqrt(2 * log_keys));
  const float deviation = sqrtf(fmaxf(variance, 0.0F));
  const bool within = deviation <= critical;
  const float gain =
      within ? 0.5F * deviation * deviation : deviation * critical - 0.5F * critical * critical;
  const float tilt = within ? 1.0F : critical / deviation;
  const float x = kLog2EulerDevice * (static_cast<float>(log_keys) + mean_score + gain);
  const float before = a.state.maximum[row];
  const float most = fmaxf(before, x);
  const float kept = exp2f(before - most);
  const float weight = exp2f(x - most);
  if (a.state.out != nullptr)
    for (int c = lane; c < d_v; c += kWarp) {
      float& out = a.state.out[row * a.out_stride + c];
      out = out * kept + weight * (mean_value[c] + tilt * cross_product(query, cross, d, d_v, c, a.scale));
    }
  __syncwarp();
  if (lane != 0) return;
  a.state.maximum[row] = most;
  a.state.sum[row] = a.state.sum[row] * static_cast<double>(kept) + static_cast<double>(weight);
  a.state.linear[row] *= static_cast<double>(kept);
}

/// LinearValues of plan.h, one row by a warp.
__device__ void add_linear_values(const QueryTermArguments& a, const FlatPass& pass, int64_t row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int d = a.head_dim;
  const float* query = a.query + row * a.query_stride;
  const float* variances = a.plan.numbers + pass.linear;
  const float* cross = variances + d;
  float variance = 0;
  for (int c = lane; c < d; c += kWarp) {
    const float q = a.scale * query[c];
    variance += q * q * variances[c];
  }
  variance = warp_sum(variance);
  const float fade = variance > 1 ? 1 / variance : 1;
  const float weight = fade * static_cast<float>(a.state.linear[row]);
  for (int c = lane; c < a.value_dim; c += kWarp)
    a.state.out[row * a.out_stride + c] += weight * cross_product(query, cross, d, a.value_dim, c, a.scale);
}

__global__ void query_term_kernel(QueryTermArguments arguments) {
  const FlatTile tile = arguments.plan.tiles[arguments.first_tile + blockIdx.x];
  const FlatPass pass = arguments.plan.passes[tile.pass];
  for (int i = static_cast<int>(threadIdx.x) / kWarp; i < tile.count; i += kBlock / kWarp) {
    const int64_t row = pass.row_base + row_of(pass.queries, tile.begin + i, arguments.plan.integers);
    if (pass.linear != kNone && arguments.state.out != nullptr) add_linear_values(arguments, pass, row);
    __syncwarp();
    if (tile.moment_keys > 0) add_moments(arguments, pass, tile.moment_keys, row);
  }
}

/// A warp a row.
__global__ void finish_kernel(FinishArguments arguments) {
  const int64_t row = thread_index() / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (row >= arguments.rows || arguments.inverse[row] != kUnfinished) return;
  const double sum = arguments.state.sum[row];
  const double absolute = arguments.state.absolute != nullptr ? arguments.state.absolute[row] : 0;
  const float maximum = arguments.state.maximum[row];
  const RowEnd end = row_end(sum, absolute);
  double factor = end.empty ? 0 : 1 / sum;
  if (arguments.given_sum != nullptr) {
    const double given = arguments.given_sum[row];
    const bool none = !(given > 0) || !(maximum > minus_infinity());
    factor =
        none ? 0
             : exp2(static_cast<double>(maximum) - static_cast<double>(arguments.given_maximum[row])) / given;
  }
  bool infinite = false;
  if (arguments.out != nullptr)
    for (int c = lane; c < arguments.value_dim; c += kWarp) {
      const float value =
          factor == 0
              ? 0.0F
              : static_cast<float>(static_cast<double>(arguments.state.out[row * arguments.out_stride + c]) *
                                   factor);
      infinite = infinite || !(fabsf(value) < -minus_infinity());
      store_element(arguments.out, arguments.out_type, row * arguments.value_dim + c, value);
    }
  infinite = __any_sync(0xffffffffU, infinite ? 1 : 0) != 0;
  if (lane != 0) return;
  store_row_end(arguments, row, maximum, sum, end, row_values(maximum, sum), infinite);
}

__device__ float load_element(const void* rows, Precision type, int64_t element) {
  if (type == Precision::bf16) return wide(static_cast<const __nv_bfloat16*>(rows)[element]);
  if (type == Precision::fp16) return wide(static_cast<const __half*>(rows)[element]);
  return static_cast<const float*>(rows)[element];
}

/// Whether a clip moved a value by more than rounding: is_clipped of plan.h.
__device__ bool moved(float value, float low, float high) {
  const double most = fmax(static_cast<double>(low) - value, static_cast<double>(value) - high);
  return most > 1e-5 * fmax(fabs(static_cast<double>(low)), fabs(static_cast<double>(high)));
}

/// A thread a column of a head, down the rows.
__global__ void clip_kernel(ClipArguments a) {
  const int64_t index = thread_index();
  if (index >= a.heads * a.value_dim) return;
  const int64_t head = index / a.value_dim;
  const int64_t column = index % a.value_dim;
  const float* values = a.value + head / a.heads_per_key_head * a.keys * a.value_stride + column;
  float low = -minus_infinity();
  float high = minus_infinity();
  int64_t added = 0;
  for (int64_t row = 0; row < a.queries; ++row) {
    const int64_t last = a.causal ? row + a.keys - a.queries + 1 : a.keys;
    if (a.window > 0) {
      low = -minus_infinity();
      high = minus_infinity();
      added = last > a.window ? last - a.window : 0;
    }
    for (; added < last; ++added) {
      low = fminf(low, values[added * a.value_stride]);
      high = fmaxf(high, values[added * a.value_stride]);
    }
    const int64_t flat_row = head * a.queries + row;
    if (!(a.sum[flat_row] > 0)) continue;
    const int64_t element = flat_row * a.value_dim + column;
    const float out = load_element(a.out, a.out_type, element);
    a.clipped[element] = moved(out, low, high) ? 1 : 0;
    store_element(a.out, a.out_type, element, fminf(fmaxf(out, low), high));
  }
}

/// A block of threads a key row, a thread a column.
__global__ void reduce_kernel(ReduceArguments a) {
  const int64_t row = a.rows[blockIdx.x];
  if (a.begun != nullptr && threadIdx.x == 0) a.begun[row] = 1;
  for (int c = static_cast<int>(threadIdx.x); c < a.width; c += static_cast<int>(blockDim.x)) {
    float sum = a.begun == nullptr ? a.target[row * a.width + c] : 0;
    for (int64_t p = a.part_begin[blockIdx.x]; p < a.part_begin[blockIdx.x + 1]; ++p)
      sum += a.parts[p].share * a.slots[a.parts[p].slot * a.stride + c];
    a.target[row * a.width + c] = sum;
  }
}

template <class T, class S>
LaunchError round_rows_of(const RoundArguments& arguments, void* stream) {
  if constexpr (sizeof(S) == 2)
    if (arguments.rounded == nullptr && arguments.clipped == nullptr && arguments.width % 8 == 0) {
      delta_kernel<S><<<blocks_of(arguments.count * 8), kBlock, 0, stream_of(stream)>>>(arguments);
      return cudaGetLastError();
    }
  round_kernel<T, S><<<blocks_of(arguments.count * kWarp), kBlock, 0, stream_of(stream)>>>(arguments);
  return cudaGetLastError();
}

template <class T>
LaunchError round_rows(const RoundArguments& arguments, void* stream) {
  if (arguments.count == 0) return cudaSuccess;
  switch (arguments.type) {
    case Precision::bf16:
      return round_rows_of<T, __nv_bfloat16>(arguments, stream);
    case Precision::fp16:
      return round_rows_of<T, __half>(arguments, stream);
    default:
      return round_rows_of<T, float>(arguments, stream);
  }
}

template <class T>
LaunchError widen_rows(const void* rounded_rows, float* wide_rows, int64_t elements, void* stream) {
  if (elements == 0) return cudaSuccess;
  widen_kernel<<<blocks_of(elements), kBlock, 0, stream_of(stream)>>>(static_cast<const T*>(rounded_rows),
                                                                      wide_rows, elements);
  return cudaGetLastError();
}

}  // namespace

#define CHOOSE_PRECISION(PRECISION, CALL) \
  switch (PRECISION) {                    \
    case Precision::bf16:                 \
      return CALL(bf16);                  \
    case Precision::fp16:                 \
      return CALL(fp16);                  \
    default:                              \
      return CALL(fp32);                  \
  }

LaunchError launch_forward(Precision precision, const ForwardArguments& arguments, void* stream){
#define CALL(NAME) forward_##NAME(arguments, stream)
    CHOOSE_PRECISION(precision, CALL)
#undef CALL
}

LaunchError launch_query_gradient(Precision precision, const QueryGradientArguments& arguments, void* stream){
#define CALL(NAME) query_gradient_##NAME(arguments, stream)
    CHOOSE_PRECISION(precision, CALL)
#undef CALL
}

LaunchError launch_key_gradient(Precision precision, const KeyGradientArguments& arguments, void* stream) {
#define CALL(NAME) key_gradient_##NAME(arguments, stream)
  CHOOSE_PRECISION(precision, CALL)
#undef CALL
}

bool takes_wide_tiles(Precision precision, int64_t head_dim, int64_t value_dim){
#define CALL(NAME) takes_wide_tiles_##NAME(head_dim, value_dim)
    CHOOSE_PRECISION(precision, CALL)
#undef CALL
}

int64_t shared_bytes(Precision precision, int64_t head_dim, int64_t value_dim){
#define CALL(NAME) shared_##NAME(head_dim, value_dim)
    CHOOSE_PRECISION(precision, CALL)
#undef CALL
}

LaunchError launch_round(Precision precision, const RoundArguments& arguments, void* stream) {
  switch (precision) {
    case Precision::bf16:
      return round_rows<__nv_bfloat16>(arguments, stream);
    case Precision::fp16:
      return round_rows<__half>(arguments, stream);
    default:
      return round_rows<float>(arguments, stream);
  }
}

LaunchError launch_widen(Precision precision, const void* rounded_rows, float* wide_rows, int64_t elements,
                         void* stream) {
  switch (precision) {
    case Precision::bf16:
      return widen_rows<__nv_bfloat16>(rounded_rows, wide_rows, elements, stream);
    case Precision::fp16:
      return widen_rows<__half>(rounded_rows, wide_rows, elements, stream);
    default:
      return widen_rows<float>(rounded_rows, wide_rows, elements, stream);
  }
}

LaunchError launch_fill(float* target, float value, int64_t elements, void* stream) {
  if (elements == 0) return cudaSuccess;
  fill_kernel<<<blocks_of(elements), kBlock, 0, stream_of(stream)>>>(target, value, elements);
  return cudaGetLastError();
}

LaunchError launch_store(const StoreArguments& arguments, void* stream) {
  if (arguments.count == 0) return cudaSuccess;
  store_kernel<<<blocks_of(arguments.count * ((arguments.width + 3) / 4)), kBlock, 0, stream_of(stream)>>>(
      arguments);
  return cudaGetLastError();
}

LaunchError launch_query_terms(const QueryTermArguments& arguments, void* stream) {
  if (arguments.tile_count == 0) return cudaSuccess;
  query_term_kernel<<<static_cast<unsigned>(arguments.tile_count), kBlock, 0, stream_of(stream)>>>(arguments);
  return cudaGetLastError();
}

LaunchError launch_finish(const FinishArguments& arguments, void* stream) {
  if (arguments.rows == 0) return cudaSuccess;
  finish_kernel<<<blocks_of(arguments.rows * kWarp), kBlock, 0, stream_of(stream)>>>(arguments);
  return cudaGetLastError();
}

LaunchError launch_clip(const ClipArguments& arguments, void* stream) {
  constexpr int kColumnThreads = 32;
  const int64_t threads = arguments.heads * arguments.value_dim;
  clip_kernel<<<static_cast<unsigned>((threads + kColumnThreads - 1) / kColumnThreads), kColumnThreads, 0,
                stream_of(stream)>>>(arguments);
  return cudaGetLastError();
}

LaunchError launch_reduce(const ReduceArguments& arguments, void* stream) {
  if (arguments.row_count == 0) return cudaSuccess;
  constexpr int kColumnThreads = 64;
  reduce_kernel<<<static_cast<unsigned>(arguments.row_count), kColumnThreads, 0, stream_of(stream)>>>(
      arguments);
  return cudaGetLastError();
}

}  // namespace hyperattn::cuda
