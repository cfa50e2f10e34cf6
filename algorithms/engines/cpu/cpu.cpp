#include "algorithms/engine.h"
#include "algorithms/engines/cpu/rounded_problem.h"
#include "algorithms/engines/cpu/run_plan.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

ParameterSpec precision_parameter() {
  ParameterSpec spec =
      choice_parameter("precision", {"fp32", "bf16"}, "what inputs are rounded to; products add up in fp32");
  spec.choice_meanings = {"inputs and weights as they are", "8 bits of digits, the range of fp32"};
  return spec;
}

Precision precision_of(const Parameters& parameters) {
  const bool is_half = parameters.has("precision") && parameters.text("precision") == "bf16";
  return is_half ? Precision::bf16 : Precision::fp32;
}

/// A problem that was bound in bf16 has copies of its inputs.
Precision precision_of(const BoundProblem& bound) {
  return dynamic_cast<const RoundedProblem*>(&bound) != nullptr ? Precision::bf16 : Precision::fp32;
}

class CpuEngine final : public DescribedEngine {
 public:
  CpuEngine() : DescribedEngine({"cpu", "fused tiles on all cores", {precision_parameter()}}) {}

  [[nodiscard]] std::string precision(const Parameters& parameters) const override {
    return precision_of(parameters) == Precision::bf16 ? "bf16" : "fp32";
  }

  /// Packed keys and values; reference, sum and log-sum-exp of a row; in bf16 the rounded inputs.
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& parameters) const override {
    const auto keys = static_cast<double>(shapes.key.shape.size() + shapes.value.shape.size());
    double packed = keys * sizeof(float);
    if (precision_of(parameters) == Precision::bf16)
      packed += (keys + static_cast<double>(shapes.query.shape.size())) * sizeof(float);
    const double rows = static_cast<double>(shapes.heads() * shapes.query_count());
    return packed + rows * (sizeof(float) + sizeof(double));
  }

  [[nodiscard]] std::unique_ptr<BoundProblem> bind(const AttentionProblem& problem,
                                                   const Parameters& parameters) const override {
    if (precision_of(parameters) == Precision::fp32) return DescribedEngine::bind(problem, parameters);
    return std::make_unique<RoundedProblem>(problem, *this);
  }
  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                        const EngineOptions& options) const override {
    return run_forward(bound.problem(), plan, options, precision_of(bound));
  }
  [[nodiscard]] AttentionGradients backward(const BoundProblem& bound, const Plan& plan,
                                            const AttentionResult& forward,
                                            TensorView<const float> dout) const override {
    return run_backward(bound.problem(), plan, forward, dout);
  }
  [[nodiscard]] Tensor<float> transposed(const BoundProblem& bound, const Plan& plan,
                                         const RowSums& denominators,
                                         TensorView<const float> rows) const override {
    return run_transposed(bound.problem(), plan, denominators, rows);
  }
};

}  // namespace

const Engine& engine_cpu() {
  static const CpuEngine engine;
  return engine;
}

}  // namespace hyperattn
