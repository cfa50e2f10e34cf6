// Operator norms ‖A‖_op (the largest singular value): matrix-free by Lanczos, or directly for tall matrices.
#pragma once

#include <cstdint>
#include <vector>

#include "core/linear_operator.h"
#include "core/random.h"
#include "core/tensor.h"

namespace hyperattn {

enum class NormStatus {
  converged,      ///< the residual is below the tolerance (0 where the matrix was decomposed)
  not_converged,  ///< a lower bound that used up its applications
  not_finite,     ///< entries or products are infinite or NaN; so is the value
};
/// "converged", "not_converged", "not_finite".
[[nodiscard]] const char* norm_status_name(NormStatus status);

struct OperatorNorm {
  double value = 0;
  NormStatus status = NormStatus::converged;
  int64_t applications = 0;  ///< of AᵀA (one of A and one of Aᵀ each)
  /// ‖AᵀA x − λx‖/(2λ) for the Ritz pair (λ, x), ‖x‖ = 1: the relative distance, to first order, from the
  /// value to the nearest singular value. 0 where decomposed, NaN where not finite.
  double residual = 0;
};

struct OperatorNormOptions {
  double tolerance = 1e-3;         ///< relative, in the norm; compared with `residual`
  int64_t direct_size = 12;        ///< operators whose smaller side is at most this are decomposed instead
  int64_t max_applications = 150;  ///< of AᵀA
  /// Empty, or cols values. For a matrix without negative entries: a positive vector, which is never nearly
  /// orthogonal to the (then non-negative) leading singular vector.
  std::vector<double> start;
};

/// ‖A‖_op by Lanczos on AᵀA with full reorthogonalisation, from a start vector drawn from `stream` unless one
/// is given; hence deterministic. The value never exceeds ‖A‖_op by more than rounding. An operator that maps
/// the start vector to zero has norm 0. Costs `applications` products with A and as many with Aᵀ, and memory
/// of cols × applications doubles.
///
/// Written here rather than taken from Spectra 1.0.1, which tests for convergence only when its basis is full
/// (a flat softmax needs 2 applications, not 12), discards the vectors of a restart, and returned 1.3e11 for
/// a matrix of rank one and norm 34.
[[nodiscard]] OperatorNorm operator_norm(const LinearOperator& a, const RandomStream& stream,
                                         const OperatorNormOptions& options = {});

/// ‖A‖_op of a stored matrix from the eigenvalues of the smaller Gram matrix in double, with the largest
/// entry scaled to 1 first: the *largest* singular value comes out accurate to rounding (small ones would
/// not). O(rows · cols · min(rows, cols)).
[[nodiscard]] OperatorNorm direct_norm(MatrixView<const double> matrix);

/// ‖A‖_F, without overflow or underflow of the squares.
[[nodiscard]] double frobenius_norm(MatrixView<const double> matrix);

}  // namespace hyperattn
