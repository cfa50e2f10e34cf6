// Random attention problems that own their tensors, and the comparisons that the tests of this folder share.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/problem.h"
#include "core/random.h"

namespace hyperattn::testing {

inline Tensor<float> gaussian(const TensorShape& shape, uint64_t seed, Purpose purpose, double factor = 1) {
  Tensor<float> tensor(shape);
  const RandomStream stream(seed, purpose);
  for (int64_t i = 0; i < shape.size(); ++i)
    tensor.data()[i] = static_cast<float>(factor * stream.normal(static_cast<uint64_t>(i)));
  return tensor;
}

struct ProblemSize {
  int64_t queries = 1;
  int64_t keys = 1;
  int64_t head_dim = 4;
  int64_t value_dim = 4;
  int64_t batch = 1;
  int64_t heads = 1;
  bool causal = false;
  int64_t key_heads = 0;  ///< 0: as many as heads
  int64_t window = 0;

  [[nodiscard]] int64_t heads_of_keys() const { return key_heads > 0 ? key_heads : heads; }
};

inline std::string to_string(const ProblemSize& s) {
  return "n_q " + std::to_string(s.queries) + ", n_k " + std::to_string(s.keys) + ", d " +
         std::to_string(s.head_dim) + ", d_v " + std::to_string(s.value_dim) + ", batch " +
         std::to_string(s.batch) + ", heads " + std::to_string(s.heads) + (s.causal ? ", causal" : "") +
         (s.key_heads > 0 ? ", key heads " + std::to_string(s.key_heads) : "") +
         (s.window > 0 ? ", window " + std::to_string(s.window) : "");
}

/// Gaussian q, k, v and dout; `spread` multiplies the queries, so that larger values concentrate the softmax.
struct RandomProblem {
  Tensor<float> query, key, value, dout;
  AttentionProblem problem;

  explicit RandomProblem(const ProblemSize& s, uint64_t seed = 1, double spread = 1)
      : query(gaussian({s.batch, s.heads, s.queries, s.head_dim}, seed, Purpose::query, spread)),
        key(gaussian({s.batch, s.heads_of_keys(), s.keys, s.head_dim}, seed, Purpose::key)),
        value(gaussian({s.batch, s.heads_of_keys(), s.keys, s.value_dim}, seed, Purpose::value)),
        dout(gaussian({s.batch, s.heads, s.queries, s.value_dim}, seed, Purpose::output_gradient)),
        problem{query.view(), key.view(), value.view(), default_scale(s.head_dim), s.causal, s.window} {}
};

/// Gives p the queries, keys and values of `other`, of the same size, from row `first` on.
inline void take_later_rows(RandomProblem& p, const RandomProblem& other, int64_t first) {
  const auto take = [first](const Tensor<float>& from, Tensor<float>& to) {
    for (int64_t head = 0; head < to.shape().matrices(); ++head)
      std::copy(from.matrix(head).row(first), from.matrix(head).row(0) + to.shape().rows * to.shape().dim,
                to.matrix(head).row(first));
  };
  take(other.query, p.query);
  take(other.key, p.key);
  take(other.value, p.value);
}

/// How many of the first rows differ in any bit, over all heads.
inline int64_t differing_rows(const Tensor<float>& a, const Tensor<float>& b, int64_t rows) {
  int64_t differing = 0;
  for (int64_t head = 0; head < a.shape().matrices(); ++head)
    for (int64_t row = 0; row < rows; ++row)
      if (!std::equal(a.matrix(head).row(row), a.matrix(head).row(row) + a.shape().dim,
                      b.matrix(head).row(row)))
        ++differing;
  return differing;
}

/// Largest absolute difference; entries that are equal (also both −∞) differ by 0, NaN makes it NaN.
template <class A, class B>
double largest_difference(const Tensor<A>& a, const Tensor<B>& b) {
  double largest = a.shape() == b.shape() ? 0 : INFINITY;
  for (int64_t i = 0; i < a.shape().size() && a.shape() == b.shape(); ++i) {
    const auto x = static_cast<double>(a.data()[i]);
    const auto y = static_cast<double>(b.data()[i]);
    if (x == y) continue;
    const double difference = std::abs(x - y);
    largest = std::isnan(difference) ? difference : std::max(largest, difference);
  }
  return largest;
}

template <class A>
double largest_entry(const Tensor<A>& a) {
  double largest = 0;
  for (int64_t i = 0; i < a.shape().size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a.data()[i])));
  return largest;
}

}  // namespace hyperattn::testing
