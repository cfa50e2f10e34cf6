// `hyperattn lm`: what a language model loses, and what it gains, when the attention of ℓ of its layers is
// another backend's. Same grammar, results file, options and resumption as `hyperattn run`
// (docs/language-model.md).
#pragma once

#include "experiments/running/run_options.h"

namespace hyperattn {

/// Returns the exit code; errors as run_experiment (running/runner.h). The layers that are not replaced use
/// exact attention, and every speedup is over the same windows with no layer replaced, in the same process.
/// Deterministic, times apart, for any number of threads.
int run_language_model(const RunOptions& options);

}  // namespace hyperattn
