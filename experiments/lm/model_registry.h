// What a configuration of `hyperattn lm` can name, and how it is read.
#pragma once

#include <string>

#include "experiments/config/config.h"
#include "experiments/config/registry.h"
#include "experiments/running/run_options.h"

namespace hyperattn {

/// A sweep's grammar without what a language model has its own of (causal, scale, a mask file, timing,
/// measures).
[[nodiscard]] const Registry& model_registry();

/// The configuration of a call of `hyperattn lm`: its file, or without one the text `fallback`, and its
/// changes. Errors as read_config.
[[nodiscard]] ExperimentConfig read_model_experiment(const RunOptions& options, const std::string& fallback);

/// A stored configuration as it would be stored now; version 0.1 stored parameters that had no effect.
[[nodiscard]] std::string resolve_model_experiment(const std::string& stored);

}  // namespace hyperattn
