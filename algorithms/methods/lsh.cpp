#include "algorithms/methods/sparse.h"
#include "algorithms/registry.h"

namespace hyperattn {
namespace {

class LshMethod final : public DescribedMethod {
 public:
  LshMethod()
      : DescribedMethod({"lsh",
                         "the keys of the row's own block of Hamming sorted LSH (or of another mask), "
                         "nothing else",
                         {.mask = true, .replay = true, .approximate = true},
                         mask_parameters(masks_of_keys())}) {}

  [[nodiscard]] std::string check(const AttentionProblem& shapes,
                                  const Parameters& parameters) const override {
    return check_sparse(shapes, parameters);
  }
  [[nodiscard]] bool wants_callers_mask(const Parameters& parameters) const override {
    return SparseChoice(parameters).mask->is_callers(parameters);
  }
  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes,
                                         const Parameters& parameters) const override {
    return estimate_sparse_entries(shapes, parameters);
  }
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& parameters) const override {
    return estimate_sparse_bytes(shapes, parameters);
  }
  [[nodiscard]] PlannedCall plan(const BoundProblem& bound, const Call& call) const override {
    return plan_sparse(bound, call);
  }
  [[nodiscard]] std::shared_ptr<const PlannedMasks> plan_masks(const BoundProblem& bound,
                                                               const Call& call) const override {
    return plan_node_masks(bound, call, nullptr);
  }

 private:
  /// Without a mask nothing would be computed.
  static std::vector<const Mask*> masks_of_keys() {
    std::vector<const Mask*> masks;
    for (const Mask* mask : all_masks())
      if (mask != &mask_none()) masks.push_back(mask);
    return masks;
  }
};

}  // namespace

const Method& method_lsh() {
  static const LshMethod method;
  return method;
}

}  // namespace hyperattn
