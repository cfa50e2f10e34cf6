// The beam that a query row walks through a tree of keys: which segments it opens, and which it leaves aside.
#pragma once

#include <cstdint>
#include <vector>

#include "algorithms/primitives/key_tree.h"

namespace hyperattn {

struct BeamRequest {
  MatrixView<const float> queries;  ///< the node's query rows
  float scale = 1;
  const KeyTree* tree = nullptr;
  const std::vector<SegmentMeans>* means = nullptr;  ///< by level
  std::vector<int64_t> beams;                        ///< by level: segments that a row opens
  bool spread = true;      ///< the gate contains the spread of scores within a segment, else the mean alone
  int64_t key_budget = 0;  ///< 0: the last beam counts segments; else keys, for segments of unequal size
};

/// The segments that rows open, by level: those of row i at level t are
/// opened[t][i·width[t] …], increasing, ended by −1 where there are fewer than width[t].
struct BeamChoice {
  std::vector<int64_t> width;
  std::vector<std::vector<int32_t>> opened;
  /// By level and row: s²·Σ_c q_c²·δ_c, the mean variance of the row's scores within segments; empty where
  /// the means have no variance.
  std::vector<std::vector<float>> variance;

  [[nodiscard]] const int32_t* row(size_t level, int64_t i) const {
    return opened[level].data() + i * width[level];
  }
};

/// All segments of the first level are active; of each level's active ones a row opens those of largest gate
///   s·q·k̄ + h(√v),  h(σ) = τ(σ − τ/2),  τ = min(σ, √(2 ln N)),  v = s²·Σ_c q_c²·δ_c · r
/// (equal ones: the smaller number), whose children are active on the next level. A row's choice depends on
/// nothing but the row and the tree. Costs the first level's segments and the children of opened ones, half
/// an entry each.
[[nodiscard]] BeamChoice choose_segments(const BeamRequest& request);

/// What it begins with: room for a choice, in which rows open all segments of the levels above
/// `first_level_of_choice`, whose number their beams reach.
[[nodiscard]] BeamChoice room_for_choice(const BeamRequest& request);
[[nodiscard]] size_t first_level_of_choice(const BeamRequest& request);
/// s²·δ of the levels that have it, as the rows of one matrix.
[[nodiscard]] DenseMatrix<float> scaled_variances(const BeamRequest& request);
/// √(2 ln N), where h of the level's gates begins to be linear.
[[nodiscard]] float gate_limit(const TreeLevel& level);

}  // namespace hyperattn
