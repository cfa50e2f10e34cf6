#include "device_run.h"

#include "core/error.h"
#include "interrupt.h"

namespace py = pybind11;

namespace hyperattn::python {
namespace {

cuda::Precision precision_named(const std::string& name) {
  if (name == "bf16") return cuda::Precision::bf16;
  if (name == "fp16") return cuda::Precision::fp16;
  if (name == "fp32") return cuda::Precision::fp32;
  fail_input("a tensor on a GPU must be in bf16, fp16 or fp32, but is in " + name);
}

DeviceTensor tensor_of(const TensorTold& told) {
  const auto shape = told[0].cast<py::tuple>();
  DeviceTensor tensor;
  tensor.shape = {shape[0].cast<int64_t>(), shape[1].cast<int64_t>(), shape[2].cast<int64_t>(),
                  shape[3].cast<int64_t>()};
  tensor.type = precision_named(told[1].cast<std::string>());
  tensor.data = reinterpret_cast<void*>(told[2].cast<uintptr_t>());
  return tensor;
}

/// CUDA's name for its default stream, since null stands for the engine's own.
void* stream_at(uint64_t address) {
  constexpr uintptr_t kDefaultStream = 1;
  return reinterpret_cast<void*>(address == 0 ? kDefaultStream : static_cast<uintptr_t>(address));
}

TensorView<const float> shape_of(const DeviceTensor& tensor) {
  return {nullptr, tensor.shape};
}

}  // namespace

DeviceRun::DeviceRun(std::shared_ptr<const Request> request, const TensorTold& query, const TensorTold& key,
                     const TensorTold& value, int device, uint64_t stream)
    : request_(std::move(request)) {
  const DeviceInputs inputs{tensor_of(query), tensor_of(key), tensor_of(value), device, stream_at(stream)};
  const AttentionProblem problem =
      request_->problem(shape_of(inputs.query), shape_of(inputs.key), shape_of(inputs.value));
  call_ = std::make_unique<DeviceAttention>(request_->attention(), problem, inputs);
}

void DeviceRun::plan() {
  compute([&] { call_->plan_ahead(); });
}

void DeviceRun::forward(const TensorTold& out, const TensorTold& lse, bool backward_follows) {
  const DeviceTensor result = tensor_of(out);
  const DeviceTensor logs = tensor_of(lse);
  compute([&] { call_->begin_forward(result, logs, backward_follows); });
}

void DeviceRun::wait() {
  const py::gil_scoped_release released;  // there are no loops to be stopped
  call_->end_forward();
}

void DeviceRun::backward(const TensorTold& out, const TensorTold& dout, const TensorTold& dquery,
                         const TensorTold& dkey, const TensorTold& dvalue) const {
  const DeviceTensor result = tensor_of(out);
  const DeviceTensor gradient = tensor_of(dout);
  const DeviceGradients gradients{tensor_of(dquery), tensor_of(dkey), tensor_of(dvalue)};
  compute([&] { call_->backward(result, gradient, gradients); });
}

py::dict DeviceRun::diagnostics() const {
  return dict_of(call_->diagnostics());
}

}  // namespace hyperattn::python
