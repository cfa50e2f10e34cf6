#include "experiments/measures/context.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "algorithms/engines/cpu/engine.h"
#include "algorithms/methods/exact.h"
#include "core/eigen.h"
#include "experiments/measures/softmax_operator.h"

namespace hyperattn {
namespace {

// The value that `slot` keeps, computed the first time.
template <class T, class Compute>
const T& once(std::optional<T>& slot, const Compute& compute) {
  if (!slot) slot = compute();
  return *slot;
}

}  // namespace

struct ExactQuantities::Node {
  AttentionProblem problem;
  Tensor<float> lse;
  std::optional<double> alpha;
  std::optional<OperatorNorm> norm;
};

struct ExactQuantities::Head {
  std::optional<SoftmaxSums> sums;
  std::optional<OperatorNorm> softmax_norm;
  std::optional<double> value_norm;
  std::optional<double> value_frobenius;
  std::optional<double> output_norm;
  std::optional<double> output_frobenius;
};

ExactQuantities::ExactQuantities(const AttentionProblem& problem, uint64_t seed, uint32_t trial)
    : problem_(problem), seed_(seed), trial_(trial), heads_(static_cast<size_t>(problem.heads())) {}

ExactQuantities::~ExactQuantities() = default;

ExactQuantities::Head& ExactQuantities::cache(int64_t head) {
  return heads_[static_cast<size_t>(head)];
}

const AttentionResult& ExactQuantities::attention() {
  if (!attention_)
    attention_ = std::make_unique<AttentionResult>(run_forward(problem_, exact_plan(problem_)));
  return *attention_;
}

const float* ExactQuantities::lse(int64_t head) {
  return attention().lse.matrix(head).data;
}

DenseMatrix<double> ExactQuantities::output(int64_t head) {
  return to_dense(as_eigen(attention().out.matrix(head)).cast<double>());
}

const SoftmaxSums& ExactQuantities::sums(int64_t head) {
  return once(cache(head).sums, [&] {
    const AttentionProblem problem = head_problem(problem_, head);
    return SoftmaxSums{log_column_sums(problem, lse(head), 1), log_column_sums(problem, lse(head), 2),
                       log_row_square_sums(problem, lse(head))};
  });
}

const OperatorNorm& ExactQuantities::softmax_norm(int64_t head) {
  return once(cache(head).softmax_norm, [&] {
    return nonnegative_norm(softmax_operator(head_problem(problem_, head), lse(head)), head);
  });
}

OperatorNorm ExactQuantities::nonnegative_norm(const LinearOperator& a, int64_t head) {
  return norm_from(a, sums(head).log_column_sum, head);
}

OperatorNorm ExactQuantities::norm_from(const LinearOperator& a, const std::vector<double>& log_column_sum,
                                        int64_t head) const {
  const RandomStream stream(seed_, Purpose::operator_start, trial_, static_cast<uint32_t>(head));
  OperatorNormOptions options;
  options.start = to_vector(as_eigen(log_column_sum).array().exp());
  for (size_t j = 0; j < options.start.size(); ++j) options.start[j] *= 0.5 + stream.uniform(j);
  return operator_norm(a, stream, options);
}

double ExactQuantities::softmax_norm_upper(int64_t head) {
  return std::exp(as_eigen(sums(head).log_column_sum).maxCoeff<Eigen::PropagateNaN>() / 2);
}

double ExactQuantities::softmax_frobenius(int64_t head) {
  return std::sqrt(sum_of_exponentials(sums(head).log_row_square_sum));
}

double ExactQuantities::value_norm(int64_t head) {
  return once(cache(head).value_norm, [&] { return direct_norm(value(head)).value; });
}

double ExactQuantities::value_frobenius(int64_t head) {
  return once(cache(head).value_frobenius, [&] { return frobenius_norm(value(head)); });
}

double ExactQuantities::output_norm(int64_t head) {
  return once(cache(head).output_norm, [&] { return direct_norm(output(head)).value; });
}

double ExactQuantities::output_frobenius(int64_t head) {
  return once(cache(head).output_frobenius, [&] { return frobenius_norm(output(head)); });
}

ExactQuantities::Node& ExactQuantities::cache(const HeadNode& place) {
  const AttentionNode& node = place.node;
  std::unique_ptr<Node>& slot = nodes_[{place.head, node.query_begin, node.query_end, node.key_begin}];
  if (slot) return *slot;
  slot = std::make_unique<Node>();
  slot->problem = node_problem(problem_, place);
  EngineOptions options;
  options.values = false;
  slot->lse = run_forward(slot->problem, exact_plan(slot->problem), options).lse;
  return *slot;
}

double ExactQuantities::node_alpha(const HeadNode& place) {
  Node& node = cache(place);
  return once(node.alpha, [&] {
    return column_alpha(log_column_sums(node.problem, node.lse.data(), 2), place.node.query_count());
  });
}

double ExactQuantities::node_stable_rank(const HeadNode& place, OperatorNorm* norm) {
  Node& node = cache(place);
  const float* lse = node.lse.data();
  *norm = once(node.norm, [&] {
    return norm_from(softmax_operator(node.problem, lse), log_column_sums(node.problem, lse, 1), place.head);
  });
  return sum_of_exponentials(log_row_square_sums(node.problem, lse)) / (norm->value * norm->value);
}

DenseMatrix<double> ExactQuantities::value(int64_t head) const {
  return to_dense(as_eigen(problem_.value.matrix(head)).cast<double>());
}

MeasureContext::MeasureContext(const Backend& backend_used, const CallContext& call_made,
                               const ForwardState& answer, ExactQuantities& exact_quantities)
    : backend(backend_used),
      call(call_made),
      forward(answer),
      exact(exact_quantities),
      worst_norms_(static_cast<size_t>(exact_quantities.problem().heads())) {}

MeasureContext::~MeasureContext() = default;

const MaskSums* MeasureContext::mask_sums() {
  if (mask_asked_) return mask_sums_.get();
  mask_asked_ = true;
  const std::shared_ptr<const Plan> masked = backend.mask_plan(problem(), call);
  const std::shared_ptr<const Plan> unmasked = backend.unmasked_plan(problem(), call);
  if (!masked || !unmasked) return nullptr;
  EngineOptions options;
  options.values = false;
  mask_sums_ = std::make_unique<MaskSums>();
  mask_sums_->masked = run_forward(problem(), *masked, options).lse;
  std::map<int, Plan> levels;
  for (const Phase& phase : unmasked->phases) levels[phase.level].phases.push_back(phase);
  for (const auto& [level, plan] : levels)
    mask_sums_->unmasked.emplace(level, run_forward(problem(), plan, options).lse);
  return mask_sums_.get();
}

std::vector<HeadNode> MeasureContext::approximated_nodes() const {
  if (!backend.capabilities().approximate) return {};
  const int64_t leaf = problem().causal ? call.parameters.integer("min_seq_len") : 0;
  return hyperattn::approximated_nodes(nodes_of(problem(), leaf), problem().heads());
}

void MeasureContext::add_norm(int64_t head, const OperatorNorm& norm) {
  OperatorNorm& worst = worst_norms_[static_cast<size_t>(head)];
  worst.status = std::max(worst.status, norm.status);
  if (!(norm.residual <= worst.residual)) worst.residual = norm.residual;  // NaN stays
}

}  // namespace hyperattn
