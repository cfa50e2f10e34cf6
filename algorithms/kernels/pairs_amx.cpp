// Products of pairs of bfloat16 by AMX, the tile units of Intel's server processors.
#include "algorithms/kernels/pairs.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <hwy/base.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
#include "algorithms/kernels/pairs_tiles_internal.h"

namespace hyperattn {
namespace {

/// The compiler does not know that tiles are memory: what was written before is in memory by then.
inline void settle_memory() {
  __asm__ volatile("" ::: "memory");
}

// The numbers of tiles are part of the instructions, and some compilers want them as digits.
struct AmxTiles {
  template <int T>
  static inline void zero() {
    if constexpr (T == 0) _tile_zero(0);
    if constexpr (T == 1) _tile_zero(1);
    if constexpr (T == 2) _tile_zero(2);
    if constexpr (T == 3) _tile_zero(3);
  }
  template <int T>
  static inline void load(const void* rows, int64_t stride) {
    settle_memory();
    if constexpr (T == 0) _tile_loadd(0, rows, stride);
    if constexpr (T == 1) _tile_loadd(1, rows, stride);
    if constexpr (T == 2) _tile_loadd(2, rows, stride);
    if constexpr (T == 3) _tile_loadd(3, rows, stride);
    if constexpr (T == 4) _tile_loadd(4, rows, stride);
    if constexpr (T == 5) _tile_loadd(5, rows, stride);
    if constexpr (T == 6) _tile_loadd(6, rows, stride);
    if constexpr (T == 7) _tile_loadd(7, rows, stride);
  }
  template <int T>
  static inline void store(void* rows, int64_t stride) {
    if constexpr (T == 0) _tile_stored(0, rows, stride);
    if constexpr (T == 1) _tile_stored(1, rows, stride);
    if constexpr (T == 2) _tile_stored(2, rows, stride);
    if constexpr (T == 3) _tile_stored(3, rows, stride);
    settle_memory();
  }
  /// Tile of sums 2i + j += A_i · B_j.
  template <int I, int J>
  static inline void add_product() {
    if constexpr (I == 0 && J == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (I == 0 && J == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (I == 1 && J == 0) _tile_dpbf16ps(2, 5, 6);
    if constexpr (I == 1 && J == 1) _tile_dpbf16ps(3, 5, 7);
  }
};

struct alignas(64) TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t bytes_of_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void begin() {
  const TileConfiguration configuration;
  settle_memory();
  _tile_loadconfig(&configuration);
}

void end() {
  _tile_release();
}

void multiply(const PairMultiplyArguments& m) {
  multiply_by_tiles<AmxTiles>(m);
}

}  // namespace
}  // namespace hyperattn
HWY_POP_ATTRIBUTES

namespace hyperattn {
namespace {

/// Whether the processor has tiles of bfloat16, the operating system keeps them, and lets this process use
/// them.
bool may_use_tiles() {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  constexpr unsigned kSavesState = 1U << 27;  // OSXSAVE
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & kSavesState) == 0) return false;
  constexpr unsigned kBfloat16AndTiles = 1U << 22 | 1U << 24;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0 || (edx & kBfloat16AndTiles) != kBfloat16AndTiles)
    return false;
  constexpr unsigned kTileState = 1U << 17 | 1U << 18;
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & kTileState) != kTileState) return false;
  constexpr int64_t kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int64_t kTileData = 18;               // XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

PairKernels make_kernels() {
  PairKernels kernels = *avx512_pair_kernels();
  kernels.name = "amx";
  kernels.row_group = 2 * kTileRows;
  kernels.row_step = kTileRows;
  kernels.depth_step = kTileWords;
  kernels.begin = begin;
  kernels.end = end;
  kernels.multiply = multiply;
  return kernels;
}

}  // namespace

const PairKernels* amx_pair_kernels() {
  static const bool usable = avx512_pair_kernels() != nullptr && may_use_tiles();
  if (!usable) return nullptr;
  static const PairKernels kernels = make_kernels();
  return &kernels;
}

}  // namespace hyperattn

#else

namespace hyperattn {

const PairKernels* amx_pair_kernels() {
  return nullptr;
}

}  // namespace hyperattn
#endif
