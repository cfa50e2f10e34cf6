#include "algorithms/engines/cuda/launch.cuh"

namespace hyperattn::cuda {

HYPERATTN_CUDA_PRECISION(fp16, __half)

}  // namespace hyperattn::cuda
