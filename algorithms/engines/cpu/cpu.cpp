#include "algorithms/engine.h"
#include "algorithms/engines/cpu/run_plan.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

class CpuEngine final : public DescribedEngine {
 public:
  CpuEngine() : DescribedEngine({"cpu", "fused tiles in single precision on all cores", {}}) {}

  /// Packed keys and values; reference, sum and log-sum-exp of a row.
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes) const override {
    const double packed =
        static_cast<double>(shapes.key.shape.size() + shapes.value.shape.size()) * sizeof(float);
    const double rows = static_cast<double>(shapes.heads() * shapes.query_count());
    return packed + rows * (sizeof(float) + sizeof(double));
  }

  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                        const EngineOptions& options) const override {
    return run_forward(bound.problem(), plan, options);
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
