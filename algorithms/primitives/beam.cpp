#include "algorithms/primitives/beam.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "algorithms/kernels/products.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kRows = 48;   // of a parallel step
constexpr int64_t kWide = 16;   // children side by side in a tile
constexpr int64_t kNarrow = 8;  // the same where no segment has more

/// The mean keys of each segment's children, side by side: tile p is d × width numbers.
class ChildTiles {
 public:
  ChildTiles(const TreeLevel& parents, MatrixView<const float> children) : d_(children.cols) {
    int64_t most = 0;
    for (int64_t p = 0; p < parents.count(); ++p)
      most = std::max(most, parents.children_begin(p + 1) - parents.children_begin(p));
    width_ = most <= kNarrow ? kNarrow : kWide;
    first_tile_.push_back(0);
    for (int64_t p = 0; p < parents.count(); ++p)
      first_tile_.push_back(first_tile_.back() +
                            (parents.children_begin(p + 1) - parents.children_begin(p) + width_ - 1) /
                                width_);
    tiles_ = Buffer<float>(first_tile_.back() * d_ * width_, 0.0F);
    parallel_for(parents.count(), [&](int64_t p, int) { pack(parents, children, p); });
  }

  /// Scores of all children of a segment; `out` has room for whole tiles.
  void score(const float* query, int64_t parent, float* out) const {
    for (int64_t tile = first_tile_[static_cast<size_t>(parent)];
         tile < first_tile_[static_cast<size_t>(parent) + 1]; ++tile, out += width_) {
      if (width_ == kNarrow)
        score_tile<kNarrow>(query, tiles_.data() + tile * d_ * width_, out);
      else
        score_tile<kWide>(query, tiles_.data() + tile * d_ * width_, out);
    }
  }

 private:
  void pack(const TreeLevel& parents, MatrixView<const float> children, int64_t parent) {
    float* tile = tiles_.data() + first_tile_[static_cast<size_t>(parent)] * d_ * width_;
    const int64_t first = parents.children_begin(parent);
    const int64_t count = parents.children_begin(parent + 1) - first;
    for (int64_t i = 0; i < count; ++i)
      for (int64_t c = 0; c < d_; ++c)
        tile[(i / width_) * d_ * width_ + c * width_ + i % width_] = children.row(first + i)[c];
  }

  template <int64_t Width>
  void score_tile(const float* query, const float* tile, float* out) const {
    float sums[Width] = {};
    for (int64_t c = 0; c < d_; ++c, tile += Width)
      for (int64_t i = 0; i < Width; ++i) sums[i] += query[c] * tile[i];
    std::copy(sums, sums + Width, out);
  }

  int64_t d_;
  int64_t width_ = kNarrow;
  std::vector<int64_t> first_tile_;
  Buffer<float> tiles_;
};

/// Places of the `keep` largest of `count` numbers, increasing; of equal ones the first.
class LargestOf {
 public:
  void choose(const float* x, int64_t count, int64_t keep, std::vector<int32_t>& places) {
    places.clear();
    if (keep >= count) {
      for (int64_t i = 0; i < count; ++i) places.push_back(static_cast<int32_t>(i));
      return;
    }
    const float border = threshold(x, count, keep);
    const int64_t above = count_if_above(x, count, border);
    int64_t equal = keep - above;
    for (int64_t i = 0; i < count; ++i) {
      if (!(x[i] >= border)) continue;
      if (x[i] == border && equal-- <= 0) continue;
      places.push_back(static_cast<int32_t>(i));
    }
  }

 private:
  static int64_t count_if_above(const float* x, int64_t count, float border) {
    int32_t above = 0;
    for (int64_t i = 0; i < count; ++i) above += x[i] > border ? 1 : 0;
    return above;
  }

  /// The keep-th largest number, or one just below that parts as many.
  float threshold(const float* x, int64_t count, int64_t keep) {
    float low = x[0];
    float high = x[0];
    for (int64_t i = 1; i < count; ++i) {
      low = std::min(low, x[i]);
      high = std::max(high, x[i]);
    }
    constexpr int kSteps = 16;
    for (int step = 0; step < kSteps; ++step) {
      const float middle = low + 0.5F * (high - low);
      if (!(low < middle && middle < high)) break;
      const int64_t above = count_if_above(x, count, middle);
      if (above == keep) return middle;
      (above > keep ? low : high) = middle;
    }
    copy_.assign(x, x + count);
    const auto place = copy_.begin() + (keep - 1);
    std::nth_element(copy_.begin(), place, copy_.end(), std::greater<>());
    return *place;
  }

  std::vector<float> copy_;
};

/// What one thread needs to walk rows.
class Walker {
 public:
  Walker(const BeamRequest& request, const PackedColumns& first, const std::vector<ChildTiles>& tiles,
         const std::vector<std::vector<float>>& roots)
      : request_(request),
        first_(first),
        tiles_(tiles),
        roots_(roots),
        first_scores_(kRows * first.columns()) {}

  void walk(int64_t begin, int64_t end, BeamChoice& choice) {
    const MatrixView<const float>& q = request_.queries;
    first_.multiply({q.row(begin), end - begin, q.cols, q.stride}, nullptr, first_scores_.data());
    for (int64_t i = begin; i < end; ++i)
      walk_row(i, first_scores_.data() + (i - begin) * first_.columns(), choice);
  }

 private:
  void walk_row(int64_t i, const float* first, BeamChoice& choice) {
    const size_t levels = request_.tree->levels.size();
    active_.resize(static_cast<size_t>(first_.count()));
    std::iota(active_.begin(), active_.end(), 0);
    gates_.assign(first, first + first_.count());
    for (size_t t = 0; t < levels; ++t) {
      gate(i, t);
      choose(t, t + 1 == levels);
      int32_t* opened = choice.opened[t].data() + i * choice.width[t];
      for (size_t c = 0; c < places_.size(); ++c) opened[c] = active_[static_cast<size_t>(places_[c])];
      if (static_cast<int64_t>(places_.size()) < choice.width[t]) opened[places_.size()] = -1;
      if (t + 1 < levels) descend(i, t, opened, static_cast<int64_t>(places_.size()));
    }
  }

  /// Turns q·k̄ of the active segments into gates.
  void gate(int64_t i, size_t t) {
    const float scale = request_.scale;
    for (float& x : gates_) x *= scale;
    if (!request_.spread) return;
    const SegmentMeans& means = (*request_.means)[t];
    const float root = std::sqrt(score_variance(request_.queries.row(i), scale, means.variance));
    const auto size = static_cast<float>(request_.tree->levels[t].size);
    const float limit = std::sqrt(2 * std::log(size));
    const std::vector<float>& roots = roots_[t];
    for (size_t a = 0; a < gates_.size(); ++a) {
      const float sigma = root * roots[static_cast<size_t>(active_[a])];
      const float tangent = std::min(sigma, limit);
      gates_[a] += tangent * (sigma - 0.5F * tangent);
    }
  }

  void choose(size_t t, bool last) {
    const auto count = static_cast<int64_t>(gates_.size());
    if (!last || request_.key_budget == 0)
      largest_.choose(gates_.data(), count, request_.beams[t], places_);
    else
      choose_within_budget(request_.tree->levels[t]);
  }

  /// The largest gates while their keys fit the budget, at least one.
  void choose_within_budget(const TreeLevel& level) {
    std::vector<int32_t> order(gates_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return gates_[static_cast<size_t>(a)] > gates_[static_cast<size_t>(b)];
    });
    places_.clear();
    int64_t keys = 0;
    for (const int32_t place : order) {
      keys += level.keys(active_[static_cast<size_t>(place)]);
      if (!places_.empty() && keys > request_.key_budget) break;
      places_.push_back(place);
    }
    std::sort(places_.begin(), places_.end());
  }

  void descend(int64_t i, size_t t, const int32_t* opened, int64_t count) {
    const TreeLevel& level = request_.tree->levels[t];
    active_.clear();
    gates_.clear();
    float scores[kWide];
    for (int64_t c = 0; c < count; ++c) {
      const int64_t first = level.children_begin(opened[c]);
      const int64_t last = level.children_begin(opened[c] + 1);
      children_.resize(static_cast<size_t>((last - first + kWide - 1) / kWide * kWide));
      float* out = last - first <= kWide ? scores : children_.data();
      tiles_[t].score(request_.queries.row(i), opened[c], out);
      for (int64_t child = first; child < last; ++child) {
        active_.push_back(static_cast<int32_t>(child));
        gates_.push_back(out[child - first]);
      }
    }
  }

  const BeamRequest& request_;
  const PackedColumns& first_;
  const std::vector<ChildTiles>& tiles_;
  const std::vector<std::vector<float>>& roots_;
  Buffer<float> first_scores_;
  std::vector<int32_t> active_;
  std::vector<float> gates_;
  std::vector<float> children_;
  std::vector<int32_t> places_;
  LargestOf largest_;
};

/// Most segments that a row can open.
int64_t width_of(const BeamRequest& request, size_t t) {
  const TreeLevel& level = request.tree->levels[t];
  const bool by_keys = t + 1 == request.tree->levels.size() && request.key_budget > 0;
  return by_keys ? std::min(level.count(), request.key_budget + 1)
                 : std::min(level.count(), request.beams[t]);
}

}  // namespace

float score_variance(const float* query, float scale, const std::vector<float>& variance) {
  float sum = 0;
  for (size_t c = 0; c < variance.size(); ++c) sum += query[c] * query[c] * variance[c];
  return scale * scale * sum;
}

BeamChoice choose_segments(const BeamRequest& request) {
  const std::vector<TreeLevel>& levels = request.tree->levels;
  const int64_t rows = request.queries.rows;
  BeamChoice choice;
  for (size_t t = 0; t < levels.size(); ++t) {
    choice.width.push_back(width_of(request, t));
    choice.opened.emplace_back(static_cast<size_t>(rows * choice.width[t]));
  }
  std::vector<ChildTiles> tiles;
  std::vector<std::vector<float>> roots;
  for (size_t t = 0; t < levels.size(); ++t) {
    if (t + 1 < levels.size()) tiles.emplace_back(levels[t], (*request.means)[t + 1].means->key.matrix(0));
    std::vector<float>& own = roots.emplace_back();
    for (const float spread : (*request.means)[t].spread) own.push_back(std::sqrt(spread));
  }
  const PackedColumns first((*request.means)[0].means->key.matrix(0));
  parallel_for((rows + kRows - 1) / kRows, [&](int64_t block, int) {
    Walker walker(request, first, tiles, roots);
    walker.walk(block * kRows, std::min(rows, (block + 1) * kRows), choice);
  });
  return choice;
}

}  // namespace hyperattn
