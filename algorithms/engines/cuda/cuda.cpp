#include "algorithms/engine.h"
#include "algorithms/engines/cuda/device.h"
#include "algorithms/engines/cuda/run.h"

namespace hyperattn {
namespace {

ParameterSpec precision_parameter() {
  ParameterSpec spec = choice_parameter("precision", {"bf16", "fp16", "fp32"},
                                        "what inputs are rounded to; products add up in fp32");
  spec.choice_meanings = {"8 bits of digits, the range of fp32", "11 bits of digits, at most 65504",
                          "three products of halves: the digits of fp32"};
  return spec;
}

class CudaEngine final : public DescribedEngine {
 public:
  CudaEngine()
      : DescribedEngine({"cuda", "tiles on the matrix units of an NVIDIA GPU", {precision_parameter()}}) {}

  [[nodiscard]] std::string device() const override { return "gpu"; }
  [[nodiscard]] std::string precision(const Parameters& parameters) const override {
    return parameters.text("precision");
  }
  [[nodiscard]] std::string machine() const override { return to_string(cuda::device_facts()); }
  void choose_device(int number) const override { cuda::choose_device(number); }
  [[nodiscard]] std::string available() const override { return cuda::why_unavailable(); }

  [[nodiscard]] std::string refuses(const AttentionProblem& shapes,
                                    const Parameters& parameters) const override {
    constexpr int64_t kMostColumns = 256;
    if (shapes.value_dim() > kMostColumns)
      return "computes values of at most 256 columns, but these have " + std::to_string(shapes.value_dim());
    if (!available().empty()) return {};  // said when it is bound
    return cuda::why_too_wide(cuda::precision_of(parameters), shapes.head_dim(), shapes.value_dim());
  }

  /// On the host: the plan once more, as plain arrays. The card's own memory is asked for when it is taken.
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& /*parameters*/) const override {
    return 2 * sizeof(int32_t) * static_cast<double>(shapes.heads()) *
           static_cast<double>(shapes.query_count() + shapes.key_count());
  }

  [[nodiscard]] std::unique_ptr<BoundProblem> bind(const AttentionProblem& problem,
                                                   const Parameters& parameters) const override {
    return cuda::bind_to_device(problem, *this, cuda::precision_of(parameters));
  }
  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan& plan,
                                        const EngineOptions& options) const override {
    return cuda::forward_on_device(bound, plan, options);
  }
  [[nodiscard]] AttentionGradients backward(const BoundProblem& bound, const Plan& plan,
                                            const AttentionResult& forward,
                                            TensorView<const float> dout) const override {
    return cuda::backward_on_device(bound, plan, forward, dout);
  }
  [[nodiscard]] Tensor<float> transposed(const BoundProblem& bound, const Plan& plan,
                                         const RowSums& denominators,
                                         TensorView<const float> rows) const override {
    return cuda::transposed_on_device(bound, plan, denominators, rows);
  }
};

}  // namespace

cuda::Precision cuda::precision_of(const Parameters& parameters) {
  if (!parameters.has("precision")) return Precision::fp32;
  const std::string& name = parameters.text("precision");
  if (name == "bf16") return Precision::bf16;
  return name == "fp16" ? Precision::fp16 : Precision::fp32;
}

const Engine& engine_cuda() {
  static const CudaEngine engine;
  return engine;
}

}  // namespace hyperattn
