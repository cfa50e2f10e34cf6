#include "algorithms/primitives/beam.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <utility>

#include "algorithms/kernels/products.h"
#include "algorithms/kernels/routing.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Of a parallel step: many that open the same segment. `tree` at n = 16384 took 64.3 to 65.1 ms with 48 to
// 768 rows, causal 121 to 122 ms: no difference above the scatter of 1 % (d = 64, Zen 4, one thread).
constexpr int64_t kRows = 192;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

int64_t whole_steps(int64_t count) {
  return (count + kGateStep - 1) / kGateStep * kGateStep;
}

/// What gates need of segments besides their mean keys: √r, and 0, or −∞ for what is no segment.
struct SegmentTerms {
  Buffer<float> root;
  Buffer<float> bias;

  SegmentTerms(const std::vector<float>& spread, int64_t count)
      : root(whole_steps(count), 0.0F), bias(whole_steps(count), -kInfinity) {
    for (size_t s = 0; s < spread.size(); ++s) root[static_cast<int64_t>(s)] = std::sqrt(spread[s]);
    std::fill_n(bias.data(), count, 0.0F);
  }
};

/// The children of each segment of a level side by side, as `RoutingKernels::gate_families` reads them.
class Families {
 public:
  Families(const TreeLevel& parents, const SegmentMeans& children) : depth_(children.means->key.shape().dim) {
    first_tile_.push_back(0);
    for (int64_t p = 0; p < parents.count(); ++p) {
      const int64_t last = parents.children_begin(p + 1);
      for (int64_t s = parents.children_begin(p); s < last; s += kFamilyColumns) {
        first_segment_.push_back(static_cast<int32_t>(s));
        columns_.push_back(static_cast<int32_t>(std::min(kFamilyColumns, last - s)));
      }
      first_tile_.push_back(static_cast<int32_t>(first_segment_.size()));
      most_ = std::max<int64_t>(most_, first_tile_.back() - first_tile_[static_cast<size_t>(p)]);
    }
    tiles_ = Buffer<float>(static_cast<int64_t>(first_segment_.size()) * family_floats(depth_));
    constexpr int64_t kTilesOfTask = 16;
    const auto tiles = static_cast<int64_t>(first_segment_.size());
    parallel_for((tiles + kTilesOfTask - 1) / kTilesOfTask, [&](int64_t task, int) {
      for (int64_t t = task * kTilesOfTask; t < std::min(tiles, (task + 1) * kTilesOfTask); ++t)
        pack(children, t);
    });
  }

  [[nodiscard]] int64_t most_tiles() const { return most_; }  ///< of one segment
  [[nodiscard]] size_t tiles() const { return first_segment_.size(); }

  /// body(tile) for the tiles of a segment's children.
  template <class Body>
  void for_each_tile(int64_t parent, const Body& body) const {
    const auto p = static_cast<size_t>(parent);
    for (int32_t tile = first_tile_[p]; tile < first_tile_[p + 1]; ++tile) body(tile);
  }

  /// What a gate of children needs from here.
  [[nodiscard]] FamilyArguments arguments() const {
    FamilyArguments arguments;
    arguments.depth = depth_;
    arguments.tiles = tiles_.data();
    arguments.first_segment = first_segment_.data();
    return arguments;
  }

 private:
  void pack(const SegmentMeans& children, int64_t tile) {
    const MatrixView<const float> keys = children.means->key.matrix(0);
    const auto t = static_cast<size_t>(tile);
    float* target = tiles_.data() + tile * family_floats(depth_);
    float* roots = target + depth_ * kFamilyColumns;
    std::fill_n(target, (depth_ + 1) * kFamilyColumns, 0.0F);
    std::fill_n(roots + kFamilyColumns, kFamilyColumns, -kInfinity);
    for (int64_t i = 0; i < columns_[t]; ++i) {
      const int64_t segment = first_segment_[t] + i;
      for (int64_t c = 0; c < depth_; ++c) target[c * kFamilyColumns + i] = keys.row(segment)[c];
      if (!children.spread.empty()) roots[i] = std::sqrt(children.spread[static_cast<size_t>(segment)]);
      roots[kFamilyColumns + i] = 0;
    }
  }

  int64_t depth_;
  int64_t most_ = 0;
  std::vector<int32_t> first_tile_;     // by segment, and the end
  std::vector<int32_t> first_segment_;  // by tile
  std::vector<int32_t> columns_;        // by tile
  Buffer<float> tiles_;
};

/// What all threads read.
struct Routes {
  explicit Routes(const BeamRequest& given)
      : request(given),
        first_level(first_level_of_choice(given)),
        first((*given.means)[first_level].means->key.matrix(0)),
        first_terms((*given.means)[first_level].spread, first.count()),
        variances(scaled_variances(given)) {
    const std::vector<TreeLevel>& levels = given.tree->levels;
    most_gates = whole_steps(first.columns());
    for (size_t t = first_level; t + 1 < levels.size(); ++t) {
      families.emplace_back(levels[t], (*given.means)[t + 1]);
      const int64_t opened = std::min(levels[t].count(), given.beams[t]);
      most_gates = std::max(most_gates, whole_steps(opened * families.back().most_tiles() * kFamilyColumns));
    }
    for (const TreeLevel& level : levels) limits.push_back(gate_limit(level));
  }

  /// Of the children of level t.
  [[nodiscard]] const Families& families_of(size_t t) const { return families[t - first_level]; }

  const BeamRequest& request;
  size_t first_level;  // of a choice
  PackedColumns first;
  SegmentTerms first_terms;
  PackedColumns variances;
  std::vector<Families> families;  // by level of the parents, from the first choice on
  std::vector<float> limits;       // of σ in a gate, by level
  int64_t most_gates = 0;          // of one row at a level
};

/// What one thread needs to walk rows.
class Walker {
 public:
  explicit Walker(const Routes& routes)
      : routes_(routes),
        request_(routes.request),
        squares_(kRows * routes.request.queries.cols),
        variances_(kRows * routes.variances.columns()),
        roots_(kRows, 0.0F),
        gates_(kRows * routes.most_gates),
        segments_(kRows * routes.most_gates),
        chosen_(routes.most_gates + kGateStep),
        pairs_(kRows * routes.most_gates / kFamilyColumns),
        sorted_pairs_(pairs_.size()) {}

  void walk(int64_t begin, int64_t end, BeamChoice& choice) {
    find_variances(begin, end, choice);
    gate_first(begin, end, choice);
    const size_t levels = request_.tree->levels.size();
    for (size_t t = routes_.first_level; t < levels; ++t) {
      if (t > routes_.first_level) gate_children(begin, end, t, choice);
      for (int64_t i = begin; i < end; ++i) open_largest(i, begin, t, choice);
    }
  }

 private:
  void find_variances(int64_t begin, int64_t end, BeamChoice& choice) {
    if (choice.variance.empty()) return;
    const int64_t d = request_.queries.cols;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t c = 0; c < d; ++c)
        squares_[(i - begin) * d + c] = request_.queries.row(i)[c] * request_.queries.row(i)[c];
    routes_.variances.multiply({squares_.data(), end - begin, d, d}, nullptr, variances_.data());
    for (size_t t = 0; t < choice.variance.size(); ++t)
      for (int64_t i = begin; i < end; ++i)
        choice.variance[t][static_cast<size_t>(i)] =
            variances_[(i - begin) * routes_.variances.columns() + static_cast<int64_t>(t)];
  }

  void open_largest(int64_t i, int64_t begin, size_t t, BeamChoice& choice) {
    const int64_t row = (i - begin) * routes_.most_gates;
    const int64_t count =
        choose(t, gates_.data() + row, segments_.data() + row, counts_[static_cast<size_t>(i - begin)]);
    int32_t* opened = choice.opened[t].data() + i * choice.width[t];
    std::copy_n(chosen_.data(), count, opened);
    if (count < choice.width[t]) opened[count] = -1;
  }

  /// Of gates at level t; sets the roots of rows [begin, end).
  GateTerms terms(int64_t begin, int64_t end, size_t t, const BeamChoice& choice) {
    GateTerms terms;
    terms.scale = request_.scale;
    if (!request_.spread) return terms;
    for (int64_t i = begin; i < end; ++i)
      roots_[i - begin] = std::sqrt(choice.variance[t][static_cast<size_t>(i)]);
    terms.limit = routes_.limits[t];
    return terms;
  }

  /// Gates of all segments of the first level that has a choice.
  void gate_first(int64_t begin, int64_t end, const BeamChoice& choice) {
    const MatrixView<const float>& q = request_.queries;
    const int64_t columns = routes_.first.columns();
    routes_.first.multiply({q.row(begin), end - begin, q.cols, q.stride}, nullptr, gates_.data(),
                           routes_.most_gates);
    GateTerms own = terms(begin, end, routes_.first_level, choice);
    for (int64_t i = 0; i < end - begin; ++i) {
      own.root = roots_[i];
      const int64_t row = i * routes_.most_gates;
      routing_kernels().gate(gates_.data() + row, routes_.first_terms.root.data(),
                             routes_.first_terms.bias.data(), columns, own);
      std::iota(segments_.data() + row, segments_.data() + row + columns, 0);
      counts_[static_cast<size_t>(i)] = fill_step(row, columns);
    }
  }

  /// Gates of the children of what rows [begin, end) opened on level t − 1.
  void gate_children(int64_t begin, int64_t end, size_t t, const BeamChoice& choice) {
    const Families& families = routes_.families_of(t - 1);
    find_pairs(begin, end, t, families, choice);
    FamilyArguments arguments = families.arguments();
    arguments.queries = request_.queries.row(begin);
    arguments.stride = request_.queries.stride;
    arguments.pairs = sorted_pairs_.data();
    arguments.count = pair_count_;
    arguments.terms = terms(begin, end, t, choice);
    arguments.roots = roots_.data();
    arguments.gates = gates_.data();
    arguments.segments = segments_.data();
    routing_kernels().gate_families(arguments);
  }

  /// Which rows look at which tiles, in order of tiles.
  void find_pairs(int64_t begin, int64_t end, size_t t, const Families& families, const BeamChoice& choice) {
    GatePair* next = pairs_.data();
    for (int64_t i = begin; i < end; ++i) {
      const auto row = static_cast<int32_t>(i - begin);
      const auto first = static_cast<int32_t>(row * routes_.most_gates / kFamilyColumns);
      int32_t place = first;
      const int32_t* opened = choice.row(t - 1, i);
      for (int64_t c = 0; c < choice.width[t - 1] && opened[c] >= 0; ++c)
        families.for_each_tile(opened[c], [&](int32_t tile) { *next++ = {tile, row, place++}; });
      counts_[static_cast<size_t>(row)] = fill_step(first * kFamilyColumns, (place - first) * kFamilyColumns);
    }
    pair_count_ = next - pairs_.data();
    next_pair_.assign(families.tiles() + 1, 0);
    for (int64_t p = 0; p < pair_count_; ++p) ++next_pair_[static_cast<size_t>(pairs_[p].tile) + 1];
    std::partial_sum(next_pair_.begin(), next_pair_.end(), next_pair_.begin());
    int32_t* const places = next_pair_.data();
    for (int64_t p = 0; p < pair_count_; ++p) sorted_pairs_[places[pairs_[p].tile]++] = pairs_[p];
  }

  /// Fills a row's `count` gates to whole steps, which it returns.
  int64_t fill_step(int64_t row, int64_t count) {
    const int64_t whole = whole_steps(count);
    std::fill(gates_.data() + row + count, gates_.data() + row + whole, -kInfinity);
    return whole;
  }

  /// Those of `count` segments that a row opens for their gates, in chosen_; returns how many.
  int64_t choose(size_t t, const float* gates, const int32_t* segments, int64_t count) {
    const std::vector<TreeLevel>& levels = request_.tree->levels;
    if (t + 1 == levels.size() && request_.key_budget > 0)
      return choose_within_budget(levels[t], gates, segments, count);
    return routing_kernels().largest(gates, segments, count, request_.beams[t], chosen_.data());
  }

  /// The largest gates while their keys fit the budget, at least one.
  int64_t choose_within_budget(const TreeLevel& level, const float* gates, const int32_t* segments,
                               int64_t count) {
    places_.clear();
    for (int64_t g = 0; g < count; ++g)
      if (gates[g] > -kInfinity) places_.push_back(static_cast<int32_t>(g));
    std::stable_sort(places_.begin(), places_.end(),
                     [&](int32_t a, int32_t b) { return gates[a] > gates[b]; });
    int64_t keys = 0;
    int64_t opened = 0;
    for (const int32_t place : places_) {
      keys += level.keys(segments[place]);
      if (opened > 0 && keys > request_.key_budget) break;
      chosen_[opened++] = segments[place];
    }
    std::sort(chosen_.data(), chosen_.data() + opened);
    return opened;
  }

  const Routes& routes_;
  const BeamRequest& request_;
  Buffer<float> squares_;
  Buffer<float> variances_;
  Buffer<float> roots_;                  // by row
  Buffer<float> gates_;                  // row by row
  Buffer<int32_t> segments_;             // of the gates
  std::array<int64_t, kRows> counts_{};  // of gates, by row, in whole steps
  Buffer<int32_t> chosen_;
  Buffer<GatePair> pairs_;
  Buffer<GatePair> sorted_pairs_;
  int64_t pair_count_ = 0;
  std::vector<int32_t> next_pair_;  // by tile
  std::vector<int32_t> places_;
};

/// Most segments that a row can open.
int64_t width_of(const BeamRequest& request, size_t t) {
  const TreeLevel& level = request.tree->levels[t];
  const bool by_keys = t + 1 == request.tree->levels.size() && request.key_budget > 0;
  return by_keys ? std::min(level.count(), request.key_budget + 1)
                 : std::min(level.count(), request.beams[t]);
}

}  // namespace

size_t first_level_of_choice(const BeamRequest& request) {
  const std::vector<TreeLevel>& levels = request.tree->levels;
  size_t t = 0;
  while (t + 1 < levels.size() && levels[t].count() <= request.beams[t]) ++t;
  return t;
}

DenseMatrix<float> scaled_variances(const BeamRequest& request) {
  const std::vector<SegmentMeans>& means = *request.means;
  const bool known = !means[0].variance.empty();
  DenseMatrix<float> rows(known ? static_cast<int64_t>(means.size()) : 0, request.queries.cols);
  for (int64_t t = 0; t < rows.rows; ++t)
    for (int64_t c = 0; c < rows.cols; ++c)
      rows(t, c) =
          request.scale * request.scale * means[static_cast<size_t>(t)].variance[static_cast<size_t>(c)];
  return rows;
}

float gate_limit(const TreeLevel& level) {
  return std::sqrt(2 * std::log(static_cast<float>(level.size)));
}

BeamChoice room_for_choice(const BeamRequest& request) {
  const size_t levels = request.tree->levels.size();
  const size_t first = first_level_of_choice(request);
  const int64_t rows = request.queries.rows;
  BeamChoice choice;
  for (size_t t = 0; t < levels; ++t) {
    const int64_t width = width_of(request, t);
    choice.width.push_back(width);
    choice.opened.emplace_back(static_cast<size_t>(rows * width));
    if (t >= first) continue;
    parallel_for((rows + kRows - 1) / kRows, [&](int64_t block, int) {
      for (int64_t i = block * kRows; i < std::min(rows, (block + 1) * kRows); ++i) {
        int32_t* opened = choice.opened[t].data() + i * width;
        std::iota(opened, opened + width, 0);
      }
    });
  }
  choice.variance.resize((*request.means)[0].variance.empty() ? 0 : levels,
                         std::vector<float>(static_cast<size_t>(rows)));
  return choice;
}

BeamChoice choose_segments(const BeamRequest& request) {
  const int64_t rows = request.queries.rows;
  BeamChoice choice = room_for_choice(request);
  const Routes routes(request);
  std::vector<std::unique_ptr<Walker>> walkers(static_cast<size_t>(thread_count()));
  parallel_for((rows + kRows - 1) / kRows, [&](int64_t block, int worker) {
    auto& mine = walkers[static_cast<size_t>(worker)];
    if (!mine) mine = std::make_unique<Walker>(routes);
    mine->walk(block * kRows, std::min(rows, (block + 1) * kRows), choice);
  });
  return choice;
}

}  // namespace hyperattn
