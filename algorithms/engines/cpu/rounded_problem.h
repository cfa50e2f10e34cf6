// A problem whose inputs are rounded to bfloat16 once, for everything that is planned and computed of them.
#pragma once

#include "algorithms/bound_problem.h"

namespace hyperattn {

/// Copies of Q, K and V whose values are those of bfloat16.
class RoundedInputs {
 protected:
  explicit RoundedInputs(const AttentionProblem& problem);

  Tensor<float> query_;
  Tensor<float> key_;
  Tensor<float> value_;
  AttentionProblem rounded_;
};

class RoundedProblem final : private RoundedInputs, public BoundProblem {
 public:
  RoundedProblem(const AttentionProblem& problem, const Engine& engine)
      : RoundedInputs(problem), BoundProblem(rounded_, engine) {}
};

}  // namespace hyperattn
