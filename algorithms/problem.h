// The attention problem and what every backend answers it with.
#pragma once

#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace hyperattn {

/// softmax(scale · Q Kᵀ) V for every (batch, head); views only, nothing is owned.
/// Shapes: query (batch, heads, n_q, d), key (batch, key heads, n_k, d), value (batch, key heads, n_k, d_v).
/// Grouped queries: heads is a multiple of key heads, and head h attends to key head h / (heads / key heads).
struct AttentionProblem {
  TensorView<const float> query;
  TensorView<const float> key;
  TensorView<const float> value;
  float scale = 0;  ///< multiplies every score; `default_scale(d)` unless the caller chose another
  /// Row i stands at key position i + n_k − n_q and sees the keys up to there: the last row sees all keys. A
  /// row before key 0 (n_q > n_k) sees none.
  bool causal = false;
  int64_t window = 0;  ///< causal only: the most keys that a row sees, its own position the last; 0: no limit

  [[nodiscard]] int64_t heads() const { return query.shape.matrices(); }    ///< batch · heads
  [[nodiscard]] int64_t key_heads() const { return key.shape.matrices(); }  ///< batch · key heads
  /// Flat key head of a flat head.
  [[nodiscard]] int64_t key_head(int64_t head) const { return head / (heads() / key_heads()); }
  /// The keys and values that a flat head attends to.
  [[nodiscard]] MatrixView<const float> keys_of(int64_t head) const { return key.matrix(key_head(head)); }
  [[nodiscard]] MatrixView<const float> values_of(int64_t head) const { return value.matrix(key_head(head)); }
  /// Key position of query row 0 under a causal mask; may be negative.
  [[nodiscard]] int64_t causal_offset() const { return key_count() - query_count(); }
  [[nodiscard]] int64_t query_count() const { return query.shape.rows; }
  [[nodiscard]] int64_t key_count() const { return key.shape.rows; }
  [[nodiscard]] int64_t head_dim() const { return query.shape.dim; }
  [[nodiscard]] int64_t value_dim() const { return value.shape.dim; }
};

/// 1/√d.
[[nodiscard]] float default_scale(int64_t head_dim);

/// Throws Error(input) that states the shapes and the broken rule: equal batch and head dimension, heads a
/// multiple of the key heads, as many values as keys, 1 ≤ d ≤ 256, at least one row each, finite scale, a
/// window only under a causal mask, row counts below 2³¹.
void check_problem(const AttentionProblem& problem);

/// Throws Error(input) naming the tensor and the first position of a NaN or infinity. Parallel, O(size).
void check_finite(TensorView<const float> tensor, const std::string& name);

/// Where the time of a call went. The order is the order of printing. `transfer` is copying between the host
/// and a card: no part of a call's time, since who computes on a card has the tensors there.
enum class Stage : int {
  hash,
  sort,
  draw,
  gather,
  exact,
  block,
  sample,
  approx_d,
  merge,
  backward,
  transfer,
  count
};
[[nodiscard]] const char* stage_name(Stage stage);

/// What a call reports besides its result.
struct Diagnostics {
  int64_t entries = 0;         ///< score entries computed by the plan (2·(d + d_v) FLOPs each, forward)
  int64_t collisions = 0;      ///< sampled entries dropped because the row's mask already holds them
  int64_t guarded_rows = 0;    ///< rows whose signed denominator vanished: out = 0, lse = −∞, no gradient
  double clipped_share = NAN;  ///< ApproxD: share of sampled unmasked entries capped by C_i
  double floored_share = NAN;  ///< ApproxD: share of rows lifted to τ/κ
  double drawn_keys = NAN;     ///< residual clt_sample: keys drawn for a row of a node, mean
  double ceiling_share = NAN;  ///< residual clt_sample: share of rows that wanted more than sample_size keys
  /// By stage name; adds up to the call's wall time.
  std::map<std::string, double> stage_seconds;

  [[nodiscard]] double transfer_seconds() const;
  /// To what running a plan has told, what making it had to tell.
  void add_planning(const Diagnostics& notes);
};

/// The denominators of rows, in the form in which weights can be computed again without loss: a row's weight
/// of score x (base 2, log₂e·s with the log-weight) is 2^(x − maximum)/sum. The logarithm alone would not do:
/// at scores of 10⁶ it rounds away what the weights differ by.
struct RowSums {
  Tensor<float> maximum;  ///< (batch, heads, n_q, 1): a reference near the largest score, base 2
  Tensor<double> sum;     ///< (batch, heads, n_q, 1): Σ weights relative to it; 0 for a row without keys

  /// log of row's denominator over `other`'s, natural; −∞ where this row has none.
  [[nodiscard]] double log_ratio(int64_t row, const RowSums& other) const;
};

/// out (batch, heads, n_q, d_v) and the natural log-sum-exp of each row's weighted scores (batch, heads, n_q,
/// 1). A row without any key has out = 0 and lse = −∞.
struct AttentionResult {
  Tensor<float> out;
  Tensor<float> lse;
  RowSums sums;             ///< of the engine that made the result; its own backward pass reads them
  Tensor<uint8_t> clipped;  ///< out's shape; 1 where the plan's clip moved the value; empty: no clip
  Diagnostics diagnostics;
};

/// Gradients of ⟨out, dout⟩ for the three inputs, in their shapes.
struct AttentionGradients {
  Tensor<float> dquery;
  Tensor<float> dkey;
  Tensor<float> dvalue;
  Diagnostics diagnostics;
};

/// Throws Error(input) if the output or a gradient holds a NaN or infinity, as inputs do that overflow single
/// precision on the way, or if a log-sum-exp is NaN or +∞. O(size).
void check_result(const AttentionResult& result);
void check_gradients(const AttentionGradients& gradients);

}  // namespace hyperattn
