// One call of attention on tensors that another library holds on a GPU, told by their addresses.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "algorithms/engines/cuda/device_attention.h"
#include "run.h"

namespace hyperattn::python {

/// ((batch, heads, rows, dim), "bf16", address).
using TensorTold = pybind11::tuple;

class DeviceRun {
 public:
  /// `stream`: the address of a cudaStream_t, 0 for the one that CUDA calls the default. Who calls keeps the
  /// tensors alive as long as this.
  DeviceRun(std::shared_ptr<const Request> request, const TensorTold& query, const TensorTold& key,
            const TensorTold& value, int device, uint64_t stream);

  /// What can be begun without room for results.
  void plan();
  /// Returns while the card computes; `wait` returns when it is done, and refuses a result with a NaN.
  void forward(const TensorTold& out, const TensorTold& lse, bool backward_follows);
  void wait();
  void backward(const TensorTold& out, const TensorTold& dout, const TensorTold& dquery,
                const TensorTold& dkey, const TensorTold& dvalue) const;
  [[nodiscard]] pybind11::dict diagnostics() const;

 private:
  std::shared_ptr<const Request> request_;
  std::unique_ptr<DeviceAttention> call_;
};

}  // namespace hyperattn::python
