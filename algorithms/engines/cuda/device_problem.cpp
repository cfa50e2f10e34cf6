#include "algorithms/engines/cuda/device_problem.h"

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

}  // namespace hyperattn::cuda
