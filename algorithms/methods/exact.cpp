#include "algorithms/methods/exact.h"

#include <memory>
#include <utility>

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/methods/described_backend.h"

namespace hyperattn {
namespace {

Pass exact_pass(const AttentionProblem& problem, int64_t head) {
  Pass pass;
  pass.head = head;
  pass.triangular = problem.causal;
  pass.queries = RowOrder::run(0, problem.query_count());
  pass.lists.emplace_back();
  pass.lists[0].order = RowOrder::run(0, problem.key_count());
  pass.lists[0].stage = Stage::exact;
  pass.groups.push_back({0, problem.query_count(), 0, 1});
  pass.visits.push_back({0, 0, problem.key_count(), 0, 0});
  return pass;
}

BackendDescription description() {
  BackendDescription text;
  text.name = "exact";
  text.meaning = "exact attention on the fused tile engine (fp32)";
  Capabilities& can = text.capabilities;
  can.causal = can.backward = can.unequal_lengths = true;
  return text;
}

class ExactBackend final : public DescribedBackend {
 public:
  ExactBackend() : DescribedBackend(description()) {}

  [[nodiscard]] double estimated_entries(const TensorShape& query, const TensorShape& key, bool causal,
                                         const Parameters&) const override {
    return exact_entries(query, key, causal);
  }

  [[nodiscard]] double estimated_bytes(const TensorShape& query, const TensorShape& key,
                                       const TensorShape& value, const Parameters&) const override {
    const int64_t packed = key.size() + value.size();
    const int64_t row_states = query.matrices() * query.rows * 2;
    return static_cast<double>(sizeof(float)) * static_cast<double>(packed + row_states);
  }

  [[nodiscard]] ForwardState forward(const AttentionProblem& problem, const CallContext&) const override {
    auto plan = std::make_shared<const Plan>(exact_plan(problem));
    return {run_forward(problem, *plan), plan};
  }
};

}  // namespace

Plan exact_plan(const AttentionProblem& problem) {
  Plan plan;
  plan.phases.emplace_back();
  for (int64_t head = 0; head < problem.heads(); ++head)
    plan.phases[0].passes.push_back(exact_pass(problem, head));
  return plan;
}

const Backend& exact_backend() {
  static const ExactBackend backend;
  return backend;
}

}  // namespace hyperattn
