#include "algorithms/engines/reference/reference_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>

#include "algorithms/plan_builder.h"
#include "algorithms/plan_walk.h"
#include "core/error.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

template <class A, class B>
double dot(const A* a, const B* b, int64_t size) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/// Where a query row stands in the plan: one place for each pass that has it.
struct RowPlace {
  const Pass* pass = nullptr;
  const QueryGroup* group = nullptr;
  int64_t position = 0;
};

/// By flat row (head · n_q + row), in the order of the phases.
std::vector<std::vector<RowPlace>> places_of_rows(const AttentionProblem& problem, const Plan& plan) {
  std::vector<std::vector<RowPlace>> places(static_cast<size_t>(problem.heads() * problem.query_count()));
  for_each_group(plan, [&](const Pass& pass, const QueryGroup& group) {
    for (int64_t position = group.begin; position < group.end; ++position)
      places[static_cast<size_t>(pass.head * problem.query_count() + pass.queries[position])].push_back(
          {&pass, &group, position});
  });
  return places;
}

const float* key_row(const AttentionProblem& problem, const Pass& pass, const PlanEntry& entry) {
  const SyntheticKeys* synthetic = entry.list->synthetic.get();
  const auto keys = synthetic != nullptr ? synthetic->key.matrix(0) : problem.key.matrix(pass.key_head);
  return keys.row(entry.key_row());
}

const float* value_row(const AttentionProblem& problem, const Pass& pass, const PlanEntry& entry) {
  const SyntheticKeys* synthetic = entry.list->synthetic.get();
  const auto values = synthetic != nullptr ? synthetic->value.matrix(0) : problem.value.matrix(pass.key_head);
  return values.row(entry.key_row());
}

double vector_times_column(const float* row, const std::vector<float>& matrix, size_t column, size_t columns,
                           int64_t depth) {
  double sum = 0;
  for (int64_t k = 0; k < depth; ++k)
    sum +=
        static_cast<double>(row[k]) * static_cast<double>(matrix[static_cast<size_t>(k) * columns + column]);
  return sum;
}

/// One term of a row's sums: N exp(log_weight)·value in the numerator, D exp(log_weight) in the denominator.
struct Term {
  double log_weight = 0;
  double numerator = 1;
  double denominator = 1;
  const float* value = nullptr;              // of a key
  const std::vector<double>* own = nullptr;  // of moments, or what linear values add to `value`
};

/// All terms of one row, and the values that are its own.
class RowTerms {
 public:
  RowTerms(const AttentionProblem& problem, int64_t head, int64_t row, const float* cap)
      : problem_(problem),
        query_(problem.query.matrix(head).row(row)),
        cap_(cap != nullptr ? static_cast<double>(*cap) : std::numeric_limits<double>::infinity()) {}

  void add(const RowPlace& place) {
    const Pass& pass = *place.pass;
    const std::vector<double>* linear =
        pass.linear_values ? &keep(linear_values(*pass.linear_values)) : nullptr;
    for_each_entry_of_row(pass, *place.group, place.position, [&](const PlanEntry& entry) {
      const double score = static_cast<double>(problem_.scale) *
                           dot(query_, key_row(problem_, pass, entry), problem_.head_dim());
      capped_ += score > cap_ ? 1 : 0;
      terms_.push_back({std::min(score, cap_) + entry.log_weight(), entry.numerator(), entry.denominator(),
                        value_row(problem_, pass, entry), entry.list->linear_value ? linear : nullptr});
    });
    if (place.group->moment_keys > 0) add_moments(*pass.moments, place.group->moment_keys);
  }

  [[nodiscard]] const std::vector<Term>& terms() const { return terms_; }
  [[nodiscard]] int64_t capped() const { return capped_; }

 private:
  const std::vector<double>& keep(std::vector<double> values) {
    own_.push_back(std::make_unique<std::vector<double>>(std::move(values)));
    return *own_.back();
  }

  // θ·s·q·C of LinearValues (plan.h).
  [[nodiscard]] std::vector<double> linear_values(const LinearValues& linear) const {
    const double scale = problem_.scale;
    double variance = 0;
    for (size_t c = 0; c < linear.variance.size(); ++c)
      variance +=
          std::pow(scale * static_cast<double>(query_[c]), 2) * static_cast<double>(linear.variance[c]);
    const double fade = variance > 1 ? 1 / variance : 1;
    const auto d_v = static_cast<size_t>(problem_.value_dim());
    std::vector<double> row;
    for (size_t c = 0; c < d_v; ++c)
      row.push_back(fade * scale *
                    vector_times_column(query_, linear.cross_covariance, c, d_v, problem_.head_dim()));
    return row;
  }

  // The formula of KeyMoments (plan.h).
  void add_moments(const KeyMoments& moments, int64_t keys) {
    const double scale = problem_.scale;
    const auto d = static_cast<size_t>(problem_.head_dim());
    const auto d_v = static_cast<size_t>(problem_.value_dim());
    double variance = 0;
    double mean_score = 0;
    for (size_t c = 0; c < d; ++c) {
      mean_score += scale * static_cast<double>(query_[c]) * static_cast<double>(moments.mean_key[c]);
      variance += scale * scale * static_cast<double>(query_[c]) *
                  vector_times_column(query_, moments.covariance, c, d, problem_.head_dim());
    }
    const double deviation = std::sqrt(std::max(variance, 0.0));
    const double critical = std::sqrt(2 * std::log(static_cast<double>(keys)));
    const bool frozen = deviation > critical;
    const double gain = frozen ? deviation * critical - critical * critical / 2 : deviation * deviation / 2;
    const double tilt = frozen ? critical / deviation : 1;
    std::vector<double> value;
    for (size_t c = 0; c < d_v; ++c)
      value.push_back(static_cast<double>(moments.mean_value[c]) +
                      tilt * scale *
                          vector_times_column(query_, moments.cross_covariance, c, d_v, problem_.head_dim()));
    const double log_weight = std::log(static_cast<double>(keys)) + mean_score + gain;
    terms_.push_back({log_weight, 1, 1, nullptr, &keep(std::move(value))});
  }

  const AttentionProblem& problem_;
  const float* query_;
  double cap_;
  std::vector<Term> terms_;
  std::vector<std::unique_ptr<std::vector<double>>> own_;
  int64_t capped_ = 0;
};

/// Denominators under the largest log-weight.
struct Sums {
  double maximum = kMinusInfinity;
  double denominator = 0;
  double absolute = 0;
};

Sums sums_of(const std::vector<Term>& terms) {
  Sums sums;
  for (const Term& term : terms) sums.maximum = std::max(sums.maximum, term.log_weight);
  if (sums.maximum == kMinusInfinity) return sums;
  for (const Term& term : terms) {
    const double weight = std::exp(term.log_weight - sums.maximum);
    sums.denominator += term.denominator * weight;
    sums.absolute += std::abs(term.denominator) * weight;
  }
  return sums;
}

/// Σ N exp(log_weight − maximum)·value, times `factor`.
void add_values(const std::vector<Term>& terms, double maximum, double factor, int64_t width, double* out) {
  for (const Term& term : terms) {
    if (!(term.log_weight > kMinusInfinity)) continue;
    const double weight = factor * term.numerator * std::exp(term.log_weight - maximum);
    for (int64_t c = 0; c < width; ++c) {
      const double value = term.value != nullptr ? static_cast<double>(term.value[c]) : 0;
      const double own = term.own != nullptr ? (*term.own)[static_cast<size_t>(c)] : 0;
      out[c] += weight * (value + own);
    }
  }
}

/// Holds a row's columns between the values of the keys that it may see; says which were moved.
void clip_row(const AttentionProblem& problem, int64_t head, int64_t row, double* out, uint8_t* clipped) {
  const int64_t last =
      problem.causal ? std::min(row + problem.causal_offset() + 1, problem.key_count()) : problem.key_count();
  const int64_t first = problem.window > 0 ? std::max<int64_t>(last - problem.window, 0) : 0;
  const MatrixView<const float> values = problem.values_of(head);
  for (int64_t c = 0; c < problem.value_dim(); ++c) {
    float low = std::numeric_limits<float>::infinity();
    float high = -low;
    for (int64_t j = first; j < last; ++j) {
      low = std::min(low, values.row(j)[c]);
      high = std::max(high, values.row(j)[c]);
    }
    if (last <= first) continue;
    clipped[c] = is_clipped(out[c], low, high) ? 1 : 0;
    out[c] = std::clamp(out[c], static_cast<double>(low), static_cast<double>(high));
  }
}

TensorShape with_dim(TensorShape shape, int64_t dim) {
  shape.dim = dim;
  return shape;
}

DoubleResult empty_result(const AttentionProblem& problem, const Plan& plan, const EngineOptions& options) {
  const TensorShape rows = with_dim(problem.query.shape, 1);
  DoubleResult result;
  result.lse = Tensor<double>(rows, kMinusInfinity);
  result.maximum = Tensor<double>(rows, kMinusInfinity);
  result.denominator = Tensor<double>(rows, 0.0);
  result.absolute = Tensor<double>(rows, 0.0);
  if (!options.values) return result;
  result.out = Tensor<double>(with_dim(problem.query.shape, problem.value_dim()), 0.0);
  if (plan.clip_to_values) result.clipped.assign(static_cast<size_t>(result.out.shape().size()), 0);
  return result;
}

/// What one row adds to the counts of the result.
struct RowCounts {
  int64_t capped = 0;
  int64_t guarded = 0;
};

RowCounts run_row(const AttentionProblem& problem, const Plan& plan, const std::vector<RowPlace>& places,
                  int64_t index, const EngineOptions& options, DoubleResult& result) {
  const int64_t head = index / problem.query_count();
  const int64_t row = index % problem.query_count();
  RowTerms collected(problem, head, row, options.score_cap != nullptr ? options.score_cap + index : nullptr);
  for (const RowPlace& place : places) collected.add(place);
  const std::vector<Term>& terms = collected.terms();
  const Sums sums = sums_of(terms);
  RowCounts counts{collected.capped(), 0};
  const bool noise = sums.denominator <= kGuardShare * sums.absolute;
  if (sums.maximum > kMinusInfinity && !noise) {
    result.maximum.data()[index] = sums.maximum;
    result.denominator.data()[index] = sums.denominator;
    result.lse.data()[index] = sums.maximum + std::log(sums.denominator);
  }
  result.absolute.data()[index] = sums.absolute;
  counts.guarded = sums.absolute > 0 && noise ? 1 : 0;
  if (!options.values) return counts;
  double* out = result.out.data() + index * problem.value_dim();
  if (options.denominators != nullptr) {
    const double sum = options.denominators->sum.data()[index];
    const double maximum =
        std::numbers::ln2 * static_cast<double>(options.denominators->maximum.data()[index]);
    if (sum > 0) add_values(terms, maximum, 1 / sum, problem.value_dim(), out);
    return counts;
  }
  if (result.denominator.data()[index] == 0) return counts;
  add_values(terms, sums.maximum, 1 / sums.denominator, problem.value_dim(), out);
  if (plan.clip_to_values)
    clip_row(problem, head, row, out, result.clipped.data() + index * problem.value_dim());
  return counts;
}

/// Adds `gradient` to the rows that the entry's key (or value) is made of.
void add_to_key_rows(const PlanEntry& entry, MatrixView<double> target, const std::vector<double>& gradient) {
  const auto add = [&](int64_t row, double share) {
    for (int64_t c = 0; c < target.cols; ++c) target.row(row)[c] += share * gradient[static_cast<size_t>(c)];
  };
  const SyntheticKeys* synthetic = entry.list->synthetic.get();
  if (synthetic == nullptr) return add(entry.key_row(), 1.0);
  const auto index = static_cast<size_t>(entry.key_row());
  for (int64_t member = synthetic->member_begin[index]; member < synthetic->member_begin[index + 1]; ++member)
    add(synthetic->member_order[member], static_cast<double>(synthetic->share(entry.key_row(), member)));
}

/// Adds the gradients of the rows of some heads; one a thread.
class BackwardRows {
 public:
  BackwardRows(const AttentionProblem& problem, const DoubleResult& forward, TensorView<const float> dout,
               DoubleGradients& gradients)
      : problem_(problem),
        forward_(forward),
        dout_(dout),
        gradients_(gradients),
        upstream_(static_cast<size_t>(problem.value_dim())),
        dkey_(static_cast<size_t>(problem.head_dim())),
        dvalue_(static_cast<size_t>(problem.value_dim())) {}

  void add_row(const Pass& pass, const QueryGroup& group, int64_t position) {
    const int64_t index = pass.head * problem_.query_count() + pass.queries[position];
    if (forward_.denominator.data()[index] == 0) return;
    load_upstream(index);
    for_each_entry_of_row(pass, group, position,
                          [&](const PlanEntry& entry) { add_entry(pass, index, entry); });
  }

 private:
  /// dout of a row, 0 where its output was clipped.
  void load_upstream(int64_t index) {
    const int64_t width = problem_.value_dim();
    for (int64_t c = 0; c < width; ++c) {
      const bool clipped =
          !forward_.clipped.empty() && forward_.clipped[static_cast<size_t>(index * width + c)] != 0;
      upstream_[static_cast<size_t>(c)] = clipped ? 0 : static_cast<double>(dout_.data[index * width + c]);
    }
    along_out_ = dot(upstream_.data(), forward_.out.data() + index * width, width);
  }

  void add_entry(const Pass& pass, int64_t index, const PlanEntry& entry) {
    const int64_t d = problem_.head_dim();
    const auto scale = static_cast<double>(problem_.scale);
    const float* query = problem_.query.data + index * d;
    const float* key = key_row(problem_, pass, entry);
    const double log_weight = scale * dot(query, key, d) + entry.log_weight();
    const double e =
        std::exp(log_weight - forward_.maximum.data()[index]) / forward_.denominator.data()[index];
    const double along_value = dot(upstream_.data(), value_row(problem_, pass, entry), problem_.value_dim());
    const double ds = scale * e * (entry.numerator() * along_value - entry.denominator() * along_out_);
    double* dquery = gradients_.dquery.data() + index * d;
    for (int64_t c = 0; c < d; ++c) dquery[c] += ds * static_cast<double>(key[c]);
    for (int64_t c = 0; c < d; ++c) dkey_[static_cast<size_t>(c)] = ds * static_cast<double>(query[c]);
    for (size_t c = 0; c < dvalue_.size(); ++c) dvalue_[c] = entry.numerator() * e * upstream_[c];
    add_to_key_rows(entry, gradients_.dkey.matrix(pass.key_head), dkey_);
    add_to_key_rows(entry, gradients_.dvalue.matrix(pass.key_head), dvalue_);
  }

  const AttentionProblem& problem_;
  const DoubleResult& forward_;
  TensorView<const float> dout_;
  DoubleGradients& gradients_;
  std::vector<double> upstream_;
  double along_out_ = 0;
  std::vector<double> dkey_;
  std::vector<double> dvalue_;
};

}  // namespace

DoubleResult run_plan_in_double(const AttentionProblem& problem, const Plan& plan,
                                const EngineOptions& options) {
  refuse_unsuited_options(plan, options);
  const auto places = places_of_rows(problem, plan);
  DoubleResult result = empty_result(problem, plan, options);
  std::vector<RowCounts> counts(places.size());
  parallel_for(static_cast<int64_t>(places.size()), [&](int64_t index, int) {
    const auto i = static_cast<size_t>(index);
    counts[i] = run_row(problem, plan, places[i], index, options, result);
  });
  for (const RowCounts& row : counts) {
    result.capped_entries += row.capped;
    result.guarded_rows += row.guarded;
  }
  if (options.capped_entries != nullptr) *options.capped_entries = result.capped_entries;
  return result;
}

DoubleGradients run_plan_backward_in_double(const AttentionProblem& problem, const Plan& plan,
                                            const DoubleResult& forward, TensorView<const float> dout) {
  if (has_query_terms(plan)) fail_usage("a plan with moments or linear values has no gradient");
  DoubleGradients gradients{Tensor<double>(problem.query.shape, 0.0), Tensor<double>(problem.key.shape, 0.0),
                            Tensor<double>(problem.value.shape, 0.0)};
  parallel_for(problem.key_heads(), [&](int64_t key_head, int) {  // whose rows one thread adds to
    BackwardRows backward(problem, forward, dout, gradients);
    for_each_group(plan, [&](const Pass& pass, const QueryGroup& group) {
      for (int64_t position = group.begin; pass.key_head == key_head && position < group.end; ++position)
        backward.add_row(pass, group, position);
    });
  });
  return gradients;
}

Tensor<double> run_transposed_in_double(const AttentionProblem& problem, const Plan& plan,
                                        const RowSums& denominators, TensorView<const float> rows) {
  const int64_t width = rows.shape.dim;
  Tensor<double> result({problem.key.shape.batch, problem.key.shape.heads, problem.key_count(), width}, 0.0);
  parallel_for(problem.key_heads(), [&](int64_t key_head, int) {
    std::vector<double> weighted(static_cast<size_t>(width));
    for_each_entry(plan, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
      if (pass.key_head != key_head) return;
      const int64_t index = pass.head * problem.query_count() + pass.queries[entry.position];
      const double sum = denominators.sum.data()[index];
      if (!(sum > 0)) return;
      const float* query = problem.query.data + index * problem.head_dim();
      const double score =
          static_cast<double>(problem.scale) * dot(query, key_row(problem, pass, entry), problem.head_dim());
      const double reference = std::numbers::ln2 * static_cast<double>(denominators.maximum.data()[index]);
      const double weight = std::exp(score + entry.log_weight() - reference) / sum;
      for (int64_t c = 0; c < width; ++c)
        weighted[static_cast<size_t>(c)] = weight * static_cast<double>(rows.data[index * width + c]);
      add_to_key_rows(entry, result.matrix(key_head), weighted);
    });
  });
  return result;
}

DoubleResult attention_in_double(const AttentionProblem& problem) {
  return run_plan_in_double(problem, exact_plan(problem));
}

DoubleGradients attention_gradients_in_double(const AttentionProblem& problem, const DoubleResult& forward,
                                              TensorView<const float> dout) {
  return run_plan_backward_in_double(problem, exact_plan(problem), forward, dout);
}

}  // namespace hyperattn
