#include "algorithms/methods/prescore.h"
#include "algorithms/methods/sparse.h"
#include "algorithms/methods/theory.h"
#include "algorithms/registry.h"
#include "core/error.h"

namespace hyperattn {
namespace {

std::vector<ParameterSpec> declared_parameters() {
  std::vector<ParameterSpec> specs = mask_parameters(all_masks());
  for (ParameterSpec& spec : residual_parameters(all_residuals())) specs.push_back(std::move(spec));
  specs.push_back(choice_parameter("estimator", {"residual", "theory"},
                                   "mask plus weighted sample, or the paper's Algorithms 2 and 3"));
  for (const ParameterSpec& spec : theory_parameters()) specs.push_back(spec);
  for (const ParameterSpec& spec : prescore_parameters()) specs.push_back(spec);
  return specs;
}

bool is_theory(const Parameters& parameters) {
  return parameters.text("estimator") == "theory";
}

class HyperMethod final : public DescribedMethod {
 public:
  HyperMethod()
      : DescribedMethod({"hyper",
                         "HyperAttention: a heavy mask exactly, and a weighted sample (or centroids) of the "
                         "other keys",
                         {.mask = true, .replay = true, .approximate = true},
                         declared_parameters()}) {}

  [[nodiscard]] std::string check(const AttentionProblem& shapes,
                                  const Parameters& parameters) const override {
    std::string wrong = check_sparse(shapes, parameters);
    return wrong.empty() && is_theory(parameters) ? check_theory(parameters) : wrong;
  }
  [[nodiscard]] std::string no_gradient(const Parameters& parameters) const override {
    if (is_theory(parameters))
      return "has no gradient with estimator: theory, because its denominators are not those of its product; "
             "use estimator: residual";
    return SparseChoice(parameters).residual->no_gradient();
  }
  [[nodiscard]] bool wants_callers_mask(const Parameters& parameters) const override {
    return SparseChoice(parameters).mask->is_callers(parameters);
  }

  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes,
                                         const Parameters& parameters) const override {
    const double residual = estimate_sparse_entries(shapes, parameters);
    return is_theory(parameters) ? residual + theory_entries(shapes, parameters) : residual;
  }
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& parameters) const override {
    return estimate_sparse_bytes(shapes, parameters);
  }

  [[nodiscard]] PlannedCall plan(const BoundProblem& bound, const Call& call) const override {
    if (!is_theory(call.parameters)) return plan_sparse(bound, call);
    if (const std::string wrong = check_theory(call.parameters); !wrong.empty()) fail_usage(wrong);
    return plan_theory(bound, call);
  }
  [[nodiscard]] std::shared_ptr<const PlannedMasks> plan_masks(const BoundProblem& bound,
                                                               const Call& call) const override {
    return plan_node_masks(bound, call, nullptr);
  }
};

}  // namespace

const Method& method_hyper() {
  static const HyperMethod method;
  return method;
}

}  // namespace hyperattn
