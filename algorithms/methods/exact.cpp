#include "algorithms/method.h"
#include "algorithms/plan_builder.h"

namespace hyperattn {
namespace {

class ExactMethod final : public DescribedMethod {
 public:
  ExactMethod() : DescribedMethod({"exact", "exact attention: every key that a row may see", {}, {}}) {}

  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes, const Parameters&) const override {
    return exact_entries(shapes);
  }
  [[nodiscard]] double estimated_bytes(const AttentionProblem&, const Parameters&) const override {
    return 0;
  }

  [[nodiscard]] PlannedCall plan(const BoundProblem& bound, const Call&) const override {
    PlannedCall planned;
    planned.plan = std::make_shared<const Plan>(exact_plan(bound.shapes()));
    return planned;
  }
};

}  // namespace

const Method& method_exact() {
  static const ExactMethod method;
  return method;
}

}  // namespace hyperattn
