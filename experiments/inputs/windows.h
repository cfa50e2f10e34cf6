// The windows that `hyperattn lm` evaluates, declared as a source is.
#pragma once

#include "experiments/inputs/input_source.h"

namespace hyperattn {

/// Stands for the model and its windows where a sweep has a source, so that `lm` has the sweep's grammar, and
/// its parameters columns like those of sources. In no list of sources: it has shapes, but makes no inputs.
[[nodiscard]] const InputSource& windows_source();

}  // namespace hyperattn
