#include "algorithms/method.h"

#include <algorithm>
#include <cmath>

namespace hyperattn {
namespace {

/// A result under given denominators reports these as its own.
void report_given(const GivenDenominators& given, int64_t width, AttentionResult& result) {
  result.sums.maximum = Tensor<float>(given.sums.maximum.shape());
  result.sums.sum = Tensor<double>(given.sums.sum.shape());
  for (size_t i = 0; i < given.logs.size(); ++i) {
    const auto row = static_cast<int64_t>(i);
    result.lse.data()[row] = static_cast<float>(given.logs[i]);
    result.sums.maximum.data()[row] = given.sums.maximum.data()[row];
    result.sums.sum.data()[row] = given.sums.sum.data()[row];
    if (std::isinf(given.logs[i])) std::fill_n(result.out.data() + row * width, width, 0.0F);
  }
}

}  // namespace

std::string Method::check(const AttentionProblem&, const Parameters&) const {
  return {};
}

std::shared_ptr<const PlannedMasks> Method::plan_masks(const BoundProblem&, const Call&) const {
  return nullptr;
}

double exact_entries(const AttentionProblem& shapes) {
  const auto rows = static_cast<double>(shapes.query_count());
  const auto keys = static_cast<double>(shapes.key_count());
  // Under a causal mask the rows that see a key are the last min(n_q, n_k); the last one sees all keys.
  const double seeing = std::min(rows, keys);
  double per_head = shapes.causal ? seeing * (2 * keys - seeing + 1) / 2 : rows * keys;
  if (shapes.window > 0) per_head = std::min(per_head, seeing * static_cast<double>(shapes.window));
  return per_head * static_cast<double>(shapes.heads());
}

ForwardState run_planned(const Engine& engine, const BoundProblem& bound, PlannedCall planned) {
  EngineOptions options;
  const GivenDenominators* given = planned.denominators.get();
  if (given != nullptr) {
    options.denominators = &given->sums;
    options.score_cap = given->score_cap.data();
  }
  ForwardState state{engine.forward(bound, *planned.plan, options), std::move(planned)};
  if (given != nullptr) report_given(*given, bound.shapes().value_dim(), state.result);
  state.result.diagnostics.add_planning(state.planned.notes);
  return state;
}

}  // namespace hyperattn
