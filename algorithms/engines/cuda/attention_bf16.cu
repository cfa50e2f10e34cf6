#include "algorithms/engines/cuda/launch.cuh"

namespace hyperattn::cuda {

HYPERATTN_CUDA_PRECISION(bf16, __nv_bfloat16)

}  // namespace hyperattn::cuda
