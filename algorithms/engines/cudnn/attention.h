// Exact attention by cuDNN: what the engine's calls do. absent.cpp stands in where the program was built
// without it.
#pragma once

#include <memory>
#include <string>

#include "algorithms/engine.h"

namespace hyperattn::cudnn {

/// Why nothing can be computed, to follow the engine's name; empty: it can. Looks for the library once:
/// libcudnn.so.9 where the system looks for libraries, or the file that HYPERATTN_CUDNN_LIBRARY names.
[[nodiscard]] std::string why_unavailable();

/// "9.19.0", of the library found.
[[nodiscard]] std::string version();

struct Settings {
  bool half = false;  ///< inputs and results in fp16, else in bf16
  bool deterministic = true;
};
/// The problem with its inputs on the card.
[[nodiscard]] std::unique_ptr<BoundProblem> bind_to_device(const AttentionProblem& problem,
                                                           const Engine& engine, const Settings& settings);

/// Of a problem of bind_to_device. cuDNN's graph for the problem is built at the first call and kept;
/// building it counts as transfer, which is not part of a call's time. Results are rounded to the precision.
/// Error(environment): cuDNN has no kernel for such rows.
[[nodiscard]] AttentionResult forward_on_device(const BoundProblem& bound);
[[nodiscard]] AttentionGradients backward_on_device(const BoundProblem& bound, const AttentionResult& forward,
                                                    TensorView<const float> dout);

}  // namespace hyperattn::cudnn
