#include "algorithms/engines/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "algorithms/methods/described_backend.h"
#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

template <class A, class B>
double dot(const A* a, const B* b, int64_t size) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < size; ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

int64_t visible_keys(const AttentionProblem& problem, int64_t query) {
  return problem.causal ? query + 1 : problem.key_count();
}

int64_t first_visible_query(const AttentionProblem& problem, int64_t key) {
  return problem.causal ? key : 0;
}

double score(const AttentionProblem& problem, int64_t head, int64_t query, int64_t key) {
  return static_cast<double>(problem.scale) *
         dot(problem.query.matrix(head).row(query), problem.key.matrix(head).row(key), problem.head_dim());
}

void forward_of_row(const AttentionProblem& problem, int64_t head, int64_t query, DoubleResult& result) {
  const int64_t keys = visible_keys(problem, query);
  std::vector<double> weights(static_cast<size_t>(keys));
  for (int64_t j = 0; j < keys; ++j) weights[static_cast<size_t>(j)] = score(problem, head, query, j);
  const double maximum = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += (weight = std::exp(weight - maximum));
  result.lse.matrix(head).row(query)[0] = maximum + std::log(sum);
  double* out = result.out.matrix(head).row(query);
  for (int64_t j = 0; j < keys; ++j) {
    const double p = weights[static_cast<size_t>(j)] / sum;
    const float* value = problem.value.matrix(head).row(j);
    for (int64_t c = 0; c < problem.value_dim(); ++c) out[c] += p * value[c];
  }
}

// What the gradient needs of one entry: P_ij and dS_ij.
struct EntryGradient {
  double p = 0;
  double ds = 0;
};

class GradientFormula {
 public:
  GradientFormula(const AttentionProblem& problem, const DoubleResult& forward, TensorView<const float> dout,
                  int64_t head)
      : problem_(problem), forward_(forward), dout_(dout.matrix(head)), head_(head) {
    for (int64_t i = 0; i < problem.query_count(); ++i)
      out_dot_dout_.push_back(dot(forward.out.matrix(head).row(i), dout_.row(i), problem.value_dim()));
  }

  [[nodiscard]] EntryGradient entry(int64_t i, int64_t j) const {
    const double p = std::exp(score(problem_, head_, i, j) - forward_.lse.matrix(head_).row(i)[0]);
    const double dp = dot(dout_.row(i), problem_.value.matrix(head_).row(j), problem_.value_dim());
    return {p, p * (dp - out_dot_dout_[static_cast<size_t>(i)])};
  }

  void fill_query_row(int64_t i, double* dquery) const {
    for (int64_t j = 0; j < visible_keys(problem_, i); ++j) {
      const double factor = problem_.scale * entry(i, j).ds;
      const float* key = problem_.key.matrix(head_).row(j);
      for (int64_t c = 0; c < problem_.head_dim(); ++c) dquery[c] += factor * key[c];
    }
  }

  void fill_key_row(int64_t j, double* dkey, double* dvalue) const {
    for (int64_t i = first_visible_query(problem_, j); i < problem_.query_count(); ++i) {
      const EntryGradient gradient = entry(i, j);
      const double factor = problem_.scale * gradient.ds;
      const float* query = problem_.query.matrix(head_).row(i);
      for (int64_t c = 0; c < problem_.head_dim(); ++c) dkey[c] += factor * query[c];
      for (int64_t c = 0; c < problem_.value_dim(); ++c) dvalue[c] += gradient.p * dout_.row(i)[c];
    }
  }

 private:
  const AttentionProblem& problem_;
  const DoubleResult& forward_;
  MatrixView<const float> dout_;
  int64_t head_;
  std::vector<double> out_dot_dout_;
};

template <class From, class To>
void convert(const Tensor<From>& from, Tensor<To>& to) {
  to = Tensor<To>(from.shape());
  std::transform(from.data(), from.data() + from.shape().size(), to.data(),
                 [](From x) { return static_cast<To>(x); });
}

BackendDescription description() {
  BackendDescription text;
  text.name = "reference";
  text.meaning = "exact attention in double precision and plain loops: slow, the measure of all others";
  text.capabilities.causal = text.capabilities.backward = text.capabilities.unequal_lengths = true;
  return text;
}

class ReferenceBackend final : public DescribedBackend {
 public:
  ReferenceBackend() : DescribedBackend(description()) {}

  [[nodiscard]] double estimated_entries(const TensorShape& query, const TensorShape& key, bool causal,
                                         const Parameters&) const override {
    return exact_entries(query, key, causal);
  }
  [[nodiscard]] double estimated_bytes(const TensorShape& query, const TensorShape& key,
                                       const TensorShape& value, const Parameters&) const override {
    const double result = static_cast<double>(query.matrices() * query.rows * (value.dim + 1));
    return sizeof(double) * (result + static_cast<double>(thread_count() * key.rows));
  }
  [[nodiscard]] ForwardState forward(const AttentionProblem& problem, const CallContext&) const override {
    const Stopwatch watch;
    const DoubleResult exact = attention_in_double(problem);
    ForwardState state;
    convert(exact.out, state.result.out);
    convert(exact.lse, state.result.lse);
    Diagnostics& diagnostics = state.result.diagnostics;
    diagnostics.entries =
        static_cast<int64_t>(exact_entries(problem.query.shape, problem.key.shape, problem.causal));
    diagnostics.clipped_share = diagnostics.floored_share = std::numeric_limits<double>::quiet_NaN();
    diagnostics.stage_seconds[stage_name(Stage::exact)] = watch.seconds();
    return state;
  }
  [[nodiscard]] AttentionGradients backward(const AttentionProblem& problem, const CallContext&,
                                            const ForwardState&,
                                            TensorView<const float> dout) const override {
    const Stopwatch watch;
    // The forward is repeated, because its float result would cost the gradient its precision.
    const DoubleGradients exact = attention_gradients_in_double(problem, attention_in_double(problem), dout);
    AttentionGradients gradients;
    convert(exact.dquery, gradients.dquery);
    convert(exact.dkey, gradients.dkey);
    convert(exact.dvalue, gradients.dvalue);
    gradients.diagnostics.stage_seconds[stage_name(Stage::backward)] = watch.seconds();
    return gradients;
  }
};

}  // namespace

DoubleResult attention_in_double(const AttentionProblem& problem) {
  TensorShape shape = problem.query.shape;
  DoubleResult result;
  shape.dim = problem.value_dim();
  result.out = Tensor<double>(shape, 0.0);
  shape.dim = 1;
  result.lse = Tensor<double>(shape);
  const int64_t rows = problem.query_count();
  parallel_for(problem.heads() * rows,
               [&](int64_t index, int) { forward_of_row(problem, index / rows, index % rows, result); });
  return result;
}

DoubleGradients attention_gradients_in_double(const AttentionProblem& problem, const DoubleResult& forward,
                                              TensorView<const float> dout) {
  DoubleGradients gradients{Tensor<double>(problem.query.shape, 0.0), Tensor<double>(problem.key.shape, 0.0),
                            Tensor<double>(problem.value.shape, 0.0)};
  for (int64_t head = 0; head < problem.heads(); ++head) {
    const GradientFormula formula(problem, forward, dout, head);
    parallel_for(problem.query_count(),
                 [&](int64_t i, int) { formula.fill_query_row(i, gradients.dquery.matrix(head).row(i)); });
    parallel_for(problem.key_count(), [&](int64_t j, int) {
      formula.fill_key_row(j, gradients.dkey.matrix(head).row(j), gradients.dvalue.matrix(head).row(j));
    });
  }
  return gradients;
}

const Backend& reference_backend() {
  static const ReferenceBackend backend;
  return backend;
}

}  // namespace hyperattn
