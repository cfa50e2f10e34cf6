// Sampled keys (columns of the score matrix) that stand for all keys: drawn once, shared by all query rows of
// a head or of a causal node, each with a log-weight that makes the weighted sum unbiased.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"

namespace hyperattn {

enum class Sampling {
  uniform,      ///< without replacement, weight n_k/m: all keys when m = n_k
  uniform_iid,  ///< with replacement, weight n_k/m (the paper, and the authors' first repository)
  value_norm,   ///< i.i.d. with p_j = ½/n_k + ½‖v_j‖²/‖V‖_F², weight 1/(m·p_j)
  prefix,       ///< the first m keys with weight 1 (the authors' second repository): biased
};

/// Sampled key rows, counted from the first key of the head or node.
struct ColumnSample {
  std::vector<int32_t> rows;
  std::vector<float> log_weights;  ///< one for each row; empty: all are `uniform_log_weight`
  float uniform_log_weight = 0;
};

/// ‖v_j‖² of every row, in double. Parallel; independent of threads and instruction sets.
[[nodiscard]] std::vector<double> squared_row_norms(MatrixView<const float> rows);

/// Draws `count` of `key_count` keys, 0 ≤ count; `squared_norms` (key_count) is read for value_norm only.
/// `uniform` and `prefix` require count ≤ key_count. O(count log count), and O(key_count) for value_norm.
[[nodiscard]] ColumnSample draw_columns(Sampling sampling, int64_t count, int64_t key_count,
                                        const double* squared_norms, const RandomStream& stream);

/// i.i.d. draws with p_j = uniform_share/n + (1 − uniform_share)·norm_j/Σ norm and weights 1/(m·p_j). Norms
/// that are all zero give uniform draws. With share 0 this is S of Algorithm 3 (paper, section 4), whose rows
/// carry √weight on each side: SᵀS = Σ_r w_r e_r e_rᵀ.
[[nodiscard]] ColumnSample draw_by_norm(int64_t count, int64_t key_count, const double* squared_norms,
                                        double uniform_share, const RandomStream& stream);

/// Prescribed rows with the weights that `sampling` gives them.
[[nodiscard]] ColumnSample weigh_columns(Sampling sampling, std::vector<int32_t> rows, int64_t key_count,
                                         const double* squared_norms);

}  // namespace hyperattn
