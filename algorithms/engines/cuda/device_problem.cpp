#include "algorithms/engines/cuda/device_problem.h"

#include <algorithm>

namespace hyperattn::cuda {

DeviceRows DeviceRows::rounded(Precision precision, const float* rows, int64_t count, int64_t width,
                               const char* what) {
  DeviceRows target(precision, count, width, what);
  const DeviceArray<float> raw(rows, count * width, what);
  RoundArguments arguments;
  arguments.rows = raw.data();
  arguments.rounded = target.data();
  arguments.count = count;
  arguments.width = static_cast<int32_t>(width);
  check(launch_round(precision, arguments, Device::current().stream()), "rounding inputs");
  return target;
}

const void* DeviceInput::rounded() const {
  if (rounded_.empty())
    rounded_ = DeviceRows::rounded(precision_, tensor_.data, tensor_.shape.size() / tensor_.shape.dim,
                                   tensor_.shape.dim, what_);
  return rounded_.data();
}

const float* DeviceInput::wide() const {
  if (precision_ == Precision::fp32) return static_cast<const float*>(rounded());
  if (wide_.size() == 0) {
    const int64_t elements = tensor_.shape.size() / tensor_.shape.dim * padded_width(tensor_.shape.dim);
    wide_ = DeviceArray<float>(elements, what_);
    check(launch_widen(precision_, rounded(), wide_.data(), elements, Device::current().stream()),
          "widening inputs");
  }
  return wide_.data();
}

Tensor<float> unpadded(const DeviceArray<float>& rows, const TensorShape& shape) {
  const int64_t stride = padded_width(shape.dim);
  Buffer<float> padded(rows.size());
  rows.download(padded.data());
  Tensor<float> result(shape);
  for (int64_t row = 0; row < rows.size() / stride; ++row)
    std::copy_n(padded.data() + row * stride, shape.dim, result.data() + row * shape.dim);
  return result;
}

}  // namespace hyperattn::cuda
