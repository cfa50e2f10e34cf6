// Which instruction set the kernels use.
#pragma once

#include <string>
#include <vector>

namespace hyperattn {

/// Instruction-set levels compiled in and usable on this processor, best first ("amx", "avx512_bf16",
/// "avx512", "avx2", "sse4", "portable"). The first two are "avx512" where nothing is computed in bf16; on
/// processors of Intel the second comes after it.
[[nodiscard]] std::vector<std::string> usable_instruction_sets();
/// The level in use: the best usable one unless the environment variable HYPERATTN_SIMD names another. Throws
/// Error(usage) if that name is unknown or not usable here.
[[nodiscard]] const std::string& instruction_set();
/// Forces a level for this process (tests); an empty name returns to the default.
void force_instruction_set(const std::string& name);

/// Measured peak of fused multiply-adds in GFLOP/s with the level in use on `threads` threads (about 0.2 s).
[[nodiscard]] double measure_fma_peak_gflops(int threads);

}  // namespace hyperattn
