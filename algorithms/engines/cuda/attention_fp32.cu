#include "algorithms/engines/cuda/launch.cuh"

namespace hyperattn::cuda {

HYPERATTN_CUDA_PRECISION(fp32, float)

}  // namespace hyperattn::cuda
