// The attention problem and what every backend answers it with.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace hyperattn {

/// softmax(scale · Q Kᵀ) V for every (batch, head); views only, nothing is owned.
/// Shapes: query (batch, heads, n_q, d), key (batch, heads, n_k, d), value (batch, heads, n_k, d_v).
struct AttentionProblem {
  TensorView<const float> query;
  TensorView<const float> key;
  TensorView<const float> value;
  float scale = 0;      ///< multiplies every score; `default_scale(d)` unless the caller chose another
  bool causal = false;  ///< row i sees keys 0 … i; requires n_q = n_k

  [[nodiscard]] int64_t heads() const { return query.shape.matrices(); }  ///< batch · heads
  [[nodiscard]] int64_t query_count() const { return query.shape.rows; }
  [[nodiscard]] int64_t key_count() const { return key.shape.rows; }
  [[nodiscard]] int64_t head_dim() const { return query.shape.dim; }
  [[nodiscard]] int64_t value_dim() const { return value.shape.dim; }
};

/// 1/√d.
[[nodiscard]] float default_scale(int64_t head_dim);

/// Throws Error(input) that states the shapes and the broken rule: equal batch, heads and head dimension, as
/// many values as keys, 1 ≤ d ≤ 256, at least one row each, finite scale, n_q = n_k when causal, row counts
/// below 2³¹.
void check_problem(const AttentionProblem& problem);

/// Throws Error(input) naming the tensor and the first position of a NaN or infinity. Parallel, O(size).
void check_finite(TensorView<const float> tensor, const std::string& name);

/// Where the time of a call went. The order is the order of printing.
enum class Stage : int { hash, sort, draw, gather, exact, block, sample, approx_d, merge, backward, count };
[[nodiscard]] const char* stage_name(Stage stage);

/// What a call reports besides its result.
struct Diagnostics {
  int64_t entries = 0;       ///< score entries computed by the plan (2·(d + d_v) FLOPs each, forward)
  int64_t collisions = 0;    ///< sampled entries dropped because the row's mask already holds them
  double clipped_share = 0;  ///< ApproxD: share of sampled unmasked entries capped by C_i (NaN elsewhere)
  double floored_share = 0;  ///< ApproxD: share of rows lifted to τ/κ (NaN elsewhere)
  std::map<std::string, double> stage_seconds;  ///< by stage name; adds up to the call's wall time
};

/// out (batch, heads, n_q, d_v) and the natural log-sum-exp of each row's weighted scores (batch, heads, n_q,
/// 1). A row without any key has out = 0 and lse = −∞.
struct AttentionResult {
  Tensor<float> out;
  Tensor<float> lse;
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
