// What measures work from: one trial's problem and result, and quantities that several measures or several
// backends need, computed when first asked for and kept.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "algorithms/backend.h"
#include "algorithms/problem.h"
#include "core/operator_norm.h"
#include "core/tensor.h"

namespace hyperattn {

/// Row and column sums of the softmax matrix P of one head, natural logarithms.
struct SoftmaxSums {
  std::vector<double> log_column_sum;         ///< (n_k): log Σ_i P_ij
  std::vector<double> log_column_square_sum;  ///< (n_k): log Σ_i P_ij²
  std::vector<double> log_row_square_sum;     ///< (n_q): log Σ_j P_ij²
};

/// The first row that sees a key: under a causal mask the rows before key 0 see none.
[[nodiscard]] int64_t first_seeing_row(const AttentionProblem& problem);

/// Figures of the exact attention of one input: they depend on Q, K, V, scale and mask of causality only, so
/// that all backends and parameters that are compared on this input share one object. Every getter computes
/// on first use. Not thread-safe (each getter is parallel inside).
class ExactQuantities {
 public:
  /// Computed on `engine`; it and the tensors behind `problem` must outlive this. `seed` and `trial` key the
  /// start vectors of Lanczos.
  ExactQuantities(const AttentionProblem& problem, const Engine& engine, uint64_t seed, uint32_t trial);
  ~ExactQuantities();
  ExactQuantities(const ExactQuantities&) = delete;
  ExactQuantities& operator=(const ExactQuantities&) = delete;

  [[nodiscard]] const AttentionProblem& problem() const { return problem_; }
  [[nodiscard]] const Engine& engine() const { return engine_; }
  [[nodiscard]] uint64_t seed() const { return seed_; }
  [[nodiscard]] uint32_t trial() const { return trial_; }

  /// A plan run on the engine.
  [[nodiscard]] AttentionResult run(const Plan& plan, bool values) const;
  /// out = PV and lse of the exact plan. One exact forward pass.
  [[nodiscard]] const AttentionResult& attention();

  /// log of the exact denominator of each row of one head over the result's: log D̃⁻¹D, (n_q); 0 for a row
  /// that sees no key.
  [[nodiscard]] std::vector<double> log_ratios(const RowSums& sums, int64_t head);
  /// Log-sum-exps of one head, (n_q).
  [[nodiscard]] const float* lse(int64_t head);
  /// Denominators of one head.
  [[nodiscard]] const std::shared_ptr<const RowSums>& head_sums(int64_t head);
  /// PV of one head in double, (n_q, d_v).
  [[nodiscard]] DenseMatrix<double> output(int64_t head);

  /// Three passes over the scores, without values.
  [[nodiscard]] const SoftmaxSums& sums(int64_t head);
  /// ‖P‖_op by Lanczos: a lower bound to a relative 1e-3. Applies PᵀP, which is two passes, some 2 to 15
  /// times at n = 16384.
  [[nodiscard]] const OperatorNorm& softmax_norm(int64_t head);
  /// The norm, in the same way, of a matrix without negative entries whose zero columns are P's.
  [[nodiscard]] OperatorNorm nonnegative_norm(const LinearOperator& a, int64_t head);
  /// √(largest column sum) ≥ ‖P‖_op, since P's rows sum to 1.
  [[nodiscard]] double softmax_norm_upper(int64_t head);
  /// ‖P‖_F.
  [[nodiscard]] double softmax_frobenius(int64_t head);
  [[nodiscard]] double value_norm(int64_t head);        ///< ‖V‖_op
  [[nodiscard]] double value_frobenius(int64_t head);   ///< ‖V‖_F
  [[nodiscard]] double output_norm(int64_t head);       ///< ‖PV‖_op
  [[nodiscard]] double output_frobenius(int64_t head);  ///< ‖PV‖_F

  /// (n_k²/n_q)·max_j ‖P e_j‖² of a node's own softmax matrix. Two passes over the node's scores.
  [[nodiscard]] double node_alpha(const HeadNode& place);
  /// ‖P‖_F²/‖P‖_op² of a node's own softmax matrix; the status of its norm in `norm`. As many passes over the
  /// node's scores as `softmax_norm` takes over the problem's.
  [[nodiscard]] double node_stable_rank(const HeadNode& place, OperatorNorm* norm);

 private:
  struct Head;
  struct Node;
  Head& cache(int64_t head);
  Node& cache(const HeadNode& place);
  [[nodiscard]] OperatorNorm norm_from(const LinearOperator& a, const std::vector<double>& log_column_sum,
                                       int64_t head) const;
  [[nodiscard]] DenseMatrix<double> value(int64_t head) const;

  AttentionProblem problem_;
  const Engine& engine_;
  uint64_t seed_;
  uint32_t trial_;
  std::unique_ptr<AttentionResult> attention_;
  std::vector<Head> heads_;
  std::map<std::array<int64_t, 4>, std::unique_ptr<Node>> nodes_;
};

/// Denominators over the backend's mask M^H, and log-sum-exps over its complement, of all heads: (batch,
/// heads, n_q, 1), natural logarithm, −∞ for a row without such entries.
struct MaskSums {
  RowSums masked;  ///< with all that a causal problem computes exactly
  /// By level of the causal recursion (0: not causal); a level without unmasked entries is missing.
  std::map<int, Tensor<float>> unmasked;
};

/// One backend's answer to one input. Build one for each case and hand it to all of its measures.
struct MeasureContext {
  /// All four must outlive this; `exact.problem()` is the problem that `forward` answers.
  MeasureContext(const Backend& backend_used, const Call& call_made, const ForwardState& answer,
                 ExactQuantities& exact_quantities);
  ~MeasureContext();

  const Backend& backend;
  const Call& call;
  const ForwardState& forward;
  ExactQuantities& exact;

  [[nodiscard]] const AttentionProblem& problem() const { return exact.problem(); }
  /// Null for a backend without a mask. One pass over the scores, without values.
  [[nodiscard]] const MaskSums* mask_sums();
  /// What the backend approximates, head by head, deepest level first: the whole problem or, when causal, the
  /// cross nodes. Empty for a backend without a mask.
  [[nodiscard]] std::vector<HeadNode> approximated_nodes() const;

  /// Takes note of a norm that a head's figures rest on.
  void add_norm(int64_t head, const OperatorNorm& norm);
  /// The worst status and the largest residual of a head's norms so far.
  [[nodiscard]] const OperatorNorm& worst_norm(int64_t head) const {
    return worst_norms_[static_cast<size_t>(head)];
  }

 private:
  std::vector<OperatorNorm> worst_norms_;
  bool mask_asked_ = false;
  std::unique_ptr<MaskSums> mask_sums_;
};

}  // namespace hyperattn
