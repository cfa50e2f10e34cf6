#include "algorithms/methods/hyper.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/methods/described_backend.h"
#include "algorithms/methods/sparse_parameters.h"
#include "algorithms/residuals/theory_estimator.h"
#include "core/error.h"

namespace hyperattn {
namespace {

std::vector<ParameterSpec> estimator_parameters() {
  return {
      choice_parameter("estimator", {"residual", "theory"},
                       "mask plus weighted sample, or the paper's Algorithms 2 and 3"),
      number_parameter("approx_kappa",
                       "kappa of ApproxD's floor tau/kappa; auto: measured on sampled rows; .inf: no floor")
          .at_least(1)
          .or_infinity()
          .or_word("auto")
          .by_default("auto")
          .only_with("estimator", {"theory"}),
      number_parameter("approx_epsilon", "epsilon in ApproxD's clip C_i")
          .at_least(1e-9)
          .by_default(0.5)
          .only_with("estimator", {"theory"})
          .not_with("clip_constant", {0}),
      number_parameter("clip_constant", "constant of the clip C_i; 0: no clip")
          .at_least(0)
          .by_default(1.0)
          .only_with("estimator", {"theory"}),
  };
}

std::vector<ParameterSpec> declared_parameters() {
  std::vector<ParameterSpec> specs = mask_parameters(true);
  for (ParameterSpec& spec : sample_parameters()) specs.push_back(std::move(spec));
  for (ParameterSpec& spec : estimator_parameters()) specs.push_back(std::move(spec));
  return specs;
}

bool is_theory(const Parameters& parameters) {
  return parameters.text("estimator") == "theory";
}

ApproxDOptions approx_options(const Parameters& parameters) {
  ApproxDOptions options;
  if (!parameters.is_text("approx_kappa")) options.kappa = parameters.number("approx_kappa");
  options.epsilon = parameters.number("approx_epsilon");
  options.clip_constant = parameters.number("clip_constant");
  return options;
}

std::string check_theory(const SparseOptions& sparse, const ApproxDOptions& approx) {
  if (sparse.sample_size == 0) return "sample_size must be at least 1 with estimator: theory, but is 0";
  if (sparse.mask == MaskKind::none && approx.kappa && std::isinf(*approx.kappa) && approx.clip_constant > 0)
    return "approx_kappa .inf with mask: none clips every entry to 0; set clip_constant: 0 or a finite "
           "approx_kappa";
  return {};
}

BackendDescription description() {
  BackendDescription text;
  text.name = "hyper";
  text.meaning =
      "HyperAttention: a heavy mask exactly, and a weighted sample (or centroids) of the other keys";
  Capabilities& can = text.capabilities;
  can.causal = can.backward = can.mask = can.unequal_lengths = can.replay = can.approximate = true;
  text.parameters = declared_parameters();
  return text;
}

class HyperBackend final : public DescribedBackend {
 public:
  HyperBackend() : DescribedBackend(description()) {}

  [[nodiscard]] std::string check(const TensorShape&, const TensorShape& key, const TensorShape&, bool,
                                  const Parameters& parameters) const override {
    const SparseOptions options = sparse_options(parameters);
    std::string wrong = check_sparse_options(options, parameters, key.rows);
    if (wrong.empty() && is_theory(parameters) && parameters.text("residual") != "sample")
      return "estimator: theory draws its own samples and needs residual: sample, but residual is " +
             parameters.text("residual");
    if (wrong.empty() && is_theory(parameters)) wrong = check_theory(options, approx_options(parameters));
    return wrong;
  }

  [[nodiscard]] double estimated_entries(const TensorShape& query, const TensorShape& key, bool causal,
                                         const Parameters& parameters) const override {
    const SparseOptions options = sparse_options(parameters);
    const double residual = estimate_sparse_entries(query, key, causal, options);
    if (!is_theory(parameters)) return residual;
    // Steps 2 and 4b of ApproxD: m exact rows, and the sample once more.
    const double rows = static_cast<double>(query.matrices() * (query.rows + key.rows));
    return residual + rows * static_cast<double>(options.sample_size) / 2;
  }

  [[nodiscard]] double estimated_bytes(const TensorShape& query, const TensorShape& key,
                                       const TensorShape& value,
                                       const Parameters& parameters) const override {
    return estimate_sparse_bytes(query, key, value, sparse_options(parameters));
  }

  [[nodiscard]] ForwardState forward(const AttentionProblem& problem,
                                     const CallContext& context) const override {
    const SparseOptions options = sparse_options(context.parameters);
    if (is_theory(context.parameters)) return theory_forward(problem, context, options);
    PlanningSeconds seconds;
    auto plan = std::make_shared<const Plan>(sparse_plan(problem, context, options, &seconds));
    ForwardState state{run_forward(problem, *plan), plan};
    complete_diagnostics(*plan, seconds, state.result.diagnostics);
    return state;
  }

  [[nodiscard]] std::string no_gradient(const Parameters& parameters) const override {
    if (is_theory(parameters))
      return "has no gradient with estimator: theory, because its denominators are not those of its product; "
             "use estimator: residual";
    const std::string& residual = parameters.text("residual");
    if (residual == "moments" || residual == "linear_centroids")
      return "has no gradient with residual: " + residual +
             "; use another residual, such as calibrated_centroids";
    return {};
  }

  [[nodiscard]] std::shared_ptr<const Plan> mask_plan(const AttentionProblem& problem,
                                                      const CallContext& context) const override {
    SparseOptions options = sparse_options(context.parameters);
    options.sample_size = 0;  // leaves the residual out
    return std::make_shared<const Plan>(sparse_plan(problem, context, options));
  }

  [[nodiscard]] std::shared_ptr<const Plan> unmasked_plan(const AttentionProblem& problem,
                                                          const CallContext& context) const override {
    return std::make_shared<const Plan>(
        hyperattn::unmasked_plan(problem, context, sparse_options(context.parameters)));
  }

 private:
  [[nodiscard]] static ForwardState theory_forward(const AttentionProblem& problem,
                                                   const CallContext& context, const SparseOptions& options) {
    if (context.replay != nullptr)
      fail_usage("a replay holds the samples of estimator: residual; estimator: theory cannot be replayed");
    const ApproxDOptions approx = approx_options(context.parameters);
    if (const std::string wrong = check_theory(options, approx); !wrong.empty()) fail_usage(wrong);
    return theory_attention(problem, context, options, approx);
  }
};

}  // namespace

const Backend& hyper_backend() {
  static const HyperBackend backend;
  return backend;
}

}  // namespace hyperattn
