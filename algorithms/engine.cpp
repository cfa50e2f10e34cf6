#include "algorithms/engine.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace hyperattn {

std::string Engine::refuses(const AttentionProblem&, const Parameters&) const {
  return {};
}

std::unique_ptr<BoundProblem> Engine::bind(const AttentionProblem& problem, const Parameters&) const {
  return std::make_unique<BoundProblem>(problem, *this);
}

void refuse_unsuited_options(const Plan& plan, const EngineOptions& options) {
  if (options.denominators == nullptr && options.score_cap == nullptr) return;
  if (has_query_terms(plan))
    fail_usage("a plan with moments or linear values has no rows of scores to be normalised or capped");
  if (has_signed_weights(plan) || plan.clip_to_values)
    fail_usage("a plan with signed weights or a clip has denominators of its own");
}

RowSums sums_from_logs(const TensorShape& rows, const double* logs) {
  RowSums sums{Tensor<float>(rows), Tensor<double>(rows)};
  for (int64_t i = 0; i < rows.size(); ++i) {
    const double log2 = std::numbers::log2e * logs[i];
    const bool given = std::isfinite(log2);
    sums.maximum.data()[i] = given ? static_cast<float>(log2) : 0.0F;
    sums.sum.data()[i] = given ? std::exp2(log2 - static_cast<double>(sums.maximum.data()[i])) : 0.0;
  }
  return sums;
}

}  // namespace hyperattn
