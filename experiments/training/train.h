// `hyperattn train`: the losses of a layer that learns through a backend's gradient, beside those of one that
// learns through exact attention.
#pragma once

#include <string>
#include <vector>

#include "core/parameters.h"

namespace hyperattn {

struct TrainOptions {
  /// KEY=VALUE: backend, its parameters, seed, and `training_parameters`.
  std::vector<std::string> arguments;
  std::string output;  ///< receives every step as CSV; empty: none
  bool force = false;  ///< replace an existing output
};

/// What can be set besides the backend and its parameters.
[[nodiscard]] const std::vector<ParameterSpec>& training_parameters();

/// Trains twice from the same weights on the same examples (`train_retrieval`) and prints a line for each of
/// about ten steps. Throws Error(usage) for wrong arguments, for a backend without gradient, for a training
/// that diverges and for an existing output without `force`; Error(environment) where the output cannot be
/// written, which is found before anything runs.
void train(const TrainOptions& options);

}  // namespace hyperattn
