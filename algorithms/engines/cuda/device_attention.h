// The front door for tensors that lie on a GPU: they are read and written there, in the order of the caller's
// stream, and not copied but where `DeviceAttention` says so.
//
//   const Attention hyper("hyper", {{"precision", std::string("bf16")}}, {.engine = "cuda"});
//   DeviceAttention call(hyper, problem, inputs);
//   call.forward(out, lse);
//   call.backward(out, dout, gradients);
#pragma once

#include <cstdint>
#include <memory>

#include "algorithms/attention.h"
#include "algorithms/engines/cuda/device_tensor.h"

namespace hyperattn {

/// One problem. `forward` returns when the GPU is done with it; `plan_ahead`, `begin_forward` and `backward`
/// return while it computes, as PyTorch's own functions do. Inputs are used where they lie if they are in the
/// method's precision and their rows have a multiple of 16 columns; else they are rounded to copies. What a
/// method plans from their values on the host, as all but `exact`, `lsh` and `hyper` with a uniform sample
/// do, it plans from a copy there.
class DeviceAttention {
 public:
  /// `problem` says how, not what: its views are not read but for their shapes. The inputs must outlive this.
  /// Error(usage): the method's engine is not `cuda`, or these settings cannot go with such shapes; the
  /// theory's estimator is not for tensors on a GPU. Error(input): shapes that do not fit.
  DeviceAttention(const Attention& attention, const AttentionProblem& problem, const DeviceInputs& inputs);
  ~DeviceAttention();
  DeviceAttention(const DeviceAttention&) = delete;
  DeviceAttention& operator=(const DeviceAttention&) = delete;

  /// out (batch, heads, n_q, d_v) in any type, and lse (batch, heads, n_q, 1) in fp32. Error(input): a row of
  /// them has a NaN or infinity, as where the inputs hold one. Unless `backward` follows, the plan is given
  /// back while the card computes.
  void forward(const DeviceTensor& out, const DeviceTensor& lse, bool backward_follows = true) {
    begin_forward(out, lse, backward_follows);
    end_forward();
  }
  /// Plans the next `forward`, whose first kernels (hashing, sorting) then run while the caller makes room
  /// for its results. Does nothing where the problem is causal, whose leaves are computed first.
  void plan_ahead();
  /// Its halves: all that the host does, and waiting for the card, which says what is wrong with the result.
  /// Without the second nobody is told of a NaN, and there are no diagnostics.
  void begin_forward(const DeviceTensor& out, const DeviceTensor& lse, bool backward_follows = true);
  void end_forward();
  /// Gradients of ⟨out, dout⟩ after `forward`, whose `out` this is; dout is of its type. Error(usage): these
  /// settings have no gradient, or the plan was given back.
  void backward(const DeviceTensor& out, const DeviceTensor& dout, const DeviceGradients& gradients) const;

  /// Of the last `forward`. Error(usage): it has not ended, or the next one is planned.
  [[nodiscard]] const Diagnostics& diagnostics() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hyperattn
