// Rounding to the precisions of the engine, and plain attention in them: what a textbook's program does that
// keeps scores, weights and the results of products in that precision. The yardstick of the engine's errors.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/plan_walk.h"
#include "core/eigen.h"
#include "core/parallel.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {

inline float rounded_to(const std::string& precision, double value) {
  const auto single = static_cast<float>(value);
  if (precision == "bf16") return static_cast<float>(Eigen::bfloat16(single));
  if (precision == "fp16") return static_cast<float>(Eigen::half(single));
  return single;
}

inline void round_to(const std::string& precision, Tensor<float>& tensor) {
  for (int64_t i = 0; i < tensor.shape().size(); ++i)
    tensor.data()[i] = rounded_to(precision, static_cast<double>(tensor.data()[i]));
}

/// What plain attention rounds besides its inputs: all that it keeps, or the weights alone, as a program does
/// whose products stay in fp32.
enum class PlainRounding { everything, weights };

/// Runs a plan without query terms as plain attention in a precision.
class PlainAttention {
 public:
  PlainAttention(const std::string& precision, const AttentionProblem& problem, const Plan& plan,
                 const DoubleResult& exact, PlainRounding rounding = PlainRounding::everything)
      : precision_(precision), problem_(problem), plan_(plan), exact_(exact), rounding_(rounding) {
    lse_ = Tensor<float>(exact.lse.shape());
    denominator_.assign(static_cast<size_t>(lse_.shape().size()), 0.0);
    for_each_entry(plan, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
      const int64_t row = row_of(pass, entry);
      if (exact.denominator.data()[row] != 0)
        denominator_[static_cast<size_t>(row)] += entry.denominator() * exponential(pass, entry, row);
    });
    for (int64_t row = 0; row < lse_.shape().size(); ++row) {
      const double sum = denominator_[static_cast<size_t>(row)];
      lse_.data()[row] = sum > 0 ? static_cast<float>(exact.maximum.data()[row] + std::log(sum)) : -INFINITY;
    }
    run_forward();
  }

  [[nodiscard]] const Tensor<float>& out() const { return out_; }
  [[nodiscard]] const Tensor<float>& lse() const { return lse_; }

  struct Gradients {
    Tensor<float> dquery, dkey, dvalue;
  };

  [[nodiscard]] Gradients backward(TensorView<const float> dout) const {
    DoubleGradients sums{Tensor<double>(problem_.query.shape, 0.0), Tensor<double>(problem_.key.shape, 0.0),
                         Tensor<double>(problem_.value.shape, 0.0)};
    for_each_entry(plan_, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
      add_gradient(pass, entry, dout, sums);
    });
    return {round(sums.dquery), round(sums.dkey), round(sums.dvalue)};
  }

 private:
  /// A value that the exact clip moved is taken as it was then.
  void run_forward() {
    const int64_t width = problem_.value_dim();
    Tensor<double> sums(exact_.out.shape(), 0.0);
    for_each_entry(plan_, [&](const Pass& pass, const QueryGroup&, const PlanEntry& entry) {
      const int64_t row = row_of(pass, entry);
      const double p = weight(pass, entry, row, entry.numerator());
      const float* value = rows(pass, entry, problem_.value, &SyntheticKeys::value);
      for (int64_t c = 0; c < width; ++c) sums.data()[row * width + c] += p * static_cast<double>(value[c]);
    });
    for (size_t i = 0; i < exact_.clipped.size(); ++i)
      if (exact_.clipped[i] != 0) sums.data()[i] = exact_.out.data()[i];
    out_ = round(sums);
  }

  [[nodiscard]] double round(double value) const {
    return static_cast<double>(rounded_to(precision_, value));
  }
  [[nodiscard]] double round_result(double value) const {
    return rounding_ == PlainRounding::everything ? round(value) : value;
  }
  [[nodiscard]] Tensor<float> round(const Tensor<double>& sums) const {
    Tensor<float> result(sums.shape());
    for (int64_t i = 0; i < sums.shape().size(); ++i)
      result.data()[i] = static_cast<float>(round_result(sums.data()[i]));
    return result;
  }
  [[nodiscard]] int64_t row_of(const Pass& pass, const PlanEntry& entry) const {
    return pass.head * problem_.query_count() + pass.queries[entry.position];
  }
  /// A row of the problem's own, which are rounded already, or of the synthetic keys, rounded.
  const float* rows(const Pass& pass, const PlanEntry& entry, TensorView<const float> own,
                    Tensor<float> SyntheticKeys::*synthetic) const {
    const SyntheticKeys* keys = entry.list->synthetic.get();
    if (keys == nullptr) return own.matrix(pass.key_head).row(entry.key_row());
    Tensor<float>& copy = rounded_[&(keys->*synthetic)];
    if (copy.shape().size() == 0) {
      copy = Tensor<float>((keys->*synthetic).shape());
      std::copy_n((keys->*synthetic).data(), copy.shape().size(), copy.data());
      round_to(precision_, copy);
    }
    return copy.matrix(0).row(entry.key_row());
  }
  static double dot(const float* a, const float* b, int64_t size) {
    double sum = 0;
    for (int64_t c = 0; c < size; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
    return sum;
  }
  [[nodiscard]] double exponential(const Pass& pass, const PlanEntry& entry, int64_t row) const {
    const float* query = problem_.query.data + row * problem_.head_dim();
    const double score =
        round_result(static_cast<double>(problem_.scale) *
                     dot(query, rows(pass, entry, problem_.key, &SyntheticKeys::key), problem_.head_dim()));
    return std::exp(score + entry.log_weight() - exact_.maximum.data()[row]);
  }
  [[nodiscard]] double weight(const Pass& pass, const PlanEntry& entry, int64_t row, double sign) const {
    const double sum = denominator_[static_cast<size_t>(row)];
    return sum > 0 ? round(sign * exponential(pass, entry, row) / sum) : 0;
  }

  void add_gradient(const Pass& pass, const PlanEntry& entry, TensorView<const float> dout,
                    DoubleGradients& sums) const {
    const int64_t row = row_of(pass, entry);
    const int64_t d = problem_.head_dim();
    const int64_t width = problem_.value_dim();
    std::vector<float> upstream(dout.data + row * width, dout.data + (row + 1) * width);
    for (int64_t c = 0; c < width; ++c)
      if (!exact_.clipped.empty() && exact_.clipped[static_cast<size_t>(row * width + c)] != 0)
        upstream[static_cast<size_t>(c)] = 0;
    double along_out = 0;
    for (int64_t c = 0; c < width; ++c)
      along_out += static_cast<double>(upstream[static_cast<size_t>(c)]) *
                   static_cast<double>(out_.data()[row * width + c]);
    const float* key = rows(pass, entry, problem_.key, &SyntheticKeys::key);
    const float* value = rows(pass, entry, problem_.value, &SyntheticKeys::value);
    const float* query = problem_.query.data + row * d;
    const double along = round_result(dot(upstream.data(), value, width));
    const double ds = round_result(static_cast<double>(problem_.scale) * weight(pass, entry, row, 1) *
                                   (entry.numerator() * along - entry.denominator() * along_out));
    const double p = weight(pass, entry, row, entry.numerator());
    for (int64_t c = 0; c < d; ++c) sums.dquery.data()[row * d + c] += ds * static_cast<double>(key[c]);
    for_each_key_row(entry, [&](int64_t key_row, double share) {
      for (int64_t c = 0; c < d; ++c)
        sums.dkey.matrix(pass.key_head).row(key_row)[c] += share * ds * static_cast<double>(query[c]);
      for (int64_t c = 0; c < width; ++c)
        sums.dvalue.matrix(pass.key_head).row(key_row)[c] +=
            share * p * static_cast<double>(upstream[static_cast<size_t>(c)]);
    });
  }

  template <class Body>
  static void for_each_key_row(const PlanEntry& entry, const Body& body) {
    const SyntheticKeys* keys = entry.list->synthetic.get();
    if (keys == nullptr) return body(entry.key_row(), 1.0);
    const auto s = static_cast<size_t>(entry.key_row());
    for (int64_t m = keys->member_begin[s]; m < keys->member_begin[s + 1]; ++m)
      body(keys->member_order[m], static_cast<double>(keys->share(entry.key_row(), m)));
  }

  std::string precision_;
  const AttentionProblem& problem_;
  const Plan& plan_;
  const DoubleResult& exact_;
  PlainRounding rounding_;
  Tensor<float> out_;
  Tensor<float> lse_;
  std::vector<double> denominator_;
  mutable std::map<const Tensor<float>*, Tensor<float>> rounded_;
};

}  // namespace hyperattn::testing
