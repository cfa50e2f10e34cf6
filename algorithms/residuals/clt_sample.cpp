// As many keys as an error of the denominator needs (vAttention, arXiv 2510.05688, section 4). Of the R keys
// outside a row's mask a base sample gives the mean and the deviation σ of their weights exp(s·q·k), hence
//   D̂ = (weights of the mask) + R·mean,   b = (z·σ·R/(ε·D̂))²,   z the two-sided normal quantile of δ,
// and b keys drawn without replacement, each with weight R/b, make the denominator right within ε with
// probability 1 − δ, as far as the central limit theorem holds. Draws are independent of the base sample, so
// that sums are unbiased whatever b is. (The released code draws with replacement, merges what it draws
// twice, and finds the mask's keys in its base sample again.)
//
// Rows of a *unit* read one random order of the node's keys, and each takes the first b of its own outside
// its mask: budgets differ by row, while neighbouring rows still share most keys.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "algorithms/masks/mask_union.h"
#include "algorithms/masks/query_blocks.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/column_masses.h"
#include "algorithms/primitives/random_order.h"
#include "algorithms/residuals/residual.h"
#include "algorithms/row_choices.h"

namespace hyperattn {
namespace {

// Rows that share a random order where the mask keeps rows in their order.
constexpr int64_t kUnitRows = 256;

// Keys that are scored at once.
constexpr int64_t kChunkKeys = 256;

// P(|normal| > z) = delta.
double two_sided_quantile(double delta) {
  double low = 0;
  double high = 40;
  for (int step = 0; step < 60; ++step) {
    const double middle = (low + high) / 2;
    (std::erfc(middle / std::sqrt(2.0)) > delta ? low : high) = middle;
  }
  return high;
}

/// Σ 2^score and Σ 4^score of sampled queries over keys, each relative to the query's largest score.
class ScoreSums {
 public:
  explicit ScoreSums(const SampledQueries& queries)
      : queries_(queries),
        maximum_(static_cast<size_t>(queries.columns()), -std::numeric_limits<double>::infinity()),
        sum_(maximum_.size(), 0),
        squares_(maximum_.size(), 0) {}

  void add(MatrixView<const float> keys, const std::vector<int32_t>& rows) {
    for (size_t first = 0; first < rows.size(); first += kChunkKeys)
      add_chunk(keys, rows.data() + first,
                std::min<int64_t>(kChunkKeys, static_cast<int64_t>(rows.size() - first)));
  }

  [[nodiscard]] double maximum(size_t query) const { return maximum_[query]; }
  /// Relative to a maximum that is at least the query's own.
  [[nodiscard]] double sum(size_t query, double maximum) const {
    return sum_[query] * std::exp2(maximum_[query] - maximum);
  }
  [[nodiscard]] double squares(size_t query, double maximum) const {
    return squares_[query] * std::exp2(2 * (maximum_[query] - maximum));
  }

 private:
  void add_chunk(MatrixView<const float> keys, const int32_t* rows, int64_t count) {
    const int64_t columns = queries_.columns();
    const auto width = static_cast<size_t>(columns);
    Buffer<float> gathered(count * keys.cols);
    for (int64_t j = 0; j < count; ++j)
      std::copy_n(keys.row(rows[j]), keys.cols, gathered.data() + j * keys.cols);
    Buffer<float> scores(count * columns);
    queries_.score({gathered.data(), count, keys.cols, keys.cols}, scores.data());
    std::vector<float> maximum(width, -std::numeric_limits<float>::infinity());
    for (int64_t j = 0; j < count; ++j)
      for (size_t q = 0; q < width; ++q)
        maximum[q] = std::max(maximum[q], scores.data()[j * columns + static_cast<int64_t>(q)]);
    for (int64_t j = 0; j < count; ++j)
      for (size_t q = 0; q < width; ++q) scores.data()[j * columns + static_cast<int64_t>(q)] -= maximum[q];
    exponentiate_base2(scores.data(), count * columns);
    std::vector<float> sum(width, 0);
    std::vector<float> squares(width, 0);
    for (int64_t j = 0; j < count; ++j)
      for (size_t q = 0; q < width; ++q) {
        const float weight = scores.data()[j * columns + static_cast<int64_t>(q)];
        sum[q] += weight;
        squares[q] += weight * weight;
      }
    for (size_t q = 0; q < width; ++q) merge(q, maximum[q], sum[q], squares[q]);
  }

  void merge(size_t query, double maximum, double sum, double squares) {
    const double before = maximum_[query];
    maximum_[query] = std::max(before, maximum);
    const double old_share = std::exp2(before - maximum_[query]);
    const double new_share = std::exp2(maximum - maximum_[query]);
    sum_[query] = sum_[query] * old_share + sum * new_share;
    squares_[query] = squares_[query] * old_share * old_share + squares * new_share * new_share;
  }

  const SampledQueries& queries_;
  std::vector<double> maximum_;
  std::vector<double> sum_;
  std::vector<double> squares_;
};

/// Rows of a unit that hold the same keys: positions [begin, end) of mask group `group`. In a union of masks
/// each row is a slice of its own.
struct Slice {
  int64_t begin = 0;
  int64_t end = 0;
  size_t group = 0;
  int64_t outside = 0;           ///< R
  std::vector<int64_t> budgets;  ///< b of each row
  std::vector<int64_t> free;     ///< places of the random order whose keys the mask does not hold

  [[nodiscard]] int64_t rows() const { return end - begin; }
  [[nodiscard]] int64_t largest_budget() const {
    return budgets.empty() ? 0 : *std::max_element(budgets.begin(), budgets.end());
  }
};

/// Rows that share a random order. Its number says which one, and depends on nothing but a row's own mask or
/// position.
struct Unit {
  uint32_t number = 0;
  std::vector<Slice> slices;
  std::vector<int32_t> keys;  ///< key rows of the problem in random order, as many as any row needs
  int64_t cut_rows = 0;       ///< whose budget sample_size cut
};

/// What slices hold of a node's mask, further masks included.
class HeldKeys {
 public:
  HeldKeys(const NodeMask& mask, const AttentionNode& node) : mask_(mask), node_(node) {
    if (!mask.further.empty()) rows_.emplace(mask, node);
  }

  [[nodiscard]] const NodeMask& mask() const { return mask_; }
  [[nodiscard]] bool by_rows() const { return rows_.has_value(); }
  /// A key is counted from the node's first.
  [[nodiscard]] bool holds(const Slice& slice, int32_t key) const {
    if (rows_) return rows_->holds(mask_.queries[slice.begin], node_.key_begin + key);
    return hyperattn::holds(mask_, mask_.groups[slice.group], mask_.rank_of(key));
  }
  /// Key rows of the problem.
  [[nodiscard]] std::vector<int32_t> keys_of(const Slice& slice) const {
    if (rows_) return rows_->keys_of(mask_.queries[slice.begin]);
    const MaskGroup& group = mask_.groups[slice.group];
    std::vector<int32_t> rows;
    for (int64_t r = group.first_range; r < group.last_range; ++r)
      for (int64_t rank = mask_.ranges[static_cast<size_t>(r)].begin;
           rank < mask_.ranges[static_cast<size_t>(r)].end; ++rank)
        rows.push_back(static_cast<int32_t>(mask_.keys[rank]));
    return rows;
  }

 private:
  const NodeMask& mask_;
  AttentionNode node_;
  std::optional<UnionRows> rows_;
};

/// Positions [begin, end) of a group as slices of a unit.
void add_slices(const HeldKeys& held, int64_t begin, int64_t end, size_t group, Unit& unit) {
  const int64_t step = held.by_rows() ? 1 : end - begin;
  for (; begin < end; begin += step) unit.slices.push_back({begin, begin + step, group, 0, {}, {}});
}

std::vector<Unit> units_of(const AttentionProblem& problem, const HeldKeys& held) {
  const NodeMask& mask = held.mask();
  const bool sorted = !mask.queries.is_run();
  const int64_t offset = problem.causal ? problem.causal_offset() : 0;
  std::vector<Unit> units;
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    if (sorted) {
      const int64_t first = group.first_range < group.last_range
                                ? mask.ranges[static_cast<size_t>(group.first_range)].begin
                                : 0;
      units.push_back({static_cast<uint32_t>(first), {}, {}, 0});
      add_slices(held, group.begin, group.end, g, units.back());
      continue;
    }
    for (int64_t begin = group.begin; begin < group.end;) {
      const int64_t number = (mask.queries[begin] + offset) / kUnitRows;
      const int64_t end =
          std::min(group.end, begin + (number + 1) * kUnitRows - (mask.queries[begin] + offset));
      if (units.empty() || units.back().number != static_cast<uint32_t>(number))
        units.push_back({static_cast<uint32_t>(number), {}, {}, 0});
      add_slices(held, begin, end, g, units.back());
      begin = end;
    }
  }
  return units;
}

struct Budget {
  double z_over_epsilon = 0;
  int64_t base = 0;      ///< keys of the base sample, and the least that are drawn
  int64_t ceiling = 0;   ///< the most
  bool by_unit = false;  ///< a unit's rows all draw what the row with the largest budget does

  explicit Budget(const ResidualRequest& request)
      : z_over_epsilon(two_sided_quantile(request.call.parameters.number("clt_delta")) /
                       request.call.parameters.number("clt_epsilon")),
        base(request.call.parameters.integer("base_sample")),
        ceiling(request.sample_size),
        by_unit(request.call.parameters.text("clt_budget") == "block") {}

  /// b of a row before the ceiling.
  [[nodiscard]] int64_t wanted(const ScoreSums& masked, const ScoreSums& drawn, size_t query, int64_t count,
                               int64_t outside) const {
    if (count < 2) return outside;
    const auto n = static_cast<double>(count);
    const auto r = static_cast<double>(outside);
    const double maximum = std::max(masked.maximum(query), drawn.maximum(query));
    const double sum = drawn.sum(query, maximum);
    const double variance = std::max(drawn.squares(query, maximum) - sum * sum / n, 0.0) / (n - 1);
    const double denominator = masked.sum(query, maximum) + r * sum / n;
    const double share = z_over_epsilon * std::sqrt(variance) * r / denominator;
    return std::max(static_cast<int64_t>(std::ceil(std::min(share * share, r))), std::min(base, outside));
  }
};

class CltPlanner final : public ResidualPlanner {
 public:
  explicit CltPlanner(const ResidualRequest& request)
      : request_(request), budget_(request), seen_(request.nodes.size()) {}

  [[nodiscard]] std::vector<Pass> passes(size_t i, const NodeMask& mask) const override {
    const HeadNode& place = request_.nodes[i];
    const AttentionProblem& problem = request_.bound.problem();
    const HeldKeys held(mask, place.node);
    std::vector<Unit> units = units_of(problem, held);
    parallel_for(static_cast<int64_t>(units.size()),
                 [&](int64_t u, int) { draw(place, held, units[static_cast<size_t>(u)]); });
    note(mask, units, seen_[i]);
    std::vector<Pass> passes =
        further_passes(problem, place, mask, rows_apart_in(mask, request_.rows_are_independent));
    passes.insert(passes.begin(), pass_of(place, mask, units));
    return passes;
  }

  void report(Diagnostics& notes) const override {
    Seen all;
    for (const Seen& one : seen_) {
      all.rows += one.rows;
      all.drawn += one.drawn;
      all.cut_rows += one.cut_rows;
      all.scores += one.scores;
    }
    notes.entries += entries_of_scores(request_.bound.problem(), all.scores);
    if (all.rows == 0) return;
    notes.drawn_keys = static_cast<double>(all.drawn) / static_cast<double>(all.rows);
    notes.ceiling_share = static_cast<double>(all.cut_rows) / static_cast<double>(all.rows);
  }

 private:
  struct Seen {
    int64_t rows = 0;
    int64_t drawn = 0;
    int64_t cut_rows = 0;
    int64_t scores = 0;  ///< of planning
  };

  /// Budgets of a unit's rows, and the keys that they draw.
  void draw(const HeadNode& place, const HeldKeys& held, Unit& unit) const {
    const int64_t keys = place.node.key_count();
    RandomOrder base(node_stream(request_.call, Purpose::base_sample, place), unit.number, keys);
    for (Slice& slice : unit.slices) set_budgets(place, held, base, unit, slice);
    if (budget_.by_unit) raise_budgets(unit);
    RandomOrder order(node_stream(request_.call, Purpose::key_sample, place), unit.number, keys);
    int64_t length = 0;
    for (Slice& slice : unit.slices) {
      slice.free = free_places(held, slice, order, slice.largest_budget());
      if (!slice.free.empty()) length = std::max(length, slice.free.back() + 1);
    }
    for (int64_t at = 0; at < length; ++at)
      unit.keys.push_back(static_cast<int32_t>(place.node.key_begin) +
                          order.drawn()[static_cast<size_t>(at)]);
  }

  /// The first `count` places of the order whose keys the slice's mask does not hold.
  static std::vector<int64_t> free_places(const HeldKeys& held, const Slice& slice, RandomOrder& order,
                                          int64_t count) {
    std::vector<int64_t> places;
    places.reserve(static_cast<size_t>(count));
    for (int64_t at = 0; static_cast<int64_t>(places.size()) < count; ++at) {
      order.draw(std::max(at + 1, static_cast<int64_t>(order.drawn().size())));
      if (!held.holds(slice, order.drawn()[static_cast<size_t>(at)])) places.push_back(at);
    }
    return places;
  }

  void set_budgets(const HeadNode& place, const HeldKeys& held, RandomOrder& base, Unit& unit,
                   Slice& slice) const {
    const std::vector<int32_t> held_rows = held.keys_of(slice);
    slice.outside = place.node.key_count() - static_cast<int64_t>(held_rows.size());
    const int64_t count = std::min(budget_.base, slice.outside);
    std::vector<int32_t> base_rows;
    for (const int64_t at : free_places(held, slice, base, count))
      base_rows.push_back(static_cast<int32_t>(place.node.key_begin) + base.drawn()[static_cast<size_t>(at)]);
    std::vector<int32_t> query_rows;
    for (int64_t position = slice.begin; position < slice.end; ++position)
      query_rows.push_back(static_cast<int32_t>(held.mask().queries[position]));
    const AttentionProblem& problem = request_.bound.problem();
    const SampledQueries queries(problem, place.head, query_rows);
    ScoreSums masked(queries);
    ScoreSums drawn(queries);
    masked.add(problem.keys_of(place.head), held_rows);
    drawn.add(problem.keys_of(place.head), base_rows);
    for (size_t q = 0; q < query_rows.size(); ++q) {
      const int64_t wanted = budget_.wanted(masked, drawn, q, count, slice.outside);
      slice.budgets.push_back(std::min(wanted, budget_.ceiling));
      unit.cut_rows += wanted > budget_.ceiling ? 1 : 0;
    }
  }

  static void raise_budgets(Unit& unit) {
    int64_t largest = 0;
    for (const Slice& slice : unit.slices) largest = std::max(largest, slice.largest_budget());
    for (Slice& slice : unit.slices)
      std::fill(slice.budgets.begin(), slice.budgets.end(), std::min(largest, slice.outside));
  }

  [[nodiscard]] Pass pass_of(const HeadNode& place, const NodeMask& mask,
                             const std::vector<Unit>& units) const {
    PassBuilder pass(request_.bound.problem(), place.head, place.node.number, mask.queries);
    const bool has_mask = !mask.ranges.empty();
    const GroupVisits masked = has_mask ? GroupVisits::masked(mask, Stage::block, pass) : GroupVisits();
    SegmentedRows rows;
    std::vector<SegmentedRows::Stretch> stretches;
    for (const Unit& unit : units) stretches.push_back(rows.add(unit.keys));
    KeyList list = rows.take(Stage::sample);
    list.factor = weights_of(mask, units, list.order.count);
    const int32_t number = pass.add_list(std::move(list));
    for (size_t u = 0; u < units.size(); ++u)
      for (size_t first = 0; first < units[u].slices.size();) {
        const size_t last = end_of_group(units[u], first);
        const size_t group = units[u].slices[first].group;
        pass.group(units[u].slices[first].begin, units[u].slices[last - 1].end);
        if (has_mask) masked.visit(group, pass);
        visit_drawn(mask, units[u], first, last, number, stretches[u], pass);
        first = last;
      }
    return pass.take();
  }

  /// R/b = 1 + (R/b − 1), a number of each row.
  static WeightFactor weights_of(const NodeMask& mask, const std::vector<Unit>& units, int64_t ranks) {
    std::vector<float> factor(static_cast<size_t>(mask.queries.count), 0);
    for (const Unit& unit : units)
      for (const Slice& slice : unit.slices)
        for (int64_t row = 0; row < slice.rows(); ++row)
          if (const int64_t b = slice.budgets[static_cast<size_t>(row)]; b > 0)
            factor[static_cast<size_t>(slice.begin + row)] =
                static_cast<float>(static_cast<double>(slice.outside - b) / static_cast<double>(b));
    return {std::make_shared<const std::vector<float>>(std::move(factor)),
            std::make_shared<const std::vector<float>>(static_cast<size_t>(ranks), 1.0F)};
  }

  /// The slice after those that share a group of the mask with the first.
  static size_t end_of_group(const Unit& unit, size_t first) {
    size_t last = first + 1;
    while (last < unit.slices.size() && unit.slices[last].group == unit.slices[first].group) ++last;
    return last;
  }

  void visit_drawn(const NodeMask& mask, const Unit& unit, size_t first, size_t last, int32_t list,
                   SegmentedRows::Stretch stretch, PassBuilder& pass) const {
    const int64_t begin = unit.slices[first].begin;
    RowChoices choices(unit.slices[last - 1].end - begin, static_cast<int64_t>(unit.keys.size()));
    for (size_t i = first; i < last; ++i) {
      const Slice& slice = unit.slices[i];
      for (int64_t row = 0; row < slice.rows(); ++row)
        for (int64_t k = 0; k < slice.budgets[static_cast<size_t>(row)]; ++k)
          choices.choose(slice.begin - begin + row, slice.free[static_cast<size_t>(k)]);
    }
    choices.visit(pass, list, stretch, begin, shared_places(mask, unit, unit.slices[first]));
  }

  /// Under a causal mask a row's rounding must not follow later rows' budgets either: only what every row
  /// draws, whatever its budget, is visited together.
  [[nodiscard]] int64_t shared_places(const NodeMask& mask, const Unit& unit, const Slice& slice) const {
    if (!request_.bound.problem().causal) return static_cast<int64_t>(unit.keys.size());
    if (!mask.further.empty()) return 0;
    const int64_t least = std::min({budget_.base, budget_.ceiling, slice.outside});
    return least > 0 ? slice.free[static_cast<size_t>(least) - 1] + 1 : 0;
  }

  void note(const NodeMask& mask, const std::vector<Unit>& units, Seen& seen) const {
    for (const Unit& unit : units) {
      seen.cut_rows += unit.cut_rows;
      for (const Slice& slice : unit.slices) {
        seen.rows += slice.rows();
        for (const int64_t budget : slice.budgets) seen.drawn += budget;
        seen.scores +=
            slice.rows() * (mask.keys.count - slice.outside + std::min(budget_.base, slice.outside));
      }
    }
  }

  ResidualRequest request_;
  Budget budget_;
  mutable std::vector<Seen> seen_;  // by node; each is written once
};

class CltSampleResidual final : public DescribedResidual {
 public:
  CltSampleResidual()
      : DescribedResidual(
            {"clt_sample",
             "as many drawn keys as an error of the denominator needs, at most sample_size",
             {number_parameter("clt_epsilon", "error of the denominator that the drawn keys are to keep")
                  .between(1e-6, 1e6)
                  .by_default(0.1),
              number_parameter("clt_delta", "share of rows that may miss it")
                  .between(1e-6, 1 - 1e-6)
                  .by_default(0.1),
              integer_parameter("base_sample",
                                "drawn keys that budgets are estimated from, and the least budget")
                  .between(2, std::numeric_limits<int32_t>::max())
                  .by_default(64),
              choice_parameter(
                  "clt_budget", {"row", "block"},
                  "each row draws its own budget, or all rows of a block the largest of them")}}) {}

  [[nodiscard]] bool rows_may_differ() const override { return true; }
  [[nodiscard]] std::string check(const Parameters& parameters) const override {
    if (parameters.text("clt_budget") == "row" || parameters.text("mask") != "sort_lsh" ||
        !rows_keep_to_their_buckets(parameters))
      return {};
    return "clt_budget: block looks at later rows, which query_blocks: by_bucket forbids; choose clt_budget: "
           "row";
  }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    return std::make_unique<CltPlanner>(request);
  }
};

}  // namespace

const Residual& residual_clt_sample() {
  static const CltSampleResidual residual;
  return residual;
}

}  // namespace hyperattn
