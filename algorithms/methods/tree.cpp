// The routing tree: each query row walks a balanced tree of the keys with a beam, computes a few short runs
// of keys exactly, and takes every segment that it left aside as one mean key with a mean value, in the same
// softmax (docs/methods.md). Nothing is random, and a row depends on nothing after it.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "algorithms/methods/sparse.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/beam.h"
#include "algorithms/primitives/key_tree.h"
#include "algorithms/registry.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

constexpr double kMostKeys = std::numeric_limits<int32_t>::max();
constexpr int64_t kRowsOfPart = 1024;  // of a parallel step that writes row visits

struct TreeChoice {
  IntegerList sizes;
  IntegerList beams;
  std::string tail;
  bool spread;
  std::string order;

  explicit TreeChoice(const Parameters& parameters)
      : sizes(parameters.integers("levels")),
        beams(parameters.integers("beams")),
        tail(parameters.text("tail")),
        spread(parameters.text("gate") == "mean_spread"),
        order(parameters.text("order")) {}

  [[nodiscard]] bool is_corrected() const { return tail == "corrected"; }
  [[nodiscard]] bool has_tail() const { return tail != "none"; }
  [[nodiscard]] bool has_clusters() const { return order == "kmeans"; }
};

std::vector<ParameterSpec> declared_parameters() {
  ParameterSpec tail =
      choice_parameter("tail", {"corrected", "plain", "none"}, "what stands for segments left aside");
  tail.choice_meanings = {
      "their mean key and value, with the spread of scores and the move of values (no gradient)",
      "their mean key and value", "nothing"};
  ParameterSpec gate =
      choice_parameter("gate", {"mean_spread", "mean"}, "what decides which segments a row opens");
  gate.choice_meanings = {"the mean score and its spread within the segment", "the mean score"};
  ParameterSpec order =
      choice_parameter("order", {"tree", "position", "kmeans"}, "which keys make a segment");
  order.choice_meanings = {"those of a balanced tree of halvings", "neighbours in the sequence",
                           "k-means clusters, of unequal size; one level"};
  return {integer_list_parameter("levels",
                                 "keys of a segment, from the largest to those that are computed exactly")
              .between(1, kMostKeys)
              .by_default(IntegerList{1024, 128, 16}),
          integer_list_parameter(
              "beams", "segments that a row opens, by level (order: kmeans: times levels, a number of keys)")
              .between(1, kMostKeys)
              .by_default(IntegerList{8, 16, 16}),
          tail,
          gate,
          order,
          min_seq_len_parameter(),
          sink_parameter()};
}

/// The order of a node's keys, and the means of its segments by level.
struct RoutedKeys {
  KeyTree tree;
  std::vector<SegmentMeans> means;
};

RoutedKeys route_keys(const BoundProblem& bound, const Call& call, const TreeChoice& choice,
                      const HeadNode& place) {
  const AttentionProblem& problem = bound.problem();
  const MatrixView<const float> keys = problem.keys_of(place.head);
  RoutedKeys routed;
  if (choice.has_clusters())
    routed.tree = clustered_key_tree(keys, place.node, choice.sizes.back(),
                                     node_stream(call, Purpose::centroid, place));
  else if (choice.order == "position")
    routed.tree = positional_key_tree(place.node, choice.sizes);
  else
    routed.tree = balanced_key_tree(keys, place.node, choice.sizes);
  routed.means = segment_means(problem, place.head, routed.tree, choice.spread || choice.is_corrected());
  return routed;
}

BeamChoice choose(const AttentionProblem& problem, const TreeChoice& choice, const HeadNode& place,
                  const RoutedKeys& routed) {
  const MatrixView<const float> queries = problem.query.matrix(place.head);
  BeamRequest request;
  request.queries = rows_between(queries, place.node.query_begin, place.node.query_end);
  request.scale = problem.scale;
  request.tree = &routed.tree;
  request.means = &routed.means;
  request.spread = choice.spread;
  // Small nodes leave out the largest segments.
  request.beams.assign(choice.beams.end() - static_cast<std::ptrdiff_t>(routed.tree.levels.size()),
                       choice.beams.end());
  if (choice.has_clusters()) request.key_budget = choice.beams.back() * choice.sizes.back();
  return choose_segments(request);
}

/// Pieces of at most kSegmentKeys ranks that the segments given by `begins` are cut into.
struct Pieces {
  std::vector<int32_t> begins;  ///< ranks, count + 1
  std::vector<int32_t> first;   ///< of each segment, count of segments + 1

  explicit Pieces(const std::vector<int64_t>& segment_begins) {
    for (size_t s = 0; s + 1 < segment_begins.size(); ++s) {
      first.push_back(static_cast<int32_t>(begins.size()));
      for (int64_t rank = segment_begins[s]; rank < segment_begins[s + 1]; rank += kSegmentKeys)
        begins.push_back(static_cast<int32_t>(rank));
    }
    first.push_back(static_cast<int32_t>(begins.size()));
    begins.push_back(static_cast<int32_t>(segment_begins.back()));
  }
  [[nodiscard]] int64_t count() const { return static_cast<int64_t>(begins.size()) - 1; }
};

/// Row visits of one list, from what each of `rows` rows attends to. `emit(row, skips, add)` calls
/// add(piece, skip), and has a number of each piece for itself.
/// `room`: entries that the pass will have in the end.
template <class EmitRow>
void add_row_visits(int32_t list, int64_t rows, int64_t pieces, int64_t room, const EmitRow& emit,
                    PassBuilder& pass) {
  const int64_t parts = (rows + kRowsOfPart - 1) / kRowsOfPart;
  DenseMatrix<int64_t> places(parts, pieces);
  parallel_for(parts, [&](int64_t part, int) {
    int64_t* counts = places.row(part);
    std::vector<uint32_t> skips(static_cast<size_t>(pieces));
    for (int64_t i = part * kRowsOfPart; i < std::min(rows, (part + 1) * kRowsOfPart); ++i)
      emit(i, skips, [&](int64_t piece, uint16_t) { ++counts[piece]; });
  });
  std::vector<int64_t> begins = {0};
  for (int64_t piece = 0; piece < pieces; ++piece) {
    int64_t place = begins.back();
    for (int64_t part = 0; part < parts; ++part) place += std::exchange(places(part, piece), place);
    begins.push_back(place);
  }
  std::vector<RowEntry> entries;
  entries.reserve(static_cast<size_t>(std::max(room, begins.back())));
  entries.resize(static_cast<size_t>(begins.back()));
  parallel_for(parts, [&](int64_t part, int) {
    int64_t* next = places.row(part);
    std::vector<uint32_t> skips(static_cast<size_t>(pieces));
    for (int64_t i = part * kRowsOfPart; i < std::min(rows, (part + 1) * kRowsOfPart); ++i)
      emit(i, skips, [&](int64_t piece, uint16_t skip) {
        entries[static_cast<size_t>(next[piece]++)] = {static_cast<int32_t>(i), skip};
      });
  });
  pass.visit_segments(list, begins, std::move(entries));
}

/// Calls add(segment) for the segments that a row opens at a level.
template <class Add>
void for_each_opened(const BeamChoice& choice, size_t level, int64_t row, const Add& add) {
  const int32_t* opened = choice.row(level, row);
  for (int64_t c = 0; c < choice.width[level] && opened[c] >= 0; ++c) add(opened[c]);
}

/// The keys of a row's opened runs; or, `others`, all other keys of the node.
void add_runs(const KeyTree& tree, const BeamChoice& choice, int64_t rows, bool others, Stage stage,
              int64_t room, PassBuilder& pass) {
  const size_t last = tree.levels.size() - 1;
  const Pieces pieces(tree.levels[last].begins);
  KeyList list;
  list.order = RowOrder::list(tree.order);
  list.stage = stage;
  list.segments = std::make_shared<const std::vector<int32_t>>(pieces.begins);
  const int32_t number = pass.add_list(std::move(list));
  const auto add_pieces = [&](int64_t first_segment, int64_t last_segment, const auto& add) {
    for (int32_t piece = pieces.first[static_cast<size_t>(first_segment)];
         piece < pieces.first[static_cast<size_t>(last_segment)]; ++piece)
      add(piece, uint16_t{0});
  };
  const auto emit = [&](int64_t row, std::vector<uint32_t>&, const auto& add) {
    int64_t next = 0;
    for_each_opened(choice, last, row, [&](int64_t segment) {
      if (others) add_pieces(next, segment, add);
      if (!others) add_pieces(segment, segment + 1, add);
      next = segment + 1;
    });
    if (others) add_pieces(next, tree.levels[last].count(), add);
  };
  add_row_visits(number, rows, pieces.count(), room, emit, pass);
}

/// The segments of a level that a row looked at and did not open, as mean keys.
class TailLevel {
 public:
  TailLevel(const RoutedKeys& routed, const BeamChoice& choice, size_t level)
      : choice_(choice), level_(level), pieces_(parents_of(routed.tree, level)) {
    for (int64_t piece = 0; piece < pieces_.count(); ++piece)
      piece_of_.resize(static_cast<size_t>(pieces_.begins[static_cast<size_t>(piece) + 1]),
                       static_cast<int32_t>(piece));
  }

  [[nodiscard]] const Pieces& pieces() const { return pieces_; }

  /// Without a branch on what the row opened: which of a segment's children these are is hard to foretell.
  template <class Add>
  void emit(int64_t row, std::vector<uint32_t>& skips, const Add& add) const {
    for_each_piece(row, [&](size_t piece) { skips[piece] = 0; });
    for_each_opened(choice_, level_, row, [&](int32_t segment) {
      const auto piece = static_cast<size_t>(piece_of_[static_cast<size_t>(segment)]);
      skips[piece] |= 1U << (segment - pieces_.begins[piece]);
    });
    for_each_piece(row, [&](size_t piece) {
      const int32_t count = pieces_.begins[piece + 1] - pieces_.begins[piece];
      if (skips[piece] != (1U << count) - 1)
        add(static_cast<int64_t>(piece), static_cast<uint16_t>(skips[piece]));
    });
  }

 private:
  /// Where the children of each segment of the level above begin; the first level's segments are one family.
  static std::vector<int64_t> parents_of(const KeyTree& tree, size_t level) {
    if (level == 0) return {0, tree.levels[0].count()};
    return tree.levels[level - 1].first_child;
  }

  /// Calls body(piece) for the pieces of the children of what the row opened on the level above.
  template <class Body>
  void for_each_piece(int64_t row, const Body& body) const {
    const auto family = [&](int64_t parent) {
      for (int32_t piece = pieces_.first[static_cast<size_t>(parent)];
           piece < pieces_.first[static_cast<size_t>(parent) + 1]; ++piece)
        body(static_cast<size_t>(piece));
    };
    if (level_ == 0)
      family(0);
    else
      for_each_opened(choice_, level_ - 1, row, family);
  }

  const BeamChoice& choice_;
  size_t level_;
  Pieces pieces_;
  std::vector<int32_t> piece_of_;  // by segment
};

/// a_t/2 of the rows, for the weight 1 + a_t·r/2 of a segment's mean.
std::shared_ptr<const std::vector<float>> half_of(std::vector<float> variances) {
  for (float& variance : variances) variance *= 0.5F;
  return std::make_shared<const std::vector<float>>(std::move(variances));
}

KeyList tail_list(const TreeChoice& choice, const RoutedKeys& routed, const BeamChoice& beam, size_t level,
                  const Pieces& pieces) {
  const TreeLevel& segments = routed.tree.levels[level];
  KeyList list;
  list.order = RowOrder::run(0, segments.count());
  std::vector<float> logs;
  for (int64_t s = 0; s < segments.count(); ++s)
    logs.push_back(std::log(static_cast<float>(segments.keys(s))));
  list.log_weight = std::make_shared<const std::vector<float>>(std::move(logs));
  list.synthetic = routed.means[level].means;
  list.stage = Stage::sample;
  list.segments = std::make_shared<const std::vector<int32_t>>(pieces.begins);
  if (!choice.is_corrected()) return list;
  list.linear_value = true;
  list.factor.row = half_of(beam.variance[level]);
  list.factor.rank = std::make_shared<const std::vector<float>>(routed.means[level].spread);
  return list;
}

/// About how many visits a row has; not known beforehand for clusters.
int64_t visits_of_row(const TreeChoice& choice, const KeyTree& tree, const BeamChoice& beam) {
  if (choice.has_clusters()) return 0;
  int64_t visits = beam.width.back();
  for (size_t level = 0; choice.has_tail() && level < tree.levels.size(); ++level)
    visits += level == 0 ? (tree.levels[0].count() + kSegmentKeys - 1) / kSegmentKeys : beam.width[level - 1];
  return visits;
}

Pass tree_pass(const BoundProblem& bound, const TreeChoice& choice, const HeadNode& place,
               const RoutedKeys& routed, const BeamChoice& beam) {
  const AttentionProblem& problem = bound.problem();
  const int64_t rows = place.node.query_count();
  PassBuilder pass(problem, place.head, place.node.number, RowOrder::run(place.node.query_begin, rows));
  if (choice.is_corrected()) {
    LinearValues linear = bound.missed_covariance(place.head, place.node, *routed.means.back().means);
    std::fill(linear.variance.begin(), linear.variance.end(), 0.0F);  // never faded out
    pass.with_linear_values(std::make_shared<const LinearValues>(std::move(linear)));
  }
  pass.group(0, rows);
  add_runs(routed.tree, beam, rows, false, Stage::block, rows * visits_of_row(choice, routed.tree, beam),
           pass);
  for (size_t level = 0; choice.has_tail() && level < routed.tree.levels.size(); ++level) {
    const TailLevel tail(routed, beam, level);
    const int32_t list = pass.add_list(tail_list(choice, routed, beam, level, tail.pieces()));
    add_row_visits(
        list, rows, tail.pieces().count(), 0,
        [&](int64_t row, std::vector<uint32_t>& skips, const auto& add) { tail.emit(row, skips, add); },
        pass);
  }
  return pass.take();
}

/// The runs that each row computes exactly.
class TreeMasks final : public PlannedMasks {
 public:
  TreeMasks(NodeTree tree, std::vector<HeadNode> nodes, std::vector<KeyTree> keys,
            std::vector<BeamChoice> choices)
      : PlannedMasks(std::move(tree), std::move(nodes)),
        keys_(std::move(keys)),
        choices_(std::move(choices)) {}

  [[nodiscard]] Plan masked(const AttentionProblem& problem) const override {
    std::vector<std::vector<Pass>> passes(nodes().size());
    for (size_t i = 0; i < passes.size(); ++i) passes[i].push_back(runs_of(problem, i, false));
    return assemble_plan(problem, tree(), nodes(), std::move(passes));
  }

  [[nodiscard]] Plan unmasked(const AttentionProblem& problem) const override {
    std::map<int, std::vector<Pass>> levels;
    for (size_t i = 0; i < nodes().size(); ++i)
      levels[nodes()[i].node.level].push_back(runs_of(problem, i, true));
    PlanBuilder plan;
    for (auto& [level, passes] : levels) {
      plan.phase(level);
      for (Pass& pass : passes) plan.add(std::move(pass));
    }
    return plan.take();
  }

 private:
  [[nodiscard]] Pass runs_of(const AttentionProblem& problem, size_t i, bool others) const {
    const AttentionNode& node = nodes()[i].node;
    PassBuilder pass(problem, nodes()[i].head, node.number,
                     RowOrder::run(node.query_begin, node.query_count()));
    pass.group(0, node.query_count());
    add_runs(keys_[i], choices_[i], node.query_count(), others, Stage::exact, 0, pass);
    return pass.take();
  }

  std::vector<KeyTree> keys_;
  std::vector<BeamChoice> choices_;
};

/// Entries of a row in a node: segments that it looks at, and keys that it computes exactly.
double row_entries(int64_t keys, const TreeChoice& choice) {
  double entries = 0;
  double active = 0;
  int64_t above = 0;  // size of the level above
  for (size_t t = 0; t < choice.sizes.size(); ++t) {
    const int64_t size = choice.sizes[t];
    if (size >= keys && t + 1 < choice.sizes.size()) continue;
    const auto count = std::ceil(static_cast<double>(keys) / static_cast<double>(size));
    active = above == 0 ? count : std::min(count, active * static_cast<double>(above / size));
    const double opened = std::min(active, static_cast<double>(choice.beams[t]));
    if (choice.has_tail()) entries += active - opened;
    active = opened;
    above = size;
  }
  return entries + std::min(static_cast<double>(keys), active * static_cast<double>(choice.sizes.back()));
}

class TreeMethod final : public DescribedMethod {
 public:
  TreeMethod()
      : DescribedMethod(
            {"tree",
             "the routing tree: runs of keys that each row picks with a beam, and means of all others",
             {.approximate = true},
             declared_parameters()}) {}

  [[nodiscard]] std::string check(const AttentionProblem& shapes,
                                  const Parameters& parameters) const override {
    const TreeChoice choice(parameters);
    if (shapes.window > 0) return "cannot honour a window of keys; only exact attention can";
    const std::string levels = to_string(ParameterValue(choice.sizes));
    if (choice.sizes.empty()) return "levels must name at least one size";
    for (size_t t = 0; t + 1 < choice.sizes.size(); ++t)
      if (choice.sizes[t] <= choice.sizes[t + 1] || choice.sizes[t] % choice.sizes[t + 1] != 0)
        return "levels must fall, and each must divide the one before, but are " + levels;
    if (choice.beams.size() != choice.sizes.size())
      return "beams must have one number for each of levels " + levels + ", but are " +
             to_string(ParameterValue(choice.beams));
    if (choice.has_clusters() && choice.sizes.size() != 1)
      return "order: kmeans has one level, but levels are " + levels;
    return check_sinks(shapes, parameters);
  }
  [[nodiscard]] std::string no_gradient(const Parameters& parameters) const override {
    if (!TreeChoice(parameters).is_corrected()) return {};
    return "has no gradient with tail: corrected, whose means move with the query; use tail: plain";
  }

  [[nodiscard]] double estimated_entries(const AttentionProblem& shapes,
                                         const Parameters& parameters) const override {
    const TreeChoice choice(parameters);
    return estimate_node_entries(shapes, node_tree(shapes, parameters), [&](const AttentionNode& node) {
      return row_entries(node.key_count(), choice);
    });
  }
  [[nodiscard]] double estimated_bytes(const AttentionProblem& shapes,
                                       const Parameters& parameters) const override {
    const TreeChoice choice(parameters);
    double visits = 0;
    for (const int64_t beam : choice.beams)
      visits += 2 * static_cast<double>(std::min(beam, shapes.key_count()));
    const double levels = shapes.causal
                              ? 1 + std::log2(1 + static_cast<double>(shapes.key_count()) /
                                                      static_cast<double>(parameters.integer("min_seq_len")))
                              : 1;
    const double row = levels * visits * (sizeof(RowEntry) + sizeof(int32_t));
    const double key = 4 * static_cast<double>(shapes.head_dim() + shapes.value_dim()) /
                       static_cast<double>(choice.sizes.back());
    return static_cast<double>(shapes.heads()) * (row * static_cast<double>(shapes.query_count()) +
                                                  levels * 2 * key * static_cast<double>(shapes.key_count()));
  }

  [[nodiscard]] PlannedCall plan(const BoundProblem& bound, const Call& call) const override {
    return plan_nodes(bound, call, true);
  }
  [[nodiscard]] std::shared_ptr<const PlannedMasks> plan_masks(const BoundProblem& bound,
                                                               const Call& call) const override {
    return plan_nodes(bound, call, false).masks;
  }

 private:
  static PlannedCall plan_nodes(const BoundProblem& bound, const Call& call, bool whole) {
    const TreeChoice choice(call.parameters);
    NodeTree tree = node_tree(bound.problem(), call.parameters);
    std::vector<HeadNode> nodes = approximated_nodes(tree, bound.problem().heads());
    std::vector<std::vector<Pass>> passes(nodes.size());
    std::vector<KeyTree> keys(nodes.size());
    std::vector<BeamChoice> choices(nodes.size());
    std::vector<PlanningSeconds> spent(nodes.size());
    const Stopwatch watch;
    for_each_node(nodes, [&](size_t i) {
      Stopwatch part;
      RoutedKeys routed = route_keys(bound, call, choice, nodes[i]);
      spent[i].sort = part.seconds();
      part.restart();
      choices[i] = choose(bound.problem(), choice, nodes[i], routed);
      if (whole) passes[i].push_back(tree_pass(bound, choice, nodes[i], routed, choices[i]));
      spent[i].draw = part.seconds();
      keys[i] = std::move(routed.tree);
    });
    PlannedCall planned;
    PlanningSeconds seconds;
    share_out(watch.seconds(), spent, seconds);
    if (whole)
      planned.plan =
          std::make_shared<const Plan>(assemble_plan(bound.problem(), tree, nodes, std::move(passes)));
    planned.masks = std::make_shared<const TreeMasks>(std::move(tree), std::move(nodes), std::move(keys),
                                                      std::move(choices));
    book_planning(seconds, planned.notes);
    return planned;
  }
};

}  // namespace

const Method& method_tree() {
  static const TreeMethod method;
  return method;
}

}  // namespace hyperattn
