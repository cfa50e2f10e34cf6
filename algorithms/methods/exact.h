// Exact attention on the fused engine: the plan in which every row sees every key.
#pragma once

#include "algorithms/backend.h"

namespace hyperattn {

/// One pass a head: all keys, or those on and below the diagonal when causal.
[[nodiscard]] Plan exact_plan(const AttentionProblem& problem);

/// The backend `exact`.
[[nodiscard]] const Backend& exact_backend();

}  // namespace hyperattn
