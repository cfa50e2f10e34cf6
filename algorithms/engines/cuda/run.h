// Plans on the card: what the engine's calls do. absent.cpp stands in where there is no CUDA.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "algorithms/engine.h"
#include "algorithms/engines/cuda/kernels.h"

namespace hyperattn::cuda {

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

}  // namespace hyperattn::cuda
