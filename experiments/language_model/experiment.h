// `hyperattn lm`: what a language model loses, and what it gains, when the attention of ℓ of its layers is
// another backend's. Same grammar, results file and resumption as `hyperattn run` (docs/language-model.md).
#pragma once

#include <string>

#include "experiments/config/config.h"
#include "experiments/config/registry.h"
#include "experiments/running/run_options.h"

namespace hyperattn {

/// What a configuration of `hyperattn lm` can name: a sweep's grammar without what a language model has its
/// own of (causal, scale, a mask file, timing, measures).
[[nodiscard]] const Registry& model_registry();

/// The configuration of a call of `hyperattn lm`: its file, or without one the text `fallback`, and its
/// changes. Errors as read_config.
[[nodiscard]] ExperimentConfig read_model_experiment(const RunOptions& options, const std::string& fallback);

/// Runs the experiment; returns the exit code. Throws Error(usage) for a configuration that is wrong and
/// Error(input) for a model or a text that is, both before anything runs. The layers that are not replaced
/// use `exact`, and every speedup is over the same windows with no layer replaced, in the same process.
/// Deterministic, times apart, for any number of threads.
int run_language_model(const RunOptions& options);

}  // namespace hyperattn
