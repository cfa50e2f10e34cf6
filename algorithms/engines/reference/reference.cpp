#include <algorithm>
#include <cmath>
#include <numbers>

#include "algorithms/check_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/plan_walk.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

Tensor<float> rounded(const Tensor<double>& from) {
  Tensor<float> to(from.shape());
  std::transform(from.data(), from.data() + from.shape().size(), to.data(),
                 [](double value) { return static_cast<float>(value); });
  return to;
}

/// Denominators in base 2, relative to a reference that is a float.
RowSums sums_of(const DoubleResult& exact) {
  Tensor<double> logs(exact.lse.shape());
  for (int64_t i = 0; i < logs.shape().size(); ++i)
    logs.data()[i] = exact.denominator.data()[i] > 0
                         ? exact.maximum.data()[i] + std::log(exact.denominator.data()[i])
                         : -std::numeric_limits<double>::infinity();
  return sums_from_logs(logs.shape(), logs.data());
}

class ReferenceEngine final : public DescribedEngine {
 public:
  ReferenceEngine()
      : DescribedEngine(
            {"reference", "double precision and plain loops: slow, the measure of all others", {}}) {}

  [[nodiscard]] bool is_fast() const override { return false; }
  [[nodiscard]] bool names_exact() const override { return true; }

  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& /*parameters*/) const override {
    const double result =
        static_cast<double>(shapes.heads() * shapes.query_count() * (shapes.value_dim() + 4));
    return sizeof(double) * (result + 5 * static_cast<double>(thread_count() * shapes.key_count()));
  }

  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                        const EngineOptions& options) const override {
    require_valid_plan(bound.problem(), plan);
    const Stopwatch watch;
    const DoubleResult exact = run_plan_in_double(bound.problem(), plan, options);
    AttentionResult result;
    result.out = rounded(exact.out);
    result.lse = rounded(exact.lse);
    result.sums = sums_of(exact);
    if (!exact.clipped.empty()) {
      result.clipped = Tensor<uint8_t>(exact.out.shape());
      std::copy(exact.clipped.begin(), exact.clipped.end(), result.clipped.data());
    }
    result.diagnostics.entries = count_entries(plan);
    result.diagnostics.guarded_rows = exact.guarded_rows;
    result.diagnostics.stage_seconds[stage_name(Stage::exact)] = watch.seconds();
    return result;
  }

  [[nodiscard]] AttentionGradients backward(const BoundProblem& bound, const Plan& plan,
                                            const AttentionResult&,
                                            TensorView<const float> dout) const override {
    require_valid_plan(bound.problem(), plan);
    const Stopwatch watch;
    // The forward is repeated, because its float result would cost the gradient its precision.
    const DoubleGradients exact =
        run_plan_backward_in_double(bound.problem(), plan, run_plan_in_double(bound.problem(), plan), dout);
    AttentionGradients gradients;
    gradients.dquery = rounded(exact.dquery);
    gradients.dkey = rounded(exact.dkey);
    gradients.dvalue = rounded(exact.dvalue);
    gradients.diagnostics.entries = count_entries(plan);
    gradients.diagnostics.stage_seconds[stage_name(Stage::backward)] = watch.seconds();
    return gradients;
  }

  [[nodiscard]] Tensor<float> transposed(const BoundProblem& bound, const Plan& plan,
                                         const RowSums& denominators,
                                         TensorView<const float> rows) const override {
    require_valid_plan(bound.problem(), plan);
    return rounded(run_transposed_in_double(bound.problem(), plan, denominators, rows));
  }
};

}  // namespace

const Engine& engine_reference() {
  static const ReferenceEngine engine;
  return engine;
}

}  // namespace hyperattn
