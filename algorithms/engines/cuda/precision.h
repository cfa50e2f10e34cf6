// In what rows lie on the card, and what the kernels multiply. Included by both compilers.
#pragma once

namespace hyperattn::cuda {

enum class Precision { bf16, fp16, fp32 };

}  // namespace hyperattn::cuda
