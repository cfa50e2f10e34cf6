// The error of a causal approximation, level by level. With the sums Ñ_l = Σ w exp(s) v and D̃_l = Σ w exp(s)
// over a level's cross nodes and N_l, D_l their exact values,
//
//     (P̃V − PV)_i = Σ_l [(Ñ_l − N_l) − (D̃_l − D_l)·(PV)_i] / D̃_i :
//
// each level adds its own part to the whole error, and the parts add up to it exactly.
#pragma once

#include <functional>
#include <vector>

#include "experiments/measures/context.h"

namespace hyperattn {

/// One level of one head; rows outside the level's nodes are zero.
struct LevelError {
  int level = 0;
  DenseMatrix<double> numerator;    ///< (n, d_v): (Ñ_l − N_l)/D̃
  std::vector<double> denominator;  ///< (n): (D̃_l − D_l)/D̃; not the backend's where it divides otherwise
};

/// Calls body(head, error) for every level and head of a causal problem whose backend recurs; never for
/// another one. Two passes over the nodes of each level, with values: all levels together cost about one
/// exact forward.
void for_each_level_error(MeasureContext& context,
                          const std::function<void(int64_t head, const LevelError& error)>& body);

/// Whether D̃ is the row sum of the plan that gave the output (not so for the theory estimator).
[[nodiscard]] bool divides_by_own_sums(const MeasureContext& context);

}  // namespace hyperattn
