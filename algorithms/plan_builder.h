// Writing plans in words: lists of keys, then groups of query positions and what each attends to. Offsets
// into the pass's tables are kept here and nowhere else.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "algorithms/nodes/causal.h"
#include "algorithms/plan.h"

namespace hyperattn {

/// Row visits of a group, which number their entries from 0.
struct RowVisits {
  std::vector<RowVisit> visits;
  std::vector<RowEntry> entries;
};

/// Builds one pass. Groups are opened and closed in increasing order of positions; a group that attends to
/// nothing is left out.
class PassBuilder {
 public:
  /// A pass of one head over the given rows; `node` is what Pass::node says.
  PassBuilder(const AttentionProblem& problem, int64_t head, int64_t node, RowOrder queries);
  /// Goes on with a pass.
  explicit PassBuilder(Pass pass) : pass_(std::move(pass)) {}

  /// Adds a list and returns its number. `add_keys`: rows of K with weight 1.
  int32_t add_keys(RowOrder rows, Stage stage);
  int32_t add_list(KeyList list);

  /// Rank ≤ position + diagonal counts, and with a window > 0 only the `window` last of these.
  PassBuilder& triangular(int64_t diagonal = 0, int64_t window = 0);
  PassBuilder& with_moments(std::shared_ptr<const KeyMoments> moments);
  PassBuilder& with_linear_values(std::shared_ptr<const LinearValues> values);

  /// Opens the group of positions [begin, end).
  PassBuilder& group(int64_t begin, int64_t end);
  /// The open group attends to ranks [begin, end) of a list; or to all of them.
  PassBuilder& visit(int32_t list, int64_t begin, int64_t end);
  PassBuilder& visit_all(int32_t list);
  /// The same without the given ranks (increasing, within what is visited).
  PassBuilder& visit_except(int32_t list, int64_t begin, int64_t end, const std::vector<int32_t>& excluded);
  PassBuilder& visit_all_except(int32_t list, const std::vector<int32_t>& excluded);
  /// Single positions of the open group (increasing) attend to a segment of a list.
  PassBuilder& visit_segment(int32_t list, int32_t segment, const std::vector<RowEntry>& entries);
  /// All row visits of the open group.
  PassBuilder& visit_rows(const RowVisits& visits);
  /// Room for so many entries more.
  PassBuilder& reserve_row_entries(int64_t count);
  /// Room for so many groups more, with so many visits each.
  PassBuilder& reserve_groups(size_t count, size_t visits_each);
  /// The open group attends to the pass's moments, which stand for `keys` keys.
  PassBuilder& visit_moments(int64_t keys);

  /// The two lists that the pass has are visited by blocks that a device finds; there are no groups.
  PassBuilder& sampled_blocks(SampledBlocks blocks);

  /// All positions, one group, one list, all ranks.
  PassBuilder& everything_sees_all(int32_t list);

  [[nodiscard]] Pass take();

 private:
  void close_group();

  Pass pass_;
  bool open_ = false;
};

/// No later phase has any row of the pass.
void mark_last(Pass& pass);

/// Collects passes into phases. Passes without groups and phases without passes are left out.
class PlanBuilder {
 public:
  /// The passes that follow are a phase of their own.
  PlanBuilder& phase(int level = 0);
  /// The phases that are made; what follows begins with `phase`.
  [[nodiscard]] const Plan& so_far();
  PlanBuilder& add(Pass pass);
  /// Room for so many passes more in the phase.
  PlanBuilder& reserve_passes(size_t count);
  PlanBuilder& clip_to_values(bool clip = true);
  [[nodiscard]] Plan take();

 private:
  void drop_empty_phase();

  Plan plan_;
};

/// All entries of a node with weight 1.
[[nodiscard]] Pass exact_node_pass(const AttentionProblem& problem, int64_t head, const AttentionNode& node);

/// Causal leaves of one head: the rows of each one's positions, against the keys of the leaf up to their own.
[[nodiscard]] Pass leaves_pass(const AttentionProblem& problem, int64_t head,
                               const std::vector<CausalLeaf>& leaves);

/// The same plan with the groups of its sampled blocks listed, which copies their ranks from the device.
/// O(size of the plan), parallel over passes.
[[nodiscard]] Plan with_groups(const Plan& plan);

/// Exact attention: every row sees every key that the problem's causal mask and window leave it.
[[nodiscard]] Plan exact_plan(const AttentionProblem& problem);

}  // namespace hyperattn
