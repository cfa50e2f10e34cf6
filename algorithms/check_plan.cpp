#include "algorithms/check_plan.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <stdexcept>

#include "algorithms/plan_builder.h"
#include "algorithms/plan_walk.h"

namespace hyperattn {
namespace {

/// The first broken invariant, with its place. Checks go on after it, and are not heard.
class Verdict {
 public:
  void place(std::string where) { where_ = std::move(where); }
  void require(bool holds, const std::string& rule) {
    if (!holds && text_.empty()) text_ = where_ + rule;
  }
  [[nodiscard]] bool broken() const { return !text_.empty(); }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string where_;
  std::string text_;
};

std::string pass_place(size_t phase, size_t pass) {
  return "phase " + std::to_string(phase) + ", pass " + std::to_string(pass) + ": ";
}

bool within(const RowOrder& order, int64_t rows) {
  if (order.count < 0) return false;
  const std::vector<int32_t>* listed = order.listed();
  if (listed == nullptr) return order.count == 0 || (order.first >= 0 && order.first + order.count <= rows);
  if (static_cast<int64_t>(listed->size()) != order.count) return false;
  return std::all_of(listed->begin(), listed->end(), [rows](int32_t row) { return row >= 0 && row < rows; });
}

template <class Values>
bool all_of(const Values& values, bool (*holds)(float)) {
  return std::all_of(values.begin(), values.end(), holds);
}

bool is_log_weight(float value) {
  return value < std::numeric_limits<float>::infinity();  // false for NaN too
}
bool is_finite(float value) {
  return std::isfinite(value);
}
bool is_factor(float value) {
  return std::isfinite(value) && value >= 0;
}

void check_synthetic(const AttentionProblem& problem, const SyntheticKeys& keys, Verdict& verdict) {
  const TensorShape& key = keys.key.shape();
  const TensorShape& value = keys.value.shape();
  verdict.require(key.matrices() == 1 && value.matrices() == 1 && key.rows == value.rows,
                  "synthetic keys and values must be as many");
  verdict.require(key.dim == problem.head_dim() && value.dim == problem.value_dim(),
                  "synthetic keys and values must have the problem's widths");
  verdict.require(within(keys.member_order, problem.key_count()),
                  "a member must be a key row of the problem");
  verdict.require(static_cast<int64_t>(keys.member_begin.size()) == key.rows + 1 &&
                      keys.member_begin.front() == 0 && keys.member_begin.back() == keys.member_order.count &&
                      std::is_sorted(keys.member_begin.begin(), keys.member_begin.end()),
                  "member_begin must be count + 1 offsets into the members");
  verdict.require(
      keys.member_share.empty() || static_cast<int64_t>(keys.member_share.size()) == keys.member_order.count,
      "there must be a share for each member or none");
}

void check_segments(const KeyList& list, Verdict& verdict) {
  const std::vector<int32_t>& offsets = *list.segments;
  verdict.require(!offsets.empty() && offsets.front() >= 0 && offsets.back() <= list.order.count,
                  "segments must lie within the list");
  for (size_t t = 0; t + 1 < offsets.size(); ++t)
    verdict.require(offsets[t] <= offsets[t + 1] && offsets[t + 1] - offsets[t] <= kSegmentKeys,
                    "segment " + std::to_string(t) + " must hold 0 to " + std::to_string(kSegmentKeys) +
                        " ranks, but goes from " + std::to_string(offsets[t]) + " to " +
                        std::to_string(offsets[t + 1]));
}

void check_weights(const Pass& pass, const KeyList& list, Verdict& verdict) {
  const auto count = static_cast<size_t>(list.order.count);
  verdict.require(is_log_weight(list.uniform_log_weight), "a log-weight must not be NaN or +infinity");
  if (list.log_weight) {
    verdict.require(list.log_weight->size() == count, "there must be a log-weight for each rank");
    verdict.require(all_of(*list.log_weight, is_log_weight), "a log-weight must not be NaN or +infinity");
  }
  if (list.signed_weights) {
    verdict.require(
        list.signed_weights->numerator.size() == count && list.signed_weights->denominator.size() == count,
        "there must be a numerator and a denominator weight for each rank");
    verdict.require(all_of(list.signed_weights->numerator, is_finite) &&
                        all_of(list.signed_weights->denominator, is_finite),
                    "signed weights must be finite");
    verdict.require(!list.has_factor() && !list.linear_value,
                    "signed weights stand beside no factor and no linear values");
  }
  verdict.require((list.factor.row == nullptr) == (list.factor.rank == nullptr),
                  "a factor needs numbers of rows and of ranks");
  if (list.factor.row == nullptr || list.factor.rank == nullptr) return;
  verdict.require(static_cast<int64_t>(list.factor.row->size()) == pass.queries.count &&
                      list.factor.rank->size() == count,
                  "a factor needs one number for each position and one for each rank");
  verdict.require(all_of(*list.factor.row, is_factor) && all_of(*list.factor.rank, is_factor),
                  "the numbers of a factor must be finite and not negative");
}

void check_list(const AttentionProblem& problem, const Pass& pass, const KeyList& list, Verdict& verdict) {
  const int64_t rows = list.synthetic ? list.synthetic->key.shape().rows : problem.key_count();
  verdict.require(within(list.order, rows), "an order must hold rows of K or of the synthetic keys");
  if (list.synthetic) check_synthetic(problem, *list.synthetic, verdict);
  if (list.segments) check_segments(list, verdict);
  check_weights(pass, list, verdict);
  verdict.require(!list.linear_value || pass.linear_values != nullptr,
                  "a linear list needs the pass's linear values");
}

void check_visit(const Pass& pass, const Visit& visit, Verdict& verdict) {
  if (visit.list < 0 || visit.list >= static_cast<int64_t>(pass.lists.size()))
    return verdict.require(false, "a visit must name a list of the pass");
  const int64_t count = pass.lists[static_cast<size_t>(visit.list)].order.count;
  verdict.require(0 <= visit.begin && visit.begin <= visit.end && visit.end <= count,
                  "a visit of ranks [" + std::to_string(visit.begin) + ", " + std::to_string(visit.end) +
                      ") must lie within its list of " + std::to_string(count));
  const auto excluded = static_cast<int64_t>(pass.excluded.size());
  if (visit.excluded_begin < 0 || visit.excluded_begin > visit.excluded_end || visit.excluded_end > excluded)
    return verdict.require(false, "exclusions must lie within those of the pass");
  int64_t before = visit.begin - 1;
  for (int64_t e = visit.excluded_begin; e < visit.excluded_end; ++e) {
    const int64_t rank = pass.excluded[static_cast<size_t>(e)];
    verdict.require(before < rank && rank < visit.end, "exclusions must increase and lie within their visit");
    before = rank;
  }
}

void check_row_visit(const Pass& pass, const QueryGroup& group, const RowVisit& visit, Verdict& verdict) {
  if (visit.list < 0 || visit.list >= static_cast<int64_t>(pass.lists.size()))
    return verdict.require(false, "a row visit must name a list of the pass");
  const KeyList& list = pass.lists[static_cast<size_t>(visit.list)];
  if (!list.segments || visit.segment < 0 || visit.segment + 1 >= static_cast<int64_t>(list.segments->size()))
    return verdict.require(false, "a row visit must name a segment of its list");
  if (visit.first_entry < 0 || visit.first_entry > visit.last_entry ||
      visit.last_entry > static_cast<int64_t>(pass.row_entries.size()))
    return verdict.require(false, "entries of a row visit must lie within those of the pass");
  const SegmentRange range = segment_of(list, visit.segment);
  // A segment of no valid length has been named already; here it must not become the length of a shift.
  const int64_t ranks = std::clamp<int64_t>(range.end - range.begin, 0, kSegmentKeys);
  int64_t before = group.begin - 1;
  for (int64_t e = visit.first_entry; e < visit.last_entry; ++e) {
    const RowEntry& entry = pass.row_entries[static_cast<size_t>(e)];
    verdict.require(before < entry.position && entry.position < group.end,
                    "positions of a row visit must increase and lie within the group");
    verdict.require(entry.skip >> ranks == 0, "a skip must lie within its segment");
    before = entry.position;
  }
}

void check_order_of_lists(const Pass& pass, const QueryGroup& group, Verdict& verdict) {
  bool linear = false;
  const auto linear_last = [&](int32_t list) {
    const bool own = pass.lists[static_cast<size_t>(list)].linear_value;
    verdict.require(own || !linear, "linear lists must come last in a group");
    linear = own;
  };
  for_each_visit(pass, group, [&](const Visit& visit) { linear_last(visit.list); });
  const RowVisit* before = nullptr;
  for_each_row_visit(pass, group, [&](const RowVisit& visit) {
    linear_last(visit.list);
    verdict.require(before == nullptr || before->list < visit.list ||
                        (before->list == visit.list && before->segment < visit.segment),
                    "row visits of a group must be in order of lists and segments");
    before = &visit;
  });
}

void check_group(const Pass& pass, const QueryGroup& group, Verdict& verdict) {
  const auto visits = static_cast<int64_t>(pass.visits.size());
  const auto row_visits = static_cast<int64_t>(pass.row_visits.size());
  if (group.first_visit < 0 || group.first_visit > group.last_visit || group.last_visit > visits ||
      group.first_row_visit < 0 || group.first_row_visit > group.last_row_visit ||
      group.last_row_visit > row_visits)
    return verdict.require(false, "a group's visits must lie within those of the pass");
  for_each_visit(pass, group, [&](const Visit& visit) { check_visit(pass, visit, verdict); });
  for_each_row_visit(pass, group,
                     [&](const RowVisit& visit) { check_row_visit(pass, group, visit, verdict); });
  verdict.require(group.moment_keys >= 0 && (group.moment_keys == 0 || pass.moments != nullptr),
                  "moment_keys needs the pass's moments");
  if (!verdict.broken()) check_order_of_lists(pass, group, verdict);
}

void check_query_terms(const AttentionProblem& problem, const Pass& pass, Verdict& verdict) {
  const auto d = static_cast<size_t>(problem.head_dim());
  const auto d_v = static_cast<size_t>(problem.value_dim());
  if (pass.moments)
    verdict.require(pass.moments->mean_key.size() == d && pass.moments->mean_value.size() == d_v &&
                        pass.moments->covariance.size() == d * d &&
                        pass.moments->cross_covariance.size() == d * d_v,
                    "moments must have the problem's widths");
  if (pass.linear_values)
    verdict.require(
        pass.linear_values->variance.size() == d && pass.linear_values->cross_covariance.size() == d * d_v,
        "linear values must have the problem's widths");
  verdict.require(!pass.triangular || (pass.row_visits.empty() && !pass.moments && !pass.linear_values),
                  "a triangular pass has no row visits, moments or linear values");
  verdict.require(pass.window >= 0 && (pass.triangular || (pass.window == 0 && pass.diagonal == 0)),
                  "only a triangular pass has a diagonal and a window");
}

void check_pass(const AttentionProblem& problem, const Pass& pass, Verdict& verdict) {
  verdict.require(0 <= pass.head && pass.head < problem.heads(), "the head must be one of the problem's");
  if (verdict.broken()) return;
  verdict.require(pass.key_head == problem.key_head(pass.head), "the key head must be that of the head");
  verdict.require(within(pass.queries, problem.query_count()), "positions must be query rows of the problem");
  for (const KeyList& list : pass.lists) check_list(problem, pass, list, verdict);
  int64_t end = 0;
  for (const QueryGroup& group : pass.groups) {
    verdict.require(end <= group.begin && group.begin <= group.end && group.end <= pass.queries.count,
                    "groups must be in order, disjoint and within the positions");
    end = group.end;
    check_group(pass, group, verdict);
  }
  check_query_terms(problem, pass, verdict);
}

/// Which pass of a phase uses each row, by head.
class Owners {
 public:
  Owners(int64_t rows, Verdict& verdict) : rows_(rows), verdict_(verdict) {}

  /// `again`: the same pass may name a row more than once.
  void claim(int64_t head, int64_t row, int32_t pass, bool again, const std::string& what) {
    std::vector<int32_t>& owners = by_head_[head];
    if (owners.empty()) owners.assign(static_cast<size_t>(rows_), -1);
    int32_t& owner = owners[static_cast<size_t>(row)];
    verdict_.require(owner < 0 || (again && owner == pass), what);
    owner = pass;
  }
  [[nodiscard]] bool is_claimed(int64_t head, int64_t row) const {
    const auto owners = by_head_.find(head);
    return owners != by_head_.end() && owners->second[static_cast<size_t>(row)] >= 0;
  }

 private:
  int64_t rows_;
  Verdict& verdict_;
  std::map<int64_t, std::vector<int32_t>> by_head_;
};

void check_disjoint(const AttentionProblem& problem, const Phase& phase, size_t number, Verdict& verdict) {
  Owners queries(problem.query_count(), verdict);
  Owners keys(problem.key_count(), verdict);
  for (size_t p = 0; p < phase.passes.size(); ++p) {
    const Pass& pass = phase.passes[p];
    const auto owner = static_cast<int32_t>(p);
    verdict.place(pass_place(number, p));
    for (int64_t i = 0; i < pass.queries.count; ++i)
      queries.claim(pass.head, pass.queries[i], owner, false,
                    "a query row must stand once in a phase, but row " + std::to_string(pass.queries[i]) +
                        " stands twice");
    for (const KeyList& list : pass.lists)
      for (int64_t rank = 0; !list.synthetic && rank < list.order.count; ++rank)
        keys.claim(pass.head, list.order[rank], owner, true,
                   "passes of a phase must have different key rows, but share row " +
                       std::to_string(list.order[rank]));
  }
}

/// Rows that a last group has stand in no later phase.
void check_last(const AttentionProblem& problem, const Plan& plan, Verdict& verdict) {
  Owners finished(problem.query_count(), verdict);
  for (size_t phase = 0; phase < plan.phases.size(); ++phase)
    for (size_t p = 0; p < plan.phases[phase].passes.size(); ++p) {
      const Pass& pass = plan.phases[phase].passes[p];
      verdict.place(pass_place(phase, p));
      for (const QueryGroup& group : pass.groups)
        for (int64_t position = group.begin; position < group.end; ++position) {
          const int64_t row = pass.queries[position];
          verdict.require(!finished.is_claimed(pass.head, row),
                          "a row of it stands in a last group of an earlier phase");
          if (group.is_last) finished.claim(pass.head, row, 0, true, {});
        }
    }
}

bool& checked_flag() {
  static bool checked = [] {
#ifndef NDEBUG
    return true;
#else
    return std::getenv("HYPERATTN_CHECK_PLANS") != nullptr;
#endif
  }();
  return checked;
}

}  // namespace

std::string check_plan(const AttentionProblem& problem, const Plan& plan) {
  if (has_sampled_blocks(plan)) return check_plan(problem, with_groups(plan));
  Verdict verdict;
  for (size_t phase = 0; phase < plan.phases.size(); ++phase) {
    const std::vector<Pass>& passes = plan.phases[phase].passes;
    for (size_t p = 0; p < passes.size(); ++p) {
      verdict.place(pass_place(phase, p));
      check_pass(problem, passes[p], verdict);
    }
    if (verdict.broken()) return verdict.text();
    check_disjoint(problem, plan.phases[phase], phase, verdict);
  }
  check_last(problem, plan, verdict);
  if (has_signed_weights(plan)) {
    verdict.place("");
    verdict.require(!has_query_terms(plan), "a plan with signed weights has no moments and no linear values");
  }
  return verdict.text();
}

bool plans_are_checked() {
  return checked_flag();
}

void set_plans_are_checked(bool checked) {
  checked_flag() = checked;
}

void require_valid_plan(const AttentionProblem& problem, const Plan& plan) {
  if (!plans_are_checked()) return;
  if (const std::string broken = check_plan(problem, plan); !broken.empty())
    throw std::logic_error("an invalid plan: " + broken);
}

}  // namespace hyperattn
