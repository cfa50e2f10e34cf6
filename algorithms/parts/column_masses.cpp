#include "algorithms/parts/column_masses.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "algorithms/engine/packing.h"
#include "algorithms/engine/tile.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

// Base-2 scores of sampled queries against all key ranks of a node, then their softmax weights.
class SampledRows {
 public:
  SampledRows(const AttentionProblem& problem, int64_t head, const NodeMask& mask,
              const std::vector<int32_t>& positions)
      : problem_(problem),
        head_(head),
        mask_(mask),
        positions_(positions),
        layout_(problem, false),
        tiles_((mask.keys.count + kKeyTile - 1) / kKeyTile),
        rows_(static_cast<int64_t>(positions.size())),
        stride_(tiles_ * kKeyTile),
        scores_(rows_ * stride_) {}

  void score() {
    const int64_t dim = layout_.head_dim;
    Buffer<float> queries(rows_ * dim);
    for (int64_t r = 0; r < rows_; ++r) {
      const float* row = problem_.query.matrix(head_).row(mask_.queries[positions_[static_cast<size_t>(r)]]);
      for (int64_t c = 0; c < dim; ++c) queries[r * dim + c] = row[c] * problem_.scale * kLog2E;
    }
    KeyList keys;
    keys.order = mask_.keys;
    parallel_for(tiles_, [&](int64_t index, int) {
      Buffer<float> packed(layout_.key_tile_floats());
      Buffer<float> bias(kKeyTile);
      const int64_t first = index * kKeyTile;
      const KeyTile tile =
          pack_tile(problem_, layout_, head_, keys, first, std::min(kKeyTile, mask_.keys.count - first),
                    {packed.data(), nullptr, bias.data()});
      MultiplyArguments product;
      product.rows = rows_;
      product.columns = tile.columns;
      product.depth = dim;
      product.a = queries.data();
      product.a_row = dim;
      product.b = tile.keys;
      product.b_panel_stride = layout_.panel * dim;
      product.c = scores_.data() + first;
      product.c_stride = stride_;
      product.bias = tile.bias;
      product.mode = Accumulate::bias;
      tile_kernels().multiply(product);
    });
  }

  // Scores become softmax weights; those of the row's own mask become 0.
  void normalise(int64_t r) {
    float* scores = scores_.data() + r * stride_;
    const int64_t keys = mask_.keys.count;
    const float maximum = *std::max_element(scores, scores + keys);
    for (int64_t j = 0; j < keys; ++j) scores[j] -= maximum;
    std::fill(scores + keys, scores + stride_, -std::numeric_limits<float>::infinity());
    tile_kernels().exp2(scores, scores, stride_);
    const double sum = std::accumulate(scores, scores + keys, 0.0);
    const auto factor = static_cast<float>(1.0 / sum);
    for (int64_t j = 0; j < keys; ++j) scores[j] *= factor;
    const int64_t position = positions_[static_cast<size_t>(r)];
    const auto after = std::upper_bound(mask_.groups.begin(), mask_.groups.end(), position,
                                        [](int64_t p, const MaskGroup& group) { return p < group.begin; });
    const MaskGroup& group = *(after - 1);
    for (int64_t range = group.first_range; range < group.last_range; ++range) {
      const RankRange& own = mask_.ranges[static_cast<size_t>(range)];
      std::fill(scores + own.begin, scores + own.end, 0.0F);
    }
  }

  void add_tile(int64_t tile, std::vector<float>& masses) const {
    const int64_t end = std::min((tile + 1) * kKeyTile, mask_.keys.count);
    for (int64_t r = 0; r < rows_; ++r)
      for (int64_t rank = tile * kKeyTile; rank < end; ++rank)
        masses[static_cast<size_t>(rank)] += scores_[r * stride_ + rank];
  }

  [[nodiscard]] int64_t tiles() const { return tiles_; }
  [[nodiscard]] int64_t rows() const { return rows_; }

 private:
  const AttentionProblem& problem_;
  int64_t head_;
  const NodeMask& mask_;
  const std::vector<int32_t>& positions_;
  TileLayout layout_;
  int64_t tiles_;
  int64_t rows_;
  int64_t stride_;
  Buffer<float> scores_;
};

}  // namespace

std::vector<float> column_masses(const AttentionProblem& problem, int64_t head, const NodeMask& mask,
                                 const RandomStream& stream) {
  const std::vector<int32_t> positions =
      sample_without_replacement(stream, mask.queries.count, std::min(kMassRows, mask.queries.count));
  SampledRows sampled(problem, head, mask, positions);
  sampled.score();
  parallel_for(sampled.rows(), [&](int64_t r, int) { sampled.normalise(r); });
  std::vector<float> masses(static_cast<size_t>(mask.keys.count), 0.0F);
  parallel_for(sampled.tiles(), [&](int64_t tile, int) { sampled.add_tile(tile, masses); });
  return masses;
}

std::vector<int32_t> heaviest_ranks(const std::vector<float>& masses, int64_t count) {
  std::vector<int32_t> ranks(masses.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  const auto heavier = [&](int32_t a, int32_t b) {
    const float mass_a = masses[static_cast<size_t>(a)];
    const float mass_b = masses[static_cast<size_t>(b)];
    return mass_a != mass_b ? mass_a > mass_b : a < b;
  };
  std::nth_element(ranks.begin(), ranks.begin() + count, ranks.end(), heavier);
  ranks.resize(static_cast<size_t>(count));
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

}  // namespace hyperattn
