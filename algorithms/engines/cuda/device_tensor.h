// Tensors of a caller that lie on a GPU. No CUDA header comes in here.
#pragma once

#include "algorithms/engines/cuda/precision.h"
#include "core/tensor.h"

namespace hyperattn {

/// Contiguous and row-major in the memory of a GPU; the first element lies at a multiple of 16 bytes.
struct DeviceTensor {
  void* data = nullptr;
  cuda::Precision type = cuda::Precision::fp32;
  TensorShape shape;
};

/// Shapes as of AttentionProblem, all on one GPU. They are read in the order of `stream`, a cudaStream_t: on
/// it they are written before, and may be changed after a call.
struct DeviceInputs {
  DeviceTensor query;
  DeviceTensor key;
  DeviceTensor value;
  int device = 0;  ///< the GPU's number
  void* stream = nullptr;
};

/// Tensors in the shapes of query, key and value.
struct DeviceGradients {
  DeviceTensor query;
  DeviceTensor key;
  DeviceTensor value;
};

}  // namespace hyperattn
