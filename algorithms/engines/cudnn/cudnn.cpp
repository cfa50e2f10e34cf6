// cuDNN's fused attention on an NVIDIA GPU: the fastest exact attention there is on it, and so the baseline
// that speedups of the engine cuda are over.
#include <algorithm>

#include "algorithms/engine.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cudnn/attention.h"
#include "core/error.h"

namespace hyperattn {
namespace {

ParameterSpec precision_parameter() {
  ParameterSpec spec =
      choice_parameter("precision", {"bf16", "fp16"}, "what inputs and results are rounded to");
  spec.choice_meanings = {"8 bits of digits, the range of fp32", "11 bits of digits, at most 65504"};
  return spec;
}

ParameterSpec deterministic_parameter() {
  return boolean_parameter(
             "deterministic",
             "gradients with equal bits from run to run, for which cuDNN wants memory that grows "
             "with n_q·n_k")
      .by_default(true);
}

class CudnnEngine final : public DescribedEngine {
 public:
  CudnnEngine()
      : DescribedEngine({"cudnn",
                         "cuDNN's fused attention on an NVIDIA GPU; exact attention only",
                         {precision_parameter(), deterministic_parameter()}}) {}

  [[nodiscard]] bool names_exact() const override { return true; }
  [[nodiscard]] std::string only_exact() const override { return "runs exact attention only"; }
  [[nodiscard]] std::string device() const override { return "gpu"; }
  [[nodiscard]] std::string precision(const Parameters& parameters) const override {
    return parameters.text("precision");
  }
  [[nodiscard]] std::string machine() const override {
    return to_string(cuda::device_facts()) + ", cuDNN " + cudnn::version();
  }
  void choose_device(int number) const override { cuda::choose_device(number); }
  [[nodiscard]] std::string available() const override { return cudnn::why_unavailable(); }

  [[nodiscard]] std::string refuses(const AttentionProblem& shapes,
                                    const Parameters& /*parameters*/) const override {
    constexpr int64_t kMostColumns = 256;
    if (shapes.head_dim() > kMostColumns || shapes.value_dim() > kMostColumns)
      return "computes rows of at most 256 columns, but these have " +
             std::to_string(std::max(shapes.head_dim(), shapes.value_dim()));
    if (shapes.window > 0)
      return "has no window, but the problem has one of " + std::to_string(shapes.window);
    if (shapes.causal_offset() < 0 && shapes.causal)
      return "computes no rows that see no key, but of " + std::to_string(shapes.query_count()) +
             " causal queries on " + std::to_string(shapes.key_count()) + " keys the first see none";
    return {};
  }

  /// The card's own memory is asked for when it is taken.
  [[nodiscard]] double estimated_bytes(const AttentionProblem&, const Parameters&) const override {
    return 0;
  }

  [[nodiscard]] std::unique_ptr<BoundProblem> bind(const AttentionProblem& problem,
                                                   const Parameters& parameters) const override {
    const bool deterministic = !parameters.has("deterministic") || parameters.boolean("deterministic");
    return cudnn::bind_to_device(problem, *this, {parameters.text("precision") == "fp16", deterministic});
  }
  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                        const EngineOptions& options) const override {
    require_exact(bound, plan);
    if (options.denominators != nullptr || options.score_cap != nullptr)
      fail_usage("engine 'cudnn' " + only_exact());
    AttentionResult result = cudnn::forward_on_device(bound);
    result.diagnostics.entries = count_entries(plan);
    return result;
  }
  [[nodiscard]] AttentionGradients backward(const BoundProblem& bound, const Plan& plan,
                                            const AttentionResult& forward,
                                            TensorView<const float> dout) const override {
    require_exact(bound, plan);
    AttentionGradients gradients = cudnn::backward_on_device(bound, forward, dout);
    gradients.diagnostics.entries = count_entries(plan);
    return gradients;
  }
  [[nodiscard]] Tensor<float> transposed(const BoundProblem&, const Plan&, const RowSums&,
                                         TensorView<const float>) const override {
    fail_usage("engine 'cudnn' " + only_exact());
  }

 private:
  void require_exact(const BoundProblem& bound, const Plan& plan) const {
    if (!is_exact_plan(bound.problem(), plan)) fail_usage("engine 'cudnn' " + only_exact());
  }
};

}  // namespace

const Engine& engine_cudnn() {
  static const CudnnEngine engine;
  return engine;
}

}  // namespace hyperattn
