#include "algorithms/engines/reference/reference_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

// One weighted entry of the score matrix of a head.
struct Entry {
  int64_t query = 0;  // row of Q
  const KeyList* list = nullptr;
  int64_t rank = 0;
  double log_weight = 0;

  [[nodiscard]] int64_t row() const { return list->order[rank]; }  // row of K, or synthetic row
};

double log_weight_of(const KeyList& list, int64_t rank) {
  return list.log_weight ? (*list.log_weight)[static_cast<size_t>(rank)] : list.uniform_log_weight;
}

bool is_excluded(const Pass& pass, const Visit& visit, int64_t rank) {
  const auto first = pass.excluded.begin() + visit.excluded_begin;
  const auto last = pass.excluded.begin() + visit.excluded_end;
  return std::binary_search(first, last, static_cast<int32_t>(rank));
}

template <class Body>
void for_each_entry_of_visit(const Pass& pass, const QueryGroup& group, const Visit& visit,
                             const Body& body) {
  const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
  for (int64_t position = group.begin; position < group.end; ++position)
    for (int64_t rank = visit.begin; rank < visit.end; ++rank) {
      if (pass.triangular && rank > position) continue;
      if (is_excluded(pass, visit, rank)) continue;
      const double log_weight = log_weight_of(list, rank);
      if (log_weight == kMinusInfinity) continue;
      body(Entry{pass.queries[position], &list, rank, log_weight});
    }
}

// Every entry that the plan computes for one head.
template <class Body>
void for_each_entry(const Plan& plan, int64_t head, const Body& body) {
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes) {
      if (pass.head != head) continue;
      for (const QueryGroup& group : pass.groups)
        for (int64_t v = group.first_visit; v < group.last_visit; ++v)
          for_each_entry_of_visit(pass, group, pass.visits[static_cast<size_t>(v)], body);
    }
}

// What the moments of a group's pass add to one of its rows.
struct MomentRow {
  int64_t query = 0;
  double log_weight = 0;
  std::vector<double> value;
};

double moment_score(const float* query, const std::vector<float>& matrix, size_t column, size_t columns,
                    int64_t depth) {
  double sum = 0;
  for (int64_t k = 0; k < depth; ++k)
    sum += static_cast<double>(query[k]) *
           static_cast<double>(matrix[static_cast<size_t>(k) * columns + column]);
  return sum;
}

// The formula of KeyMoments (plan.h).
MomentRow moment_row(const AttentionProblem& problem, const Pass& pass, int64_t keys, int64_t position) {
  const KeyMoments& moments = *pass.moments;
  const double scale = problem.scale;
  const auto d = static_cast<size_t>(problem.head_dim());
  const auto d_v = static_cast<size_t>(problem.value_dim());
  MomentRow row;
  row.query = pass.queries[position];
  const float* query = problem.query.matrix(pass.head).row(row.query);
  double variance = 0;
  double mean_score = 0;
  for (size_t c = 0; c < d; ++c) {
    mean_score += scale * static_cast<double>(query[c]) * static_cast<double>(moments.mean_key[c]);
    variance += scale * scale * static_cast<double>(query[c]) *
                moment_score(query, moments.covariance, c, d, problem.head_dim());
  }
  const double deviation = std::sqrt(std::max(variance, 0.0));
  const double critical = std::sqrt(2 * std::log(static_cast<double>(keys)));
  const bool frozen = deviation > critical;
  const double gain = frozen ? deviation * critical - critical * critical / 2 : deviation * deviation / 2;
  const double tilt = frozen ? critical / deviation : 1;
  row.log_weight = std::log(static_cast<double>(keys)) + mean_score + gain;
  for (size_t c = 0; c < d_v; ++c)
    row.value.push_back(static_cast<double>(moments.mean_value[c]) +
                        tilt * scale *
                            moment_score(query, moments.cross_covariance, c, d_v, problem.head_dim()));
  return row;
}

// θ·s·q·C of LinearValues (plan.h) for one row.
std::vector<double> linear_value_row(const AttentionProblem& problem, const Pass& pass, int64_t query_row) {
  const LinearValues& linear = *pass.linear_values;
  const double scale = problem.scale;
  const float* query = problem.query.matrix(pass.head).row(query_row);
  double variance = 0;
  for (size_t c = 0; c < linear.variance.size(); ++c)
    variance += std::pow(scale * static_cast<double>(query[c]), 2) * static_cast<double>(linear.variance[c]);
  const double fade = variance > 1 ? 1 / variance : 1;
  const auto d_v = static_cast<size_t>(problem.value_dim());
  std::vector<double> row;
  for (size_t c = 0; c < d_v; ++c)
    row.push_back(fade * scale * moment_score(query, linear.cross_covariance, c, d_v, problem.head_dim()));
  return row;
}

// Calls body(pass, entry) for every entry of a linear list.
template <class Body>
void for_each_linear_entry(const Plan& plan, int64_t head, const Body& body) {
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes) {
      if (pass.head != head || pass.linear_values == nullptr) continue;
      for (const QueryGroup& group : pass.groups)
        for (int64_t v = group.first_visit; v < group.last_visit; ++v) {
          const Visit& visit = pass.visits[static_cast<size_t>(v)];
          if (pass.lists[static_cast<size_t>(visit.list)].linear_value)
            for_each_entry_of_visit(pass, group, visit, [&](const Entry& entry) { body(pass, entry); });
        }
    }
}

template <class Body>
void for_each_moment_row(const AttentionProblem& problem, const Plan& plan, int64_t head, const Body& body) {
  for (const Phase& phase : plan.phases)
    for (const Pass& pass : phase.passes)
      if (pass.head == head)
        for (const QueryGroup& group : pass.groups)
          for (int64_t position = group.begin; group.moment_keys > 0 && position < group.end; ++position)
            body(moment_row(problem, pass, group.moment_keys, position));
}

const float* key_row(const AttentionProblem& problem, int64_t head, const Entry& entry) {
  const auto keys = entry.list->synthetic ? entry.list->synthetic->key.matrix(0) : problem.key.matrix(head);
  return keys.row(entry.row());
}

const float* value_row(const AttentionProblem& problem, int64_t head, const Entry& entry) {
  const auto values =
      entry.list->synthetic ? entry.list->synthetic->value.matrix(0) : problem.value.matrix(head);
  return values.row(entry.row());
}

template <class A, class B>
double dot(const A* a, const B* b, int64_t size) {
  double sum = 0;
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

double score(const AttentionProblem& problem, int64_t head, const Entry& entry) {
  const float* query = problem.query.matrix(head).row(entry.query);
  return static_cast<double>(problem.scale) * dot(query, key_row(problem, head, entry), problem.head_dim());
}

TensorShape with_dim(TensorShape shape, int64_t dim) {
  shape.dim = dim;
  return shape;
}

// lse of every row of one head: the maximum first, then the sum under it.
void fill_lse(const AttentionProblem& problem, const Plan& plan, const double* cap, int64_t head, double* lse,
              int64_t* capped) {
  const auto rows = static_cast<size_t>(problem.query_count());
  std::vector<double> maximum(rows, kMinusInfinity);
  std::vector<double> sum(rows, 0.0);
  const auto weighted = [&](const Entry& entry) {
    return std::min(score(problem, head, entry), cap[entry.query]) + entry.log_weight;
  };
  for_each_entry(plan, head, [&](const Entry& entry) {
    const auto row = static_cast<size_t>(entry.query);
    maximum[row] = std::max(maximum[row], weighted(entry));
    if (score(problem, head, entry) > cap[entry.query]) ++*capped;
  });
  for_each_moment_row(problem, plan, head, [&](const MomentRow& moments) {
    double& row_maximum = maximum[static_cast<size_t>(moments.query)];
    row_maximum = std::max(row_maximum, moments.log_weight);
  });
  for_each_moment_row(problem, plan, head, [&](const MomentRow& moments) {
    const auto row = static_cast<size_t>(moments.query);
    sum[row] += std::exp(moments.log_weight - maximum[row]);
  });
  for_each_entry(plan, head, [&](const Entry& entry) {
    const auto row = static_cast<size_t>(entry.query);
    if (maximum[row] > kMinusInfinity) sum[row] += std::exp(weighted(entry) - maximum[row]);
  });
  for (size_t row = 0; row < rows; ++row)
    lse[row] = maximum[row] > kMinusInfinity ? maximum[row] + std::log(sum[row]) : kMinusInfinity;
}

void fill_out(const AttentionProblem& problem, const Plan& plan, const double* cap, const double* normaliser,
              int64_t head, MatrixView<double> out) {
  for_each_entry(plan, head, [&](const Entry& entry) {
    const double log_term =
        std::min(score(problem, head, entry), cap[entry.query]) + entry.log_weight - normaliser[entry.query];
    if (!(log_term > kMinusInfinity)) return;
    const double weight = std::exp(log_term);
    const float* value = value_row(problem, head, entry);
    for (int64_t c = 0; c < problem.value_dim(); ++c) out.row(entry.query)[c] += weight * value[c];
  });
  for_each_linear_entry(plan, head, [&](const Pass& pass, const Entry& entry) {
    const double weight = std::exp(score(problem, head, entry) + entry.log_weight - normaliser[entry.query]);
    const std::vector<double> linear = linear_value_row(problem, pass, entry.query);
    for (int64_t c = 0; c < problem.value_dim(); ++c)
      out.row(entry.query)[c] += weight * linear[static_cast<size_t>(c)];
  });
  for_each_moment_row(problem, plan, head, [&](const MomentRow& moments) {
    const double weight = std::exp(moments.log_weight - normaliser[moments.query]);
    for (int64_t c = 0; c < problem.value_dim(); ++c)
      out.row(moments.query)[c] += weight * moments.value[static_cast<size_t>(c)];
  });
}

// The given option of one head in double, or `otherwise` in every row.
std::vector<double> option_rows(const float* option, int64_t head, int64_t rows, double otherwise) {
  std::vector<double> values(static_cast<size_t>(rows), otherwise);
  if (option != nullptr) std::copy_n(option + head * rows, rows, values.begin());
  return values;
}

// Adds `gradient` to the rows that the entry's key (or value) is made of.
void add_to_key_rows(const Entry& entry, MatrixView<double> target, const double* gradient) {
  const auto add = [&](int64_t row, double share) {
    for (int64_t c = 0; c < target.cols; ++c) target.row(row)[c] += share * gradient[c];
  };
  const SyntheticKeys* synthetic = entry.list->synthetic.get();
  if (synthetic == nullptr) return add(entry.row(), 1.0);
  const auto index = static_cast<size_t>(entry.row());
  const int64_t begin = synthetic->member_begin[index];
  const int64_t end = synthetic->member_begin[index + 1];
  for (int64_t member = begin; member < end; ++member)
    add(synthetic->member_order[member], synthetic->share(entry.row(), member));
}

void backward_of_head(const AttentionProblem& problem, const Plan& plan, const DoubleResult& forward,
                      TensorView<const float> dout, int64_t head, DoubleGradients& gradients) {
  const int64_t d = problem.head_dim();
  const int64_t d_v = problem.value_dim();
  const double scale = problem.scale;
  std::vector<double> key_gradient(static_cast<size_t>(d));
  std::vector<double> value_gradient(static_cast<size_t>(d_v));
  for_each_entry(plan, head, [&](const Entry& entry) {
    const double lse = forward.lse.matrix(head).row(entry.query)[0];
    const double p = std::exp(score(problem, head, entry) + entry.log_weight - lse);
    const float* dout_row = dout.matrix(head).row(entry.query);
    const double ds = p * (dot(dout_row, value_row(problem, head, entry), d_v) -
                           dot(dout_row, forward.out.matrix(head).row(entry.query), d_v));
    const float* query = problem.query.matrix(head).row(entry.query);
    const float* key = key_row(problem, head, entry);
    for (int64_t c = 0; c < d; ++c) gradients.dquery.matrix(head).row(entry.query)[c] += scale * ds * key[c];
    for (int64_t c = 0; c < d; ++c) key_gradient[static_cast<size_t>(c)] = scale * ds * query[c];
    for (int64_t c = 0; c < d_v; ++c) value_gradient[static_cast<size_t>(c)] = p * dout_row[c];
    add_to_key_rows(entry, gradients.dkey.matrix(head), key_gradient.data());
    add_to_key_rows(entry, gradients.dvalue.matrix(head), value_gradient.data());
  });
}

}  // namespace

DoubleResult run_plan_in_double(const AttentionProblem& problem, const Plan& plan,
                                const EngineOptions& options) {
  const int64_t rows = problem.query_count();
  DoubleResult result;
  result.lse = Tensor<double>(with_dim(problem.query.shape, 1));
  if (options.values) result.out = Tensor<double>(with_dim(problem.query.shape, problem.value_dim()), 0.0);
  std::vector<int64_t> capped(static_cast<size_t>(problem.heads()), 0);
  parallel_for(problem.heads(), [&](int64_t head, int) {
    const auto cap = option_rows(options.score_cap, head, rows, std::numeric_limits<double>::infinity());
    double* lse = result.lse.matrix(head).data;
    fill_lse(problem, plan, cap.data(), head, lse, &capped[static_cast<size_t>(head)]);
    if (!options.values) return;
    const auto given = option_rows(options.row_normaliser, head, rows, 0.0);
    fill_out(problem, plan, cap.data(), options.row_normaliser != nullptr ? given.data() : lse, head,
             result.out.matrix(head));
  });
  for (const int64_t count : capped) result.capped_entries += count;
  if (options.capped_entries != nullptr) *options.capped_entries = result.capped_entries;
  return result;
}

DoubleGradients run_plan_backward_in_double(const AttentionProblem& problem, const Plan& plan,
                                            const DoubleResult& forward, TensorView<const float> dout) {
  if (has_query_terms(plan)) fail_usage("a plan with moments or linear values has no gradient");
  DoubleGradients gradients{Tensor<double>(problem.query.shape, 0.0), Tensor<double>(problem.key.shape, 0.0),
                            Tensor<double>(problem.value.shape, 0.0)};
  parallel_for(problem.heads(),
               [&](int64_t head, int) { backward_of_head(problem, plan, forward, dout, head, gradients); });
  return gradients;
}

}  // namespace hyperattn
