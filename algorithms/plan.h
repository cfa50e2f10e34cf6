// A method only plans: it says which query rows attend to which weighted keys. An engine runs any plan.
//
//   out_i = Σ_j N_ij exp(s·q_i·k_j) v_j / Σ_j D_ij exp(s·q_i·k_j),   lse_i = log of the denominator
//
// with N_ij = D_ij = w_ij unless a list has signed weights. Words: a *position* is a place in a pass's order
// of query rows; a *rank* is a place in a key list's order of keys; a *segment* is a run of at most 16 ranks
// that single rows choose. How plans are written: plan_builder.h; what makes one valid: check_plan.h; how to
// go through one entry by entry: plan_walk.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "algorithms/problem.h"
#include "core/memory.h"

namespace hyperattn {

/// Numbers of rows, or ranks, in the memory of a device.
class RemoteNumbers {
 public:
  RemoteNumbers() = default;
  virtual ~RemoteNumbers() = default;
  RemoteNumbers(const RemoteNumbers&) = delete;
  RemoteNumbers& operator=(const RemoteNumbers&) = delete;

  [[nodiscard]] virtual int64_t count() const = 0;
  /// Their address there, which the host cannot read.
  [[nodiscard]] virtual const int32_t* on_device() const = 0;
  /// A copy, made when it is first asked for. Thread-safe.
  [[nodiscard]] virtual const std::vector<int32_t>& on_host() const = 0;
};

/// A list of row numbers, distinct where they lie on a device: a permutation or selection held in memory, of
/// the host or of a device, or the run first, first+1, …
struct RowOrder {
  std::shared_ptr<const std::vector<int32_t>> rows = nullptr;
  int64_t first = 0;
  int64_t count = 0;
  std::shared_ptr<const RemoteNumbers> remote = nullptr;

  [[nodiscard]] bool is_run() const { return !rows && !remote; }
  /// The list in the host's memory; null: a run.
  [[nodiscard]] const std::vector<int32_t>* listed() const {
    return remote ? &remote->on_host() : rows.get();
  }
  [[nodiscard]] int64_t operator[](int64_t i) const {
    if (rows) return (*rows)[static_cast<size_t>(i)];
    return remote ? remote->on_host()[static_cast<size_t>(i)] : first + i;
  }
  static RowOrder run(int64_t first, int64_t count) { return {nullptr, first, count, nullptr}; }
  static RowOrder list(std::vector<int32_t> rows) {
    const auto count = static_cast<int64_t>(rows.size());
    return {std::make_shared<const std::vector<int32_t>>(std::move(rows)), 0, count, nullptr};
  }
  static RowOrder on_device(std::shared_ptr<const RemoteNumbers> rows) {
    const int64_t count = rows->count();
    return {nullptr, 0, count, std::move(rows)};
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
/// small (a variance of zero: never).
struct LinearValues {
  std::vector<float> variance;          ///< of K within runs, d
  std::vector<float> cross_covariance;  ///< C, d × d_v
};

/// Weights that differ between numerator and denominator and may be negative, one of each a rank. Both are
/// times exp(log-weight), so that keys of very different size keep their digits.
struct SignedWeights {
  std::vector<float> numerator;    ///< N
  std::vector<float> denominator;  ///< D
};

/// A factor 1 + row_i · rank_j ≥ 1 of the weights of a list, from one number ≥ 0 a row and one a rank. Held
/// fixed in the gradient, as all weights are.
struct WeightFactor {
  std::shared_ptr<const std::vector<float>> row = nullptr;   ///< by position of the pass; null: no factor
  std::shared_ptr<const std::vector<float>> rank = nullptr;  ///< by rank of the list
};

/// Keys in a chosen order, each with a log-weight (natural logarithm; −∞ removes a key).
struct KeyList {
  RowOrder order = {};           ///< rank → key row; with `synthetic`: rank → synthetic row
  float uniform_log_weight = 0;  ///< used where `log_weight` is null
  std::shared_ptr<const std::vector<float>> log_weight = nullptr;  ///< one per rank
  std::shared_ptr<const SyntheticKeys> synthetic = nullptr;  ///< null: rows of the problem's own K and V
  Stage stage = Stage::exact;                                ///< where its time is booked
  bool linear_value = false;  ///< values move with the query by the pass's LinearValues
  std::shared_ptr<const SignedWeights> signed_weights = nullptr;  ///< null: N = D = exp(log-weight)
  WeightFactor factor = {};
  /// Segment t is the ranks [segments[t], segments[t + 1]), at most kSegmentKeys of them; null: no row
  /// visits.
  std::shared_ptr<const std::vector<int32_t>> segments = nullptr;

  // As the compiler makes them, but once (plan.cpp), not in every source that plans.
  KeyList();
  KeyList(const KeyList&);
  KeyList(KeyList&&) noexcept;
  KeyList& operator=(const KeyList&);
  KeyList& operator=(KeyList&&) noexcept;
  ~KeyList();

  [[nodiscard]] float log_weight_of(int64_t rank) const {
    return log_weight ? (*log_weight)[static_cast<size_t>(rank)] : uniform_log_weight;
  }
  [[nodiscard]] bool has_factor() const { return factor.row != nullptr; }
};

/// Most ranks in a segment: one AVX-512 vector of keys, and the bits of a skip mask.
constexpr int64_t kSegmentKeys = 16;

/// A group of query positions attends to ranks [begin, end) of a list, except the ranks named in
/// Pass::excluded[excluded_begin, excluded_end) (increasing).
struct Visit {
  int32_t list = 0;
  int64_t begin = 0;
  int64_t end = 0;
  int64_t excluded_begin = 0;
  int64_t excluded_end = 0;
};

/// A single position attends to a segment, except the ranks segment begin + b whose bit b is set in `skip`.
struct RowEntry {
  int32_t position = 0;
  uint16_t skip = 0;
};

/// The positions Pass::row_entries[first_entry, last_entry) (increasing) attend to one segment of a list.
struct RowVisit {
  int32_t list = 0;
  int32_t segment = 0;
  int64_t first_entry = 0;
  int64_t last_entry = 0;
};

/// Query positions [begin, end) of a pass share visits [first_visit, last_visit), those of linear lists last,
/// and the pass's moments; and each of them has row visits of its own among [first_row_visit,
/// last_row_visit). A row adds its visits, then its row visits, in this order.
struct QueryGroup {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_visit = 0;
  int64_t last_visit = 0;
  int64_t moment_keys = 0;  ///< how many keys the pass's moments stand for
  int64_t first_row_visit = 0;
  int64_t last_row_visit = 0;
  bool is_last = false;  ///< no later phase has its rows: an engine may finish them with it
};

/// In place of a pass's groups: blocks of sorted rows with one sample for all of them (paper, Algorithm 1 and
/// section 4), where only a device knows which sampled keys lie in which block. The pass has two lists: the
/// sorted keys, and the sampled ones in the order of their ranks among these, if there are any. Each of the
/// `aligned_blocks` (primitives/sort_lsh.h) of queries and sorted keys is a group that visits its keys, and
/// then those sampled ones that are not among them. `with_groups` (plan_builder.h) lists them.
struct SampledBlocks {
  int64_t block_size = 0;
  std::shared_ptr<const RemoteNumbers> sample_ranks;  ///< increasing, repeats allowed; null: no sample
  bool counts_twice = false;                          ///< a block visits all sampled keys
  bool are_last = false;                              ///< as of groups
};

/// One head, or one node of the causal recursion in it. Groups are disjoint and in increasing order of
/// positions.
struct Pass {
  int64_t head = 0;      ///< flat index batch · heads + head
  int64_t key_head = 0;  ///< flat index of the keys and values, batch · key heads + key head
  int64_t node = 0;      ///< number of the causal node, from the start of the sequence; 0 when not causal
  RowOrder queries;      ///< position → query row; distinct rows
  std::vector<KeyList> lists;
  std::vector<QueryGroup> groups;
  std::vector<Visit> visits;
  std::vector<int32_t> excluded;
  std::optional<SampledBlocks> blocks = std::nullopt;  ///< in place of groups, visits and exclusions
  std::vector<RowVisit> row_visits;  ///< in a group by list and segment, those of linear lists last
  std::vector<RowEntry> row_entries;
  std::shared_ptr<const KeyMoments> moments = nullptr;          ///< null where no group has moment_keys
  std::shared_ptr<const LinearValues> linear_values = nullptr;  ///< null where no list is linear
  /// A causal leaf: an entry (position, rank) counts only where rank ≤ position + diagonal, and, with a
  /// window, rank > position + diagonal − window.
  bool triangular = false;
  int64_t diagonal = 0;
  int64_t window = 0;

  // As for KeyList.
  Pass();
  Pass(const Pass&);
  Pass(Pass&&) noexcept;
  Pass& operator=(const Pass&);
  Pass& operator=(Pass&&) noexcept;
  ~Pass();

  /// The ranks [first, last) of a list of `count` keys that a position of a triangular pass may see.
  [[nodiscard]] int64_t first_visible(int64_t position) const {
    return window > 0 ? std::max<int64_t>(position + diagonal - window + 1, 0) : 0;
  }
  [[nodiscard]] int64_t last_visible(int64_t position) const { return position + diagonal + 1; }
};

/// Passes of one phase touch disjoint query rows of each head, and disjoint rows of each head's keys, so they
/// run as one parallel job. Phases run in order and merge exactly through one running state per row (maximum,
/// numerator, denominator), which makes the result independent of threads.
struct Phase {
  std::vector<Pass> passes;
  int level = 0;  ///< causal recursion: 0 for leaves, 1, 2, … for nodes, upwards (see nodes/causal.h)
};

struct Plan {
  std::vector<Phase> phases;
  /// The output's columns are held between the smallest and the largest value of the keys that the row may
  /// see (all keys of its head; under a causal mask those up to its position). No gradient where that moved
  /// it.
  bool clip_to_values = false;
};

/// Whether a clip to [low, high] moved a value by more than rounding (it is at a border as often as within,
/// where all values are equal): only then is its gradient 0.
[[nodiscard]] inline bool is_clipped(double value, double low, double high) {
  const double moved = std::max(low - value, value - high);
  return moved > 1e-5 * std::max(std::abs(low), std::abs(high));
}

/// A signed denominator at most this share of Σ |D| exp(score) is noise: the row gives 0, lse −∞ and no
/// gradient, and is counted (Diagnostics::guarded_rows).
constexpr double kGuardShare = 1e-6;

/// Whether groups are left to a device; only an engine that takes them is given such plans.
[[nodiscard]] bool has_sampled_blocks(const Plan& plan);

/// Score entries that the plan computes (exclusions, skips and what lies beyond a diagonal not counted; those
/// of sampled blocks, which only a device knows, are). A
/// row's moments count as d entries, its linear values as half as many, whose FLOPs they cost where d_v = d.
[[nodiscard]] int64_t count_entries(const Plan& plan);

/// Scores without a value product, counted by their share of a whole entry's 2·(d + d_v) FLOPs.
[[nodiscard]] int64_t entries_of_scores(const AttentionProblem& problem, int64_t scores);

/// Entries that listed groups leave out by name, over all their rows: with sampled keys, those that the row's
/// mask already holds.
[[nodiscard]] int64_t count_excluded(const Plan& plan);

/// Whether any row has moments or linear values: they have no gradient.
[[nodiscard]] bool has_query_terms(const Plan& plan);

/// Whether any list has signed weights.
[[nodiscard]] bool has_signed_weights(const Plan& plan);

/// Whether the plan is exact attention and nothing else: one phase with one pass a head, in which every row
/// sees every key, or every key that the problem's causal mask and window leave it.
[[nodiscard]] bool is_exact_plan(const AttentionProblem& problem, const Plan& plan);

}  // namespace hyperattn
