// Nyström weights (WildCat, arXiv 2602.10056): a few pivot keys S stand for many. With x_j = k_j·√|s|/τ, the
// keys minus their mean, and h(x, y) = exp(x·y),
//   W = h(S, S)⁻¹ h(S, all),   Σ_l exp(s·q·k_l) (v_l, 1) ≈ Σ_{j∈S} exp(s·q·k_j) (W (V, 1))_j,
// so that pivot j has the numerator (WV)_j and the denominator (W1)_j; both may be negative. Centring changes
// the weights alone: exp(s·q·mean) is a factor of both sides.
//
// In numbers: h(x, y) = e_x g(x, y) e_y with g = exp(−|x − y|²/2) and e_x = exp(|x|²/2), so that
//   W = E_S⁻¹ (F_S F_Sᵀ)⁻¹ F_S F_allᵀ E,   F the pivoted Cholesky factor of g,
// in double precision, without an inverse. A key whose residual (1 where no pivot is near, 0 where g is
// exact) is below kLeastResidual is no pivot: of equal keys one stays, and a low rank ends the search. Row j
// is kept relative to exp(log-weight_j), so that no size of the scores leaves the range of numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algorithms/nodes/causal.h"
#include "algorithms/plan.h"
#include "core/parameters.h"
#include "core/random.h"
#include "core/tensor.h"

namespace hyperattn {

enum class PivotRule {
  rpcholesky,  ///< each next pivot with probability ∝ residual_j·exp(|x_j|²)
  uniform,     ///< drawn without replacement
  per_bin,     ///< rpcholesky in each bin by itself, then one system of weights for all bins
};

enum class TemperatureRule {
  paper,     ///< τ² = (R_K/R_Q)·b₀/(2·W₀(b₀/(2ρ₀))), b₀ = ln n/(s·R_K·R_Q) + 2 (Eq. 4)
  released,  ///< τ² = 3.94582·R_K/R_Q, as in the authors' code
  given,
};

struct NystromOptions {
  PivotRule pivots = PivotRule::rpcholesky;
  TemperatureRule rule = TemperatureRule::paper;
  double tau = 1;    ///< where it is given
  int64_t bins = 1;  ///< equal parts of the keys; unless `per_bin`, each with weights of its own
};

/// `pivots`, `temperature`, `tau` and `bins`, and what they say.
[[nodiscard]] std::vector<ParameterSpec> nystrom_parameters();
[[nodiscard]] NystromOptions nystrom_options(const Parameters& parameters);
/// Empty, or what is wrong with the bins beside so many pivots, named `pivots_name`.
[[nodiscard]] std::string check_bins(const Parameters& parameters, const std::string& pivots_name,
                                     int64_t pivots);

/// Lambert's function W₀: the w ≥ 0 with w·exp(w) = x, for x ≥ 0. To rounding.
[[nodiscard]] double lambert_w(double x);

/// τ² for n keys whose largest norm is R_K (centred) and queries whose largest is R_Q. Infinite where
/// s·R_K·R_Q is 0: then all scores are equal, and so are all x.
[[nodiscard]] double squared_temperature(const NystromOptions& options, int64_t keys, double scale,
                                         double key_radius, double query_radius);

/// Largest norm of rows; 0 of none. O(rows · d).
[[nodiscard]] double largest_row_norm(MatrixView<const float> rows);

/// The keys and values of a head or causal node, by rank, and what their weights depend on besides.
struct NystromKeys {
  MatrixView<const float> keys;
  MatrixView<const float> values;
  RowOrder order;  ///< rank → row
  double scale = 0;
  double query_radius = 0;  ///< R_Q
};

/// Those of a head or node, in the given order. R_Q is of the node's own queries or, `from_earlier`, of those
/// of its key rows, which stand before its own; where there are none, of the keys.
[[nodiscard]] NystromKeys nystrom_keys(const AttentionProblem& problem, const HeadNode& place, RowOrder order,
                                       bool from_earlier);

/// Pivots of a bin, and what they weigh.
struct NystromBin {
  int64_t begin = 0;  ///< ranks [begin, end) are the bin's
  int64_t end = 0;
  std::vector<int32_t> ranks;      ///< of the pivots, increasing
  std::vector<float> log_weights;  ///< one of each pivot
  std::vector<int64_t> borders;    ///< of pieces of the bin's ranks: begin, …, end
  /// One of each piece between borders, pivots × (d_v + 1): Σ W_jl (v_l, 1) over its ranks l, over
  /// exp(log-weight_j).
  std::vector<DenseMatrix<double>> pieces;

  /// The sum of all pieces.
  [[nodiscard]] DenseMatrix<double> total() const;
};

/// At most `pivots` pivots, shared evenly by the bins (bins ≤ pivots ≤ keys), and their sums over the pieces
/// of keys between `borders` (increasing ranks from 0 to the number of keys) cut at the bins. O(n·r²/bins +
/// n·r·(d + d_v)/bins) time, n·(d + r/bins) doubles. Deterministic for any number of threads.
[[nodiscard]] std::vector<NystromBin> nystrom_bins(const NystromKeys& keys, const NystromOptions& options,
                                                   int64_t pivots, const std::vector<int64_t>& borders,
                                                   const RandomStream& stream);

/// Pivots as a list: their keys, values (WV)_j, N = 1 and D = (W1)_j. No members: it has no gradient.
class PivotList {
 public:
  PivotList(const NystromKeys& keys, int64_t most);
  /// Appends pivots of a bin with the sums given for them.
  void add(const NystromBin& bin, const DenseMatrix<double>& sums);
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(rows_.size()); }
  [[nodiscard]] KeyList take();

 private:
  NystromKeys keys_;
  std::vector<int32_t> rows_;
  std::vector<float> log_weights_;
  std::vector<float> values_;
  std::vector<float> denominators_;
};

}  // namespace hyperattn
