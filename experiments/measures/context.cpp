#include "experiments/measures/context.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "algorithms/plan_builder.h"
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

int64_t first_seeing_row(const AttentionProblem& problem) {
  return problem.causal ? std::max<int64_t>(0, -problem.causal_offset()) : 0;
}

struct ExactQuantities::Node {
  AttentionProblem problem;
  std::shared_ptr<const RowSums> sums;
  std::optional<double> alpha;
  std::optional<OperatorNorm> norm;
};

struct ExactQuantities::Head {
  std::shared_ptr<const RowSums> row_sums;
  std::optional<SoftmaxSums> sums;
  std::optional<OperatorNorm> softmax_norm;
  std::optional<double> value_norm;
  std::optional<double> value_frobenius;
  std::optional<double> output_norm;
  std::optional<double> output_frobenius;
};

ExactQuantities::ExactQuantities(const AttentionProblem& problem, const Engine& engine, uint64_t seed,
                                 uint32_t trial)
    : problem_(problem),
      engine_(engine),
      seed_(seed),
      trial_(trial),
      heads_(static_cast<size_t>(problem.heads())) {}

ExactQuantities::~ExactQuantities() = default;

ExactQuantities::Head& ExactQuantities::cache(int64_t head) {
  return heads_[static_cast<size_t>(head)];
}

AttentionResult ExactQuantities::run(const Plan& plan, bool values) const {
  EngineOptions options;
  options.values = values;
  return engine_.forward(*engine_.bind(problem_, {}), plan, options);
}

const AttentionResult& ExactQuantities::attention() {
  if (!attention_) attention_ = std::make_unique<AttentionResult>(run(exact_plan(problem_), true));
  return *attention_;
}

std::vector<double> ExactQuantities::log_ratios(const RowSums& sums, int64_t head) {
  std::vector<double> ratios;
  for (int64_t i = 0; i < problem_.query_count(); ++i)
    ratios.push_back(i < first_seeing_row(problem_)
                         ? 0
                         : attention().sums.log_ratio(head * problem_.query_count() + i, sums));
  return ratios;
}

const float* ExactQuantities::lse(int64_t head) {
  return attention().lse.matrix(head).data;
}

const std::shared_ptr<const RowSums>& ExactQuantities::head_sums(int64_t head) {
  std::shared_ptr<const RowSums>& sums = cache(head).row_sums;
  if (!sums)
    sums = std::make_shared<const RowSums>(part_of(attention().sums, head, 0, problem_.query_count()));
  return sums;
}

DenseMatrix<double> ExactQuantities::output(int64_t head) {
  return to_dense(as_eigen(attention().out.matrix(head)).cast<double>());
}

const SoftmaxSums& ExactQuantities::sums(int64_t head) {
  return once(cache(head).sums, [&] {
    const SoftmaxMatrix p(engine_, head_problem(problem_, head), head_sums(head));
    return SoftmaxSums{p.log_column_sums(1), p.log_column_sums(2), p.log_row_square_sums()};
  });
}

const OperatorNorm& ExactQuantities::softmax_norm(int64_t head) {
  return once(cache(head).softmax_norm, [&] {
    const SoftmaxMatrix p(engine_, head_problem(problem_, head), head_sums(head));
    return nonnegative_norm(p.as_operator(), head);
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
  slot->sums = std::make_shared<const RowSums>(
      engine_.forward(*engine_.bind(slot->problem, {}), exact_plan(slot->problem), options).sums);
  return *slot;
}

double ExactQuantities::node_alpha(const HeadNode& place) {
  Node& node = cache(place);
  return once(node.alpha, [&] {
    return column_alpha(SoftmaxMatrix(engine_, node.problem, node.sums).log_column_sums(2),
                        place.node.query_count());
  });
}

double ExactQuantities::node_stable_rank(const HeadNode& place, OperatorNorm* norm) {
  Node& node = cache(place);
  const SoftmaxMatrix p(engine_, node.problem, node.sums);
  *norm = once(node.norm, [&] { return norm_from(p.as_operator(), p.log_column_sums(1), place.head); });
  return sum_of_exponentials(p.log_row_square_sums()) / (norm->value * norm->value);
}

DenseMatrix<double> ExactQuantities::value(int64_t head) const {
  return to_dense(as_eigen(problem_.values_of(head)).cast<double>());
}

MeasureContext::MeasureContext(const Backend& backend_used, const Call& call_made, const ForwardState& answer,
                               ExactQuantities& exact_quantities)
    : backend(backend_used),
      call(call_made),
      forward(answer),
      exact(exact_quantities),
      worst_norms_(static_cast<size_t>(exact_quantities.problem().heads())) {}

MeasureContext::~MeasureContext() = default;

const MaskSums* MeasureContext::mask_sums() {
  if (mask_asked_) return mask_sums_.get();
  mask_asked_ = true;
  if (!forward.planned.masks) return nullptr;
  mask_sums_ = std::make_unique<MaskSums>();
  mask_sums_->masked = exact.run(forward.planned.masks->masked(problem()), false).sums;
  std::map<int, Plan> levels;
  Plan unmasked = forward.planned.masks->unmasked(problem());
  for (Phase& phase : unmasked.phases) levels[phase.level].phases.push_back(std::move(phase));
  for (const auto& [level, plan] : levels) mask_sums_->unmasked.emplace(level, exact.run(plan, false).lse);
  return mask_sums_.get();
}

std::vector<HeadNode> MeasureContext::approximated_nodes() const {
  return forward.planned.masks ? forward.planned.masks->nodes() : std::vector<HeadNode>();
}

void MeasureContext::add_norm(int64_t head, const OperatorNorm& norm) {
  OperatorNorm& worst = worst_norms_[static_cast<size_t>(head)];
  worst.status = std::max(worst.status, norm.status);
  if (!(norm.residual <= worst.residual)) worst.residual = norm.residual;  // NaN stays
}

}  // namespace hyperattn
