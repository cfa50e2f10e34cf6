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
// At least: their entries stay in the second-level cache. At n = 16384 `tree` took 62.2, 62.9, 63.6, 64.0 and
// 68.7 ms with 256, 512, 1024, 2048 and 4096 rows, causal 119 to 120 ms with any of them (d = 64, Zen 4, one
// thread; equal runs differ by 2 %).
constexpr int64_t kRowsOfGroup = 1024;

const IntegerList& default_levels() {
  static const IntegerList levels = {1024, 128, 16};
  return levels;
}

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

  /// The choice for a node. A row looks at all segments of the first level, whose number grows with the node:
  /// where the default levels begin with more than kMostFirst, larger ones go in front. As long as their beam
  /// opens all of these, rows open what they opened without them. Levels that were chosen are left alone.
  [[nodiscard]] TreeChoice for_keys(int64_t keys) const {
    constexpr int64_t kMostFirst = 64;
    constexpr int64_t kFactor = 8;
    TreeChoice own = *this;
    while (sizes == default_levels() && keys > kMostFirst * own.sizes.front()) {
      own.sizes.insert(own.sizes.begin(), kFactor * own.sizes.front());
      own.beams.insert(own.beams.begin(), own.beams.front());
    }
    return own;
  }
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
  return {
      integer_list_parameter("levels",
                             "keys of a segment, from the largest to those that are computed exactly; the "
                             "default has larger ones in front for more than 65536 keys")
          .between(1, kMostKeys)
          .by_default(default_levels()),
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
  const MatrixView<const float> keys = bound.shapes().keys_of(place.head);
  RoutedKeys routed;
  if (choice.has_clusters())
    routed.tree = clustered_key_tree(bound, keys, place.node, choice.sizes.back(),
                                     node_stream(call, Purpose::centroid, place));
  else if (choice.order == "position")
    routed.tree = positional_key_tree(place.node, choice.sizes);
  else
    routed.tree = bound.balanced_key_tree(keys, place.node, choice.sizes);
  routed.means = bound.segment_means(place.head, routed.tree, choice.spread || choice.is_corrected());
  return routed;
}

BeamChoice choose(const BoundProblem& bound, const TreeChoice& choice, const HeadNode& place,
                  const RoutedKeys& routed) {
  const AttentionProblem& problem = bound.shapes();
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
  return bound.choose_segments(request);
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
  /// Of one segment.
  [[nodiscard]] int64_t most() const {
    int32_t most = 0;
    for (size_t s = 0; s + 1 < first.size(); ++s) most = std::max(most, first[s + 1] - first[s]);
    return most;
  }
};

/// A piece that a row visits.
struct PieceVisit {
  int32_t piece;
  RowEntry entry;
};

/// Writes the row visits of a group of query rows of a pass, list by list. One writer writes many groups,
/// whose memory it keeps.
class VisitWriter {
 public:
  void begin_group(int64_t begin, int64_t end) {
    begin_ = begin;
    end_ = end;
  }

  /// `emit(row, skips, next)` writes the pieces that a row visits, at most `most`, from `next` on and returns
  /// their end; it has a number of each piece for itself. Three plain loops: where rows go is known when all
  /// are.
  template <class EmitRow>
  void add_list(int32_t list, int64_t pieces, int64_t most, const EmitRow& emit) {
    skips_.resize(static_cast<size_t>(pieces));
    int64_t count = 0;
    for (int64_t row = begin_; row < end_; ++row) {
      if (const auto needed = static_cast<size_t>(count + most); emitted_.size() < needed)
        emitted_.resize(2 * needed);
      PieceVisit* const first = emitted_.data();
      count = emit(static_cast<int32_t>(row), skips_.data(), first + count) - first;
    }
    place(list, pieces, count);
  }

  [[nodiscard]] RowVisits take() { return std::exchange(group_, {}); }

 private:
  /// The first `count` emitted ones in order of pieces.
  void place(int32_t list, int64_t pieces, int64_t count) {
    next_.assign(static_cast<size_t>(pieces) + 1, 0);
    const PieceVisit* const emitted = emitted_.data();
    for (int64_t i = 0; i < count; ++i) ++next_[static_cast<size_t>(emitted[i].piece) + 1];
    auto begin = static_cast<int64_t>(group_.entries.size());
    next_[0] = begin;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      int64_t& end = next_[static_cast<size_t>(piece) + 1];
      end += begin;
      if (begin < end) group_.visits.push_back({list, static_cast<int32_t>(piece), begin, end});
      begin = end;
    }
    group_.entries.resize(static_cast<size_t>(begin));
    RowEntry* const entries = group_.entries.data();
    for (int64_t i = 0; i < count; ++i)
      entries[next_[static_cast<size_t>(emitted[i].piece)]++] = emitted[i].entry;
  }

  int64_t begin_ = 0;
  int64_t end_ = 0;
  RowVisits group_;
  std::vector<PieceVisit> emitted_;
  std::vector<int64_t> next_;  // by piece
  std::vector<uint32_t> skips_;
};

/// Rows of a group: more where there are many keys, so that a visit has rows to share.
int64_t rows_of_group(int64_t keys) {
  return std::max(kRowsOfGroup, keys / kSegmentKeys / kRowsOfGroup * kRowsOfGroup);
}

/// `write(writer)` for groups of rows, which become groups of the pass.
template <class Write>
void add_groups(int64_t rows, int64_t rows_each, const Write& write, PassBuilder& pass) {
  std::vector<RowVisits> groups(static_cast<size_t>((rows + rows_each - 1) / rows_each));
  std::vector<VisitWriter> writers(static_cast<size_t>(thread_count()));
  parallel_for(static_cast<int64_t>(groups.size()), [&](int64_t g, int worker) {
    VisitWriter& writer = writers[static_cast<size_t>(worker)];
    writer.begin_group(g * rows_each, std::min(rows, (g + 1) * rows_each));
    write(writer);
    groups[static_cast<size_t>(g)] = writer.take();
  });
  int64_t entries = 0;
  for (const RowVisits& group : groups) entries += static_cast<int64_t>(group.entries.size());
  pass.reserve_row_entries(entries);
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto begin = static_cast<int64_t>(g) * rows_each;
    pass.group(begin, std::min(rows, begin + rows_each)).visit_rows(groups[g]);
  }
}

/// Calls add(segment) for the segments that a row opens at a level.
template <class Add>
[[gnu::always_inline]] inline void for_each_opened(const BeamChoice& choice, size_t level, int64_t row,
                                                   const Add& add) {
  const int32_t* opened = choice.row(level, row);
  for (int64_t c = 0; c < choice.width[level] && opened[c] >= 0; ++c) add(opened[c]);
}

/// The keys of a row's opened runs; or, `others`, all other keys of the node.
class RunVisits {
 public:
  RunVisits(const KeyTree& tree, const BeamChoice& choice, bool others, Stage stage, PassBuilder& pass)
      : tree_(tree), choice_(choice), others_(others), pieces_(tree.levels.back().begins) {
    KeyList list;
    list.order = RowOrder::list(tree.order);
    list.stage = stage;
    list.segments = std::make_shared<const std::vector<int32_t>>(pieces_.begins);
    list_ = pass.add_list(std::move(list));
  }

  void write(VisitWriter& writer) const {
    const int64_t opened = choice_.width.back() * pieces_.most();
    const int64_t most = others_ ? pieces_.count() : std::min(pieces_.count(), opened);
    writer.add_list(list_, pieces_.count(), most,
                    [this](int32_t row, uint32_t* /*skips*/, PieceVisit* next) { return emit(row, next); });
  }

 private:
  PieceVisit* emit(int32_t row, PieceVisit* visit) const {
    const size_t last = tree_.levels.size() - 1;
    int64_t next = 0;
    for_each_opened(choice_, last, row, [&](int64_t segment) {
      visit = others_ ? add_pieces(next, segment, row, visit) : add_pieces(segment, segment + 1, row, visit);
      next = segment + 1;
    });
    return others_ ? add_pieces(next, tree_.levels[last].count(), row, visit) : visit;
  }

  PieceVisit* add_pieces(int64_t first_segment, int64_t last_segment, int32_t row, PieceVisit* visit) const {
    for (int32_t piece = pieces_.first[static_cast<size_t>(first_segment)];
         piece < pieces_.first[static_cast<size_t>(last_segment)]; ++piece)
      *visit++ = {piece, {row, 0}};
    return visit;
  }

  const KeyTree& tree_;
  const BeamChoice& choice_;
  bool others_;
  Pieces pieces_;
  int32_t list_ = 0;
};

/// The segments of a level that a row looked at and did not open, as mean keys.
class TailLevel {
 public:
  TailLevel(const RoutedKeys& routed, const BeamChoice& choice, size_t level)
      : choice_(choice),
        level_(level),
        one_family_(opens_all_above(routed.tree, choice, level)),
        pieces_(parents_of(routed.tree, level)) {
    for (int64_t piece = 0; piece < pieces_.count(); ++piece) {
      const auto p = static_cast<size_t>(piece);
      all_.push_back((1U << (pieces_.begins[p + 1] - pieces_.begins[p])) - 1);
      for (int32_t segment = pieces_.begins[p]; segment < pieces_.begins[p + 1]; ++segment)
        seats_.push_back({static_cast<int32_t>(piece), 1U << (segment - pieces_.begins[p])});
    }
  }

  [[nodiscard]] const Pieces& pieces() const { return pieces_; }

  /// Pieces of a row at most.
  [[nodiscard]] int64_t most_pieces() const {
    const int64_t opened = one_family_ ? 1 : choice_.width[level_ - 1];
    return std::min(pieces_.count(), opened * pieces_.most());
  }

  /// Without a branch on what the row opened: which of a segment's children these are is hard to foretell.
  PieceVisit* emit(int32_t row, uint32_t* skips, PieceVisit* visit) const {
    for_each_piece(row, [&](size_t piece) { skips[piece] = 0; });
    const Seat* const seats = seats_.data();
    for_each_opened(choice_, level_, row,
                    [&](int32_t segment) { skips[seats[segment].piece] |= seats[segment].bit; });
    const uint32_t* const all = all_.data();
    for_each_piece(row, [&](size_t piece) {
      *visit = {static_cast<int32_t>(piece), {row, static_cast<uint16_t>(skips[piece])}};
      visit += skips[piece] != all[piece] ? 1 : 0;
    });
    return visit;
  }

 private:
  /// Where a segment stands.
  struct Seat {
    int32_t piece;
    uint32_t bit;  // in what a row skips of the piece
  };

  /// Whether every row looks at all segments of the level, which are one family then.
  static bool opens_all_above(const KeyTree& tree, const BeamChoice& choice, size_t level) {
    for (size_t t = 0; t < level; ++t)
      if (choice.width[t] < tree.levels[t].count()) return false;
    return true;
  }

  /// Where the children of each segment of the level above begin.
  [[nodiscard]] std::vector<int64_t> parents_of(const KeyTree& tree, size_t level) const {
    if (one_family_) return {0, tree.levels[level].count()};
    return tree.levels[level - 1].first_child;
  }

  /// Calls body(piece) for the pieces of the children of what the row opened on the level above.
  template <class Body>
  [[gnu::always_inline]] void for_each_piece(int64_t row, const Body& body) const {
    const auto family = [&](int64_t parent) {
      for (int32_t piece = pieces_.first[static_cast<size_t>(parent)];
           piece < pieces_.first[static_cast<size_t>(parent) + 1]; ++piece)
        body(static_cast<size_t>(piece));
    };
    if (one_family_)
      family(0);
    else
      for_each_opened(choice_, level_ - 1, row, family);
  }

  const BeamChoice& choice_;
  size_t level_;
  bool one_family_;
  Pieces pieces_;
  std::vector<Seat> seats_;    // by segment
  std::vector<uint32_t> all_;  // the bits of a piece
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

Pass tree_pass(const BoundProblem& bound, const TreeChoice& choice, const HeadNode& place,
               const RoutedKeys& routed, const BeamChoice& beam) {
  const AttentionProblem& problem = bound.shapes();
  const int64_t rows = place.node.query_count();
  PassBuilder pass(problem, place.head, place.node.number, RowOrder::run(place.node.query_begin, rows));
  if (choice.is_corrected()) {
    LinearValues linear = bound.missed_covariance(place.head, place.node, *routed.means.back().means);
    std::fill(linear.variance.begin(), linear.variance.end(), 0.0F);  // never faded out
    pass.with_linear_values(std::make_shared<const LinearValues>(std::move(linear)));
  }
  const RunVisits runs(routed.tree, beam, false, Stage::block, pass);
  std::vector<TailLevel> tails;
  std::vector<int32_t> lists;
  for (size_t level = 0; choice.has_tail() && level < routed.tree.levels.size(); ++level) {
    tails.emplace_back(routed, beam, level);
    lists.push_back(pass.add_list(tail_list(choice, routed, beam, level, tails.back().pieces())));
  }
  const auto write = [&](VisitWriter& writer) {
    runs.write(writer);
    for (size_t level = 0; level < tails.size(); ++level)
      writer.add_list(lists[level], tails[level].pieces().count(), tails[level].most_pieces(),
                      [&](int32_t row, uint32_t* skips, PieceVisit* next) {
                        return tails[level].emit(row, skips, next);
                      });
  };
  add_groups(rows, rows_of_group(place.node.key_count()), write, pass);
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
    const RunVisits runs(keys_[i], choices_[i], others, Stage::exact, pass);
    add_groups(
        node.query_count(), rows_of_group(node.key_count()), [&](VisitWriter& writer) { runs.write(writer); },
        pass);
    return pass.take();
  }

  std::vector<KeyTree> keys_;
  std::vector<BeamChoice> choices_;
};

/// Entries of a row in a node: segments that it looks at, and keys that it computes exactly.
double row_entries(int64_t keys, const TreeChoice& given) {
  const TreeChoice choice = given.for_keys(keys);
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
    const TreeChoice given(call.parameters);
    NodeTree tree = node_tree(bound.shapes(), call.parameters);
    std::vector<HeadNode> nodes = approximated_nodes(tree, bound.shapes().heads());
    std::vector<std::vector<Pass>> passes(nodes.size());
    std::vector<KeyTree> keys(nodes.size());
    std::vector<BeamChoice> choices(nodes.size());
    std::vector<PlanningSeconds> spent(nodes.size());
    const Stopwatch watch;
    for_each_node(nodes, [&](size_t i) {
      Stopwatch part;
      const TreeChoice choice = given.for_keys(nodes[i].node.key_count());
      RoutedKeys routed = route_keys(bound, call, choice, nodes[i]);
      spent[i].sort = part.seconds();
      part.restart();
      choices[i] = choose(bound, choice, nodes[i], routed);
      if (whole) passes[i].push_back(tree_pass(bound, choice, nodes[i], routed, choices[i]));
      spent[i].draw = part.seconds();
      keys[i] = std::move(routed.tree);
    });
    PlannedCall planned;
    PlanningSeconds seconds;
    share_out(watch.seconds(), spent, seconds);
    if (whole)
      planned.plan =
          std::make_shared<const Plan>(assemble_plan(bound.shapes(), tree, nodes, std::move(passes)));
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
