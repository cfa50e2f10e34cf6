#include "algorithms/methods/lsh.h"

#include <memory>
#include <utility>

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/methods/described_backend.h"
#include "algorithms/methods/sparse_parameters.h"

namespace hyperattn {
namespace {

BackendDescription description() {
  BackendDescription text;
  text.name = "lsh";
  text.meaning = "the keys of the row's own block of Hamming sorted LSH (or of another mask), nothing else";
  Capabilities& can = text.capabilities;
  can.causal = can.backward = can.mask = can.unequal_lengths = can.replay = can.approximate = true;
  text.parameters = mask_parameters(false);
  return text;
}

class LshBackend final : public DescribedBackend {
 public:
  LshBackend() : DescribedBackend(description()) {}

  [[nodiscard]] std::string check(const TensorShape&, const TensorShape& key, const TensorShape&, bool,
                                  const Parameters& parameters) const override {
    return check_sparse_options(sparse_options(parameters), parameters, key.rows);
  }

  [[nodiscard]] double estimated_entries(const TensorShape& query, const TensorShape& key, bool causal,
                                         const Parameters& parameters) const override {
    return estimate_sparse_entries(query, key, causal, sparse_options(parameters));
  }

  [[nodiscard]] double estimated_bytes(const TensorShape& query, const TensorShape& key,
                                       const TensorShape& value,
                                       const Parameters& parameters) const override {
    return estimate_sparse_bytes(query, key, value, sparse_options(parameters));
  }

  [[nodiscard]] ForwardState forward(const AttentionProblem& problem,
                                     const CallContext& context) const override {
    PlanningSeconds seconds;
    auto plan = std::make_shared<const Plan>(
        sparse_plan(problem, context, sparse_options(context.parameters), &seconds));
    ForwardState state{run_forward(problem, *plan), plan};
    complete_diagnostics(*plan, seconds, state.result.diagnostics);
    return state;
  }

  [[nodiscard]] std::shared_ptr<const Plan> mask_plan(const AttentionProblem& problem,
                                                      const CallContext& context) const override {
    return std::make_shared<const Plan>(sparse_plan(problem, context, sparse_options(context.parameters)));
  }

  [[nodiscard]] std::shared_ptr<const Plan> unmasked_plan(const AttentionProblem& problem,
                                                          const CallContext& context) const override {
    return std::make_shared<const Plan>(
        hyperattn::unmasked_plan(problem, context, sparse_options(context.parameters)));
  }
};

}  // namespace

const Backend& lsh_backend() {
  static const LshBackend backend;
  return backend;
}

}  // namespace hyperattn
