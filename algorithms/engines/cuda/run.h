// Plans on the card: what the engine's calls do. absent.cpp stands in where there is no CUDA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "algorithms/engine.h"
#include "algorithms/engines/cuda/device_tensor.h"
#include "algorithms/engines/cuda/kernels.h"

namespace hyperattn::cuda {

/// The engine's parameter `precision`. Calls without parameters are those of measures, which want all digits.
[[nodiscard]] Precision precision_of(const Parameters& parameters);

/// Empty if the kernels of this precision have room for such rows on the card; else why not, to follow the
/// engine's name.
[[nodiscard]] std::string why_too_wide(Precision precision, int64_t head_dim, int64_t value_dim);

/// The problem with its inputs on the card, rounded to the precision.
[[nodiscard]] std::unique_ptr<BoundProblem> bind_to_device(const AttentionProblem& problem,
                                                           const Engine& engine, Precision precision);

/// The calls of Engine. `bound` is of bind_to_device. Products under given denominators, and transposed
/// ones, are in fp32 whatever the precision: they are operators that measures are made of.
[[nodiscard]] AttentionResult forward_on_device(const BoundProblem& bound, const Plan& plan,
                                                const EngineOptions& options);
[[nodiscard]] AttentionGradients backward_on_device(const BoundProblem& bound, const Plan& plan,
                                                    const AttentionResult& forward,
                                                    TensorView<const float> dout);
[[nodiscard]] Tensor<float> transposed_on_device(const BoundProblem& bound, const Plan& plan,
                                                 const RowSums& denominators, TensorView<const float> rows);

/// The problem of a caller's tensors that lie on the card, used where they lie as DeviceInput says. Views of
/// `problem` are not read. Error(usage): they are not on the card of this process.
[[nodiscard]] std::unique_ptr<BoundProblem> bind_device_tensors(const AttentionProblem& problem,
                                                                const DeviceInputs& inputs,
                                                                const Engine& engine, Precision precision);

/// A forward call whose results lie on the card: what the backward pass reads of it, and what it tells.
struct DeviceSums;
class ForwardCall;
struct DeviceForward {
  std::shared_ptr<const DeviceSums> sums;  ///< null: no backward call follows
  std::shared_ptr<ForwardCall> call;
};

/// The plan that is made next for this problem is for the call below, which may be begun while it is made:
/// out (batch, heads, n_q, d_v) and lse (batch, heads, n_q, 1; fp32) are the caller's, in any type.
void expect_forward(const BoundProblem& bound, const DeviceTensor& out, const DeviceTensor& lse);

/// The same between tensors on the card, those that were expected. Returns while the card computes, and from
/// then on reads neither plan nor, unless a backward call follows, anything that was laid out for it. The
/// theory's estimator, which has denominators of its own, has none of these.
[[nodiscard]] DeviceForward forward_to_device(const BoundProblem& bound, const Plan& plan,
                                              const DeviceTensor& out, const DeviceTensor& lse,
                                              bool backward_follows);
/// Returns when the card is done with it: the rows with a NaN or infinity in out or lse.
[[nodiscard]] int64_t wait_for(const BoundProblem& bound, const DeviceForward& forward);
/// Of a call that has been waited for; once.
[[nodiscard]] Diagnostics diagnostics_of(const BoundProblem& bound, const DeviceForward& forward);

/// Gradients in the shapes of the inputs, in any type; `out` and `dout` are of one type. Returns while the
/// card computes.
void backward_to_device(const BoundProblem& bound, const Plan& plan, const DeviceForward& forward,
                        const DeviceTensor& out, const DeviceTensor& dout, const DeviceGradients& gradients);

}  // namespace hyperattn::cuda
