// Exact attention in double precision and plain loops: the specification of all other exact backends.
#pragma once

#include "algorithms/backend.h"
#include "algorithms/engines/reference/reference_plan.h"

namespace hyperattn {

/// softmax(scale · Q Kᵀ) V and its row log-sum-exps. O(n_q · n_k · (d + d_v)); parallel over rows, and the
/// result does not depend on threads.
[[nodiscard]] DoubleResult attention_in_double(const AttentionProblem& problem);

/// Gradients of ⟨out, dout⟩ through `attention_in_double`, given its result (formulas at
/// `run_plan_backward_in_double`, all weights 1).
[[nodiscard]] DoubleGradients attention_gradients_in_double(const AttentionProblem& problem,
                                                            const DoubleResult& forward,
                                                            TensorView<const float> dout);

/// The backend `reference`; its figures are rounded to float only at the end.
[[nodiscard]] const Backend& reference_backend();

}  // namespace hyperattn
