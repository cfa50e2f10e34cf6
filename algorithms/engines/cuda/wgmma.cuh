// The matrix units of Hopper (sm_90a): four warps multiply 64 rows with a tile of 64 from shared memory,
// whose rows of 128 bytes lie swizzled: piece c of 16 bytes of row r lies at piece c ^ (r % 8). Tiles begin
// at multiples of 1024 bytes. A thread has the same elements of a product as by mma.sync (tile.cuh).
#pragma once

#include "algorithms/engines/cuda/tile.cuh"

namespace hyperattn::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HYPERATTN_HAS_WGMMA 1
#endif

constexpr int kRowBytes = 128;
/// Rows that four warps multiply, which are those of a tile in shared memory.
constexpr int kProductRows = 64;
constexpr int kTileBytes = kProductRows * kRowBytes;

/// Address of a piece of a row in a swizzled tile, from the tile's beginning.
__device__ __forceinline__ unsigned swizzled(unsigned row, unsigned piece) {
  return row * kRowBytes + ((piece ^ (row & 7)) << 4);
}

/// Copies 16 bytes to an address of shared memory without a way through registers; zeros where `there` is
/// false.
__device__ __forceinline__ void copy_piece(uint32_t target, const void* source, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(target), "l"(source), "r"(there ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void copy_piece(void* target, const void* source, bool there) {
  copy_piece(shared_address(target), source, there);
}
__device__ __forceinline__ void end_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// All but the last N groups of copies have arrived.
template <int N>
__device__ __forceinline__ void await_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/// Barriers in shared memory: some threads wait for a phase, which ends when all that it counts have arrived.
/// Phases have parities 0, 1, 0, …; before the first ends, one of parity 1 counts as ended.
__device__ __forceinline__ void begin_barrier(uint64_t& barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals)
               : "memory");
}
__device__ __forceinline__ void arrive_at(uint64_t& barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

#if HYPERATTN_HAS_WGMMA

/// Registers of each thread of a warpgroup from here on; blocks start with as many for all.
template <int N>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/// The thread arrives when all copies that it has started have.
__device__ __forceinline__ void arrive_with_copies(uint64_t& barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&barrier))
               : "memory");
}
__device__ __forceinline__ void await_phase(uint64_t& barrier, int parity) {
  asm volatile(
      "{\n\t.reg .pred p;\n"
      "again:\n\t"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n\t"
      "@!p bra again;\n\t}" ::"r"(shared_address(&barrier)),
      "r"(parity)
      : "memory");
}

/// Of a swizzled tile: 8 rows are 1024 bytes.
__device__ __forceinline__ uint64_t descriptor_of(const void* tile) {
  constexpr uint64_t kEightRows = 1024 >> 4;
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  return (static_cast<uint64_t>(shared_address(tile)) & 0x3FFFF) >> 4 | uint64_t{1} << 16 | kEightRows << 32 |
         kSwizzle128;
}

/// What so many bytes are in a descriptor's address.
template <int64_t Bytes>
constexpr uint64_t kDescribed = Bytes >> 4;

__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
/// What copies wrote to shared memory is seen by the matrix units: before a barrier that they wait at, or
/// after it.
__device__ __forceinline__ void show_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#define HYPERATTN_SUMS(x)                                                                                  \
  "+f"(x[0][0]), "+f"(x[0][1]), "+f"(x[0][2]), "+f"(x[0][3]), "+f"(x[1][0]), "+f"(x[1][1]), "+f"(x[1][2]), \
      "+f"(x[1][3]), "+f"(x[2][0]), "+f"(x[2][1]), "+f"(x[2][2]), "+f"(x[2][3]), "+f"(x[3][0]),            \
      "+f"(x[3][1]), "+f"(x[3][2]), "+f"(x[3][3]), "+f"(x[4][0]), "+f"(x[4][1]), "+f"(x[4][2]),            \
      "+f"(x[4][3]), "+f"(x[5][0]), "+f"(x[5][1]), "+f"(x[5][2]), "+f"(x[5][3]), "+f"(x[6][0]),            \
      "+f"(x[6][1]), "+f"(x[6][2]), "+f"(x[6][3]), "+f"(x[7][0]), "+f"(x[7][1]), "+f"(x[7][2]),            \
      "+f"(x[7][3])
#define HYPERATTN_SUM_NAMES                                                                               \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
  "%22, "                                                                                                 \
  "%23, %24, %25, %26, %27, %28, %29, %30, %31}"

/// Products so far are a group of their own.
__device__ __forceinline__ void end_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits for products of ended groups alone.
__device__ __forceinline__ void await_ended(float (&x)[8][4]) {
  asm volatile("wgmma.wait_group.sync.aligned 0;" : HYPERATTN_SUMS(x)::"memory");
}
/// Waits for products; the sums may be read afterwards.
__device__ __forceinline__ void await_products(float (&x)[8][4]) {
  asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;"
               : HYPERATTN_SUMS(x)::"memory");
}

__device__ __forceinline__ void await_products(float (&x)[8][4], float (&y)[8][4]) {
  asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;"
               : HYPERATTN_SUMS(x), HYPERATTN_SUMS(y)::"memory");
}
__device__ __forceinline__ void await_products(float (&x)[8][4], float (&y)[8][4], float (&z)[8][4]) {
  asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;"
               : HYPERATTN_SUMS(x), HYPERATTN_SUMS(y), HYPERATTN_SUMS(z)::"memory");
}
__device__ __forceinline__ void await_products(float (&x)[8][4], float (&y)[8][4], float (&z)[8][4],
                                               float (&w)[8][4]) {
  asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;"
               : HYPERATTN_SUMS(x), HYPERATTN_SUMS(y), HYPERATTN_SUMS(z), HYPERATTN_SUMS(w)::"memory");
}

/// x (64 × 64) = or += 64 rows · (64 rows)ᵀ over 16 columns.
template <class T>
__device__ __forceinline__ void multiply_rows(float (&x)[8][4], uint64_t left, uint64_t right, int add) {
#define HYPERATTN_MULTIPLY_ROWS(TYPES)                                            \
  asm volatile(                                                                   \
      "{\n\t.reg .pred p;\n\tsetp.ne.b32 p, %34, 0;\n\t"                          \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPES " " HYPERATTN_SUM_NAMES \
      ", %32, %33, p, 1, 1, 0, 0;\n\t}"                                           \
      : HYPERATTN_SUMS(x)                                                         \
      : "l"(left), "l"(right), "r"(add))
  if constexpr (std::is_same_v<T, __half>)
    HYPERATTN_MULTIPLY_ROWS("f16.f16");
  else
    HYPERATTN_MULTIPLY_ROWS("bf16.bf16");
#undef HYPERATTN_MULTIPLY_ROWS
}

/// x (64 × 64 columns) += weights (64 × 16, in registers) · 16 rows.
template <class T>
__device__ __forceinline__ void multiply_weights(float (&x)[8][4], const uint32_t (&weights)[4],
                                                 uint64_t rows) {
#define HYPERATTN_MULTIPLY_WEIGHTS(TYPES)                                                  \
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32." TYPES " " HYPERATTN_SUM_NAMES \
               ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;"                                  \
               : HYPERATTN_SUMS(x)                                                         \
               : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(rows))
  if constexpr (std::is_same_v<T, __half>)
    HYPERATTN_MULTIPLY_WEIGHTS("f16.f16");
  else
    HYPERATTN_MULTIPLY_WEIGHTS("bf16.bf16");
#undef HYPERATTN_MULTIPLY_WEIGHTS
}

#undef HYPERATTN_SUMS
#undef HYPERATTN_SUM_NAMES

#endif

}  // namespace hyperattn::cuda
