// A backend only plans: it says which query rows attend to which weighted keys. The engine runs any plan.
//
//   out_i = Σ_j w_ij exp(s·q_i·k_j) v_j / Σ_j w_ij exp(s·q_i·k_j),   lse_i = log of the denominator
//
// Words: a *position* is a place in a pass's order of query rows; a *rank* is a place in a key list's order
// of keys.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "algorithms/problem.h"
#include "core/memory.h"

namespace hyperattn {

/// A list of row numbers: either a permutation or selection held in memory, or the run first, first+1, …
struct RowOrder {
  std::shared_ptr<const std::vector<int32_t>> rows = nullptr;  ///< null: the run that starts at `first`
  int64_t first = 0;
  int64_t count = 0;

  [[nodiscard]] int64_t operator[](int64_t i) const {
    return rows ? (*rows)[static_cast<size_t>(i)] : first + i;
  }
  static RowOrder run(int64_t first, int64_t count) { return {nullptr, first, count}; }
  static RowOrder list(std::vector<int32_t> rows) {
    const auto count = static_cast<int64_t>(rows.size());
    return {std::make_shared<const std::vector<int32_t>>(std::move(rows)), 0, count};
  }
};

/// Keys that are not rows of the problem, such as centroids: their own key (count × d) and value (count ×
/// d_v) rows. Members are the rows of the problem that each one is a weighted mean of, for the backward pass.
struct SyntheticKeys {
  Tensor<float> key;                  ///< (1, 1, count, d)
  Tensor<float> value;                ///< (1, 1, count, d_v)
  RowOrder member_order;              ///< key rows of the problem, grouped by synthetic key
  std::vector<int64_t> member_begin;  ///< count + 1 offsets into member_order
  std::vector<float> member_share;    ///< of each member in its mean; empty: equal shares

  [[nodiscard]] float share(int64_t synthetic, int64_t member) const {
    if (!member_share.empty()) return member_share[static_cast<size_t>(member)];
    const auto i = static_cast<size_t>(synthetic);
    return 1.0F / static_cast<float>(member_begin[i + 1] - member_begin[i]);
  }
};

/// Keys that stand together as one Gaussian, with values linear in the key. A query row gets from n of them
/// the weight n·exp(s·q·μ + g) on the value v̄ + θ·s·q·C, where σ² = s²·qᵀΣq, and
///   g = σ²/2, θ = 1                       up to σ_c = √(2 ln n),
///   g = σ·σ_c − σ_c²/2, θ = σ_c/σ         beyond.
/// (The first line is the mean of exp over a Gaussian. Beyond σ_c this mean comes from keys so rare that n
/// draws hold none of them: the free energy of the random energy model goes on along its tangent.)
struct KeyMoments {
  std::vector<float> mean_key;          ///< μ, d
  std::vector<float> mean_value;        ///< v̄, d_v
  std::vector<float> covariance;        ///< Σ of K, d × d
  std::vector<float> cross_covariance;  ///< C of K with V, d × d_v
};

/// What runs of keys with one mean value each miss of the covariance C of keys with values. A query row adds
/// θ·s·q·C to the value of every entry of its pass's linear lists, with θ = min(1, 1/σ²) where
/// σ² = s²·Σ_c q_c²·variance_c: first order in the score, and faded out where scores within runs are not
/// small.
struct LinearValues {
  std::vector<float> variance;          ///< of K within runs, d
  std::vector<float> cross_covariance;  ///< C, d × d_v
};

/// Keys in a chosen order, each with a log-weight (natural logarithm; −∞ removes a key).
struct KeyList {
  RowOrder order = {};           ///< rank → key row; with `synthetic`: rank → synthetic row
  float uniform_log_weight = 0;  ///< used where `log_weight` is null
  std::shared_ptr<const std::vector<float>> log_weight = nullptr;  ///< one per rank
  std::shared_ptr<const SyntheticKeys> synthetic = nullptr;  ///< null: rows of the problem's own K and V
  Stage stage = Stage::exact;                                ///< where its time is booked
  bool linear_value = false;  ///< values move with the query by the pass's LinearValues
};

/// A group of query positions attends to ranks [begin, end) of a list, except the ranks named in
/// Pass::excluded[excluded_begin, excluded_end) (increasing).
struct Visit {
  int32_t list = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t excluded_begin = 0;
  int64_t excluded_end = 0;
};

/// Query positions [begin, end) of a pass share visits [first_visit, last_visit), those of linear lists last,
/// and the pass's moments.
struct QueryGroup {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_visit = 0;
  int64_t last_visit = 0;
  int64_t moment_keys = 0;  ///< how many keys the pass's moments stand for
};

/// One head, or one node of the causal recursion in it. Groups are disjoint and in increasing order of
/// positions.
struct Pass {
  int64_t head = 0;  ///< flat index batch · heads + head
  int64_t node = 0;  ///< number of the causal node, from the start of the sequence; 0 when not causal
  RowOrder queries;  ///< position → query row; distinct rows
  std::vector<KeyList> lists;
  std::vector<QueryGroup> groups;
  std::vector<Visit> visits;
  std::vector<int32_t> excluded;
  std::shared_ptr<const KeyMoments> moments = nullptr;          ///< null where no group has moment_keys
  std::shared_ptr<const LinearValues> linear_values = nullptr;  ///< null where no list is linear
  bool triangular = false;  ///< an entry (position, rank) counts only where rank ≤ position (a causal leaf)
};

/// Passes of one phase touch disjoint query rows and disjoint key rows of each head, so they run as one
/// parallel job. Phases run in order and merge exactly through one running (maximum, sum, accumulator) per
/// row, which makes the result independent of threads.
struct Phase {
  std::vector<Pass> passes;
  int level = 0;  ///< causal recursion: 0 for leaves, then 1, 2, … upwards (see nodes/causal.h)
};

struct Plan {
  std::vector<Phase> phases;
};

/// Score entries that the plan computes (exclusions and the upper triangle not counted). A row's moments
/// count as d entries, its linear values as half as many, whose FLOPs they cost where d_v = d.
[[nodiscard]] int64_t count_entries(const Plan& plan);

/// Whether any row has moments or linear values: they have no gradient.
[[nodiscard]] bool has_query_terms(const Plan& plan);

}  // namespace hyperattn
