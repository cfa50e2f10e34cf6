#include "algorithms/residuals/sample.h"

#include <algorithm>
#include <string>
#include <utility>

#include "algorithms/masks/mask_union.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/residuals/residual.h"
#include "algorithms/row_choices.h"
#include "core/error.h"

namespace hyperattn {
namespace {

// Mask groups of fewer rows than this on average leave tiles of a GPU, which have 64 rows, partly empty: the
// sample then gets groups of its own. On the CPU one pass is the faster way for groups of any size: `hyper`
// at n = 16384 with 256 sampled keys took 19.4, 14.3, 14.6, 15.6 and 18.4 ms with groups of 4, 16, 32, 64 and
// 128 rows, with groups of its own for the sample 19.6, 15.2, 15.4, 16.5 and 19.2 ms; at d = 128 with groups
// of 32 rows 29.8 and 32.6 ms (d = 64 but there, Zen 4, one thread). On GPUs no other bound was tried.
constexpr int64_t kFusedGroupRows = 64;
static_assert(kLeftBlockRows >= kFusedGroupRows);

Sampling sampling_kind(const std::string& name) {
  if (name == "uniform_iid") return Sampling::uniform_iid;
  if (name == "value_norm") return Sampling::value_norm;
  return name == "prefix" ? Sampling::prefix : Sampling::uniform;
}

/// Sampled keys of a node that a replay prescribes.
std::vector<int32_t> replayed_rows(const ResidualRequest& request, size_t index) {
  const HeadNode& wanted = request.nodes[index];
  const int64_t rows = wanted.node.query_count();
  const int64_t heads = request.bound.shapes().heads();
  const std::string name = "the replayed samples of nodes with " + std::to_string(rows) + " query rows";
  const auto found = request.call.replay->samples.find(rows);
  if (found == request.call.replay->samples.end()) fail_input(name + " are missing");
  const Replay::Samples& samples = found->second;
  if (samples.count != request.sample_size)
    fail_usage("sample_size must be " + std::to_string(samples.count) + ", as in " + name + ", but is " +
               std::to_string(request.sample_size));
  if (static_cast<int64_t>(samples.rows.size()) != heads * samples.nodes * samples.count)
    fail_input(name + " must hold " + std::to_string(heads) + " heads of " + std::to_string(samples.nodes) +
               " nodes, but hold " + std::to_string(samples.rows.size()) + " indices");
  // Numbered from the start of the sequence among the nodes of this many query rows; where there are fewer
  // queries than keys, nodes can have the same ones.
  const auto place = [](const AttentionNode& node) { return std::pair(node.query_begin, node.key_begin); };
  const int64_t number =
      std::count_if(request.nodes.begin(), request.nodes.end(), [&](const HeadNode& other) {
        return other.head == wanted.head && other.node.query_count() == rows &&
               place(other.node) < place(wanted.node);
      });
  if (number >= samples.nodes)
    fail_input(name + " hold " + std::to_string(samples.nodes) + " nodes, but node " +
               std::to_string(number) + " is needed");
  const auto begin = samples.rows.begin() + (wanted.head * samples.nodes + number) * samples.count;
  std::vector<int32_t> drawn(begin, begin + samples.count);
  for (const int32_t row : drawn)
    if (row < 0 || row >= wanted.node.key_count())
      fail_input(name + " hold the key row " + std::to_string(row) + ", but must be between 0 and " +
                 std::to_string(wanted.node.key_count() - 1));
  return drawn;
}

/// Draws the keys of all nodes.
class Draw {
 public:
  Draw(const ResidualRequest& request, Sampling sampling) : request_(request), sampling_(sampling) {
    const AttentionProblem& problem = request.bound.shapes();
    if (sampling != Sampling::value_norm) return;
    for (int64_t head = 0; head < problem.key_heads(); ++head)
      norms_.push_back(request.bound.squared_row_norms(problem.value.matrix(head)));
  }

  [[nodiscard]] ColumnSample of(size_t i) const {
    const HeadNode& place = request_.nodes[i];
    const int64_t keys = place.node.key_count();
    const double* norms = norms_of(place);
    if (request_.call.replay != nullptr)
      return weigh_columns(sampling_, replayed_rows(request_, i), keys, norms);
    return draw_columns(sampling_, std::min(request_.sample_size, keys), keys, norms,
                        node_stream(request_.call, Purpose::key_sample, place));
  }

  /// Of the keys of a node.
  [[nodiscard]] bool weights_are_equal() const { return sampling_ != Sampling::value_norm; }

  /// What one of these nodes takes, about.
  [[nodiscard]] double microseconds(const std::vector<size_t>& which) const {
    double keys = 0;
    for (const size_t i : which) keys += static_cast<double>(request_.nodes[i].node.key_count());
    keys /= static_cast<double>(std::max<size_t>(which.size(), 1));
    const double of_key = sampling_ == Sampling::uniform ? 2e-6 : 2e-3;
    return of_key * keys + 0.01 * std::min(static_cast<double>(request_.sample_size), keys);
  }

 private:
  [[nodiscard]] const double* norms_of(const HeadNode& place) const {
    if (norms_.empty()) return nullptr;
    const auto head = static_cast<size_t>(request_.bound.shapes().key_head(place.head));
    return norms_[head].data() + place.node.key_begin;
  }

  const ResidualRequest& request_;
  Sampling sampling_;
  std::vector<std::vector<double>> norms_;  // of the values of every key head
};

/// The places of a sample that a group of the mask leaves out.
void find_left_out(const NodeMask& mask, const MaskGroup& group, const RankedSample& sample,
                   bool count_collisions, std::vector<int32_t>& places) {
  places.clear();
  if (!count_collisions) append_masked_samples(mask, group, sample.ranks, places);
}

/// Mask and sample in one pass: each query tile is loaded once.
Pass fused_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                const ColumnSample& sample, bool count_collisions) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  const GroupVisits masked = GroupVisits::masked(mask, Stage::block, pass);
  const RankedSample ranked = rank_sample(sample, mask, place.node);
  const int32_t list = pass.add_list(ranked.list);
  pass.reserve_groups(mask.groups.size(), 2);
  std::vector<int32_t> places;
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    pass.group(group.begin, group.end);
    masked.visit(g, pass);
    find_left_out(mask, group, ranked, count_collisions, places);
    pass.visit_all_except(list, places);
  }
  return pass.take();
}

bool worth_fusing(const NodeMask& mask) {
  return !mask.ranges.empty() &&
         mask.queries.count >= kFusedGroupRows * static_cast<int64_t>(mask.groups.size());
}

/// Whether the engine that has sorted the keys can find the groups of a fused pass itself.
bool leaves_blocks(const BoundProblem& bound, const NodeMask& mask, const ColumnSample& sample) {
  return can_leave_blocks(bound, mask) && mask.asked.ranks && sample.log_weights.empty();
}

/// The fused pass with its groups left to the engine.
Pass blocks_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                 const ColumnSample& sample, bool count_collisions) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  pass.add_keys(mask.keys, Stage::block);
  KeyList list;
  list.order = RowOrder::on_device(mask.asked.sorted_rows);
  list.uniform_log_weight = sample.uniform_log_weight;
  list.stage = Stage::sample;
  pass.add_list(std::move(list));
  return pass.sampled_blocks({mask.block_size, mask.asked.sorted_ranks, count_collisions}).take();
}

/// The mask itself and the sample, of which each row leaves out what it holds in any mask of the union.
Pass union_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                const ColumnSample& sample, bool count_collisions, bool rows_apart) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  const bool has_mask = !mask.ranges.empty();
  const GroupVisits masked = has_mask ? GroupVisits::masked(mask, Stage::block, pass) : GroupVisits();
  KeyList list = rank_sample(sample, mask, place.node).list;
  SegmentedRows rows;
  const SegmentedRows::Stretch stretch = rows.add(*list.order.rows);
  list.segments = rows.take(Stage::sample).segments;
  const std::vector<int32_t>& keys = *list.order.rows;
  const auto places = static_cast<int64_t>(keys.size());
  const int32_t number = pass.add_list(list);
  const UnionRows held(mask, place.node);
  for (size_t g = 0; g < mask.groups.size(); ++g) {
    const MaskGroup& group = mask.groups[g];
    RowChoices choices(group.end - group.begin, places);
    parallel_for(group.end - group.begin, [&](int64_t row, int) {
      const int64_t query = mask.queries[group.begin + row];
      for (int64_t at = 0; at < places; ++at)
        if (count_collisions || !held.holds(query, keys[static_cast<size_t>(at)])) choices.choose(row, at);
    });
    pass.group(group.begin, group.end);
    if (has_mask) masked.visit(g, pass);
    choices.visit(pass, number, stretch, group.begin, rows_apart ? 0 : places);
  }
  return pass.take();
}

class SamplePlanner final : public ResidualPlanner {
 public:
  SamplePlanner(const ResidualRequest& request, Sampling sampling, bool count_collisions)
      : request_(request),
        draw_(request_, sampling),
        samples_(request.nodes.size()),
        count_collisions_(count_collisions) {}

  void prepare(const std::vector<size_t>& which) override {
    for_each_node(
        request_.nodes, which, [&](size_t i) { samples_[i] = draw_.of(i); },
        pieces_worth_a_team(std::ssize(which), draw_.microseconds(which)));
  }

  [[nodiscard]] std::vector<Pass> passes(size_t i, const NodeMask& mask) const override {
    if (leaves_blocks(request_.bound, mask, samples_[i]))
      return {blocks_pass(request_.bound.shapes(), request_.nodes[i], mask, samples_[i], count_collisions_)};
    NodeMask room;
    return sampled_passes(request_.bound.shapes(), request_.nodes[i], with_listed_groups(mask, room),
                          samples_[i], count_collisions_, rows_apart_in(mask, request_.rows_are_independent));
  }
  [[nodiscard]] const std::vector<int32_t>* asked_keys(size_t i) const override { return &samples_[i].rows; }
  [[nodiscard]] bool takes_unlisted_blocks() const override { return draw_.weights_are_equal(); }

 private:
  ResidualRequest request_;
  Draw draw_;
  std::vector<ColumnSample> samples_;
  bool count_collisions_;
};

/// Sampled keys count twice or not wherever a row holds any.
ParameterSpec collisions_parameter() {
  ParameterSpec spec =
      choice_parameter("collisions", {"mask", "count"},
                       "sampled keys that the row's mask already holds are left out, or count twice")
          .not_with("mask", {"none"});
  spec.conditions.back().alternatives.push_back({"window", {int64_t{0}}, true});
  return spec;
}

class SampleResidual final : public DescribedResidual {
 public:
  SampleResidual()
      : DescribedResidual(
            {"sample",
             "keys that are drawn",
             {choice_parameter("sampling", {"uniform", "uniform_iid", "value_norm", "prefix"},
                               "how keys are drawn: without or with replacement, by value norms, or the "
                               "first m with weight 1"),
              collisions_parameter()}}) {}

  [[nodiscard]] bool rows_may_differ() const override { return true; }

  [[nodiscard]] std::unique_ptr<ResidualPlanner> plan(const ResidualRequest& request) const override {
    const Parameters& parameters = request.call.parameters;
    return std::make_unique<SamplePlanner>(request, sampling_kind(parameters.text("sampling")),
                                           parameters.text("collisions") == "count");
  }
};

}  // namespace

RankedSample rank_sample(const ColumnSample& sample, const NodeMask& mask, const AttentionNode& node) {
  // By rank, then by place in the sample, as one number.
  std::vector<uint64_t> order(sample.rows.size());
  for (size_t i = 0; i < order.size(); ++i) {
    const int64_t rank = mask.asked.ranks ? mask.asked.ranks->on_host()[i] : mask.rank_of(sample.rows[i]);
    order[i] = static_cast<uint64_t>(rank) << 32 | i;
  }
  std::sort(order.begin(), order.end());
  RankedSample ranked;
  std::vector<int32_t> rows;
  std::vector<float> weights;
  ranked.ranks.reserve(order.size());
  rows.reserve(order.size());
  for (const uint64_t one : order) {
    const auto i = static_cast<size_t>(one & UINT32_MAX);
    ranked.ranks.push_back(static_cast<int32_t>(one >> 32));
    rows.push_back(static_cast<int32_t>(node.key_begin) + sample.rows[i]);
    if (!sample.log_weights.empty()) weights.push_back(sample.log_weights[i]);
  }
  ranked.list.order = RowOrder::list(std::move(rows));
  ranked.list.uniform_log_weight = sample.uniform_log_weight;
  if (!weights.empty())
    ranked.list.log_weight = std::make_shared<const std::vector<float>>(std::move(weights));
  ranked.list.stage = Stage::sample;
  return ranked;
}

std::vector<Pass> sampled_passes(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                                 const ColumnSample& sample, bool count_collisions, bool rows_apart) {
  std::vector<Pass> passes = further_passes(problem, place, mask, rows_apart);
  if (!mask.further.empty()) {
    passes.insert(passes.begin(), union_pass(problem, place, mask, sample, count_collisions, rows_apart));
  } else if (worth_fusing(mask)) {
    passes.push_back(fused_pass(problem, place, mask, sample, count_collisions));
  } else {
    passes.push_back(mask_pass(problem, place, mask));
    passes.push_back(sample_pass(problem, place, mask, sample, count_collisions));
  }
  return passes;
}

Pass sample_pass(const AttentionProblem& problem, const HeadNode& place, const NodeMask& mask,
                 const ColumnSample& sample, bool count_collisions) {
  PassBuilder pass(problem, place.head, place.node.number, mask.queries);
  const RankedSample ranked = rank_sample(sample, mask, place.node);
  const int32_t list = pass.add_list(ranked.list);
  MaskGroup open{0, 0, 0, 0};
  std::vector<int32_t> excluded;  // by the open group
  std::vector<int32_t> places;
  const auto close = [&] {
    if (open.begin < open.end) pass.group(open.begin, open.end).visit_all_except(list, excluded);
  };
  for (const MaskGroup& group : mask.groups) {
    find_left_out(mask, group, ranked, count_collisions, places);
    if (open.begin < open.end && places == excluded) {
      open.end = group.end;
      continue;
    }
    close();
    open = group;
    std::swap(excluded, places);
  }
  close();
  return pass.take();
}

const Residual& residual_sample() {
  static const SampleResidual residual;
  return residual;
}

}  // namespace hyperattn
