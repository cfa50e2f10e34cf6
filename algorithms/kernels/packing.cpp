#include "algorithms/kernels/packing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "algorithms/kernels/bfloat16.h"
#include "algorithms/plan_walk.h"

namespace hyperattn {
namespace {

using RowPointers = std::array<const float*, kKeyTile>;

void set_bias_range(KeyTile& tile) {
  tile.smallest_bias = std::numeric_limits<float>::infinity();
  tile.largest_bias = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < tile.count; ++j) {
    tile.largest_bias = std::max(tile.largest_bias, tile.bias[j]);
    if (std::isfinite(tile.bias[j])) tile.smallest_bias = std::min(tile.smallest_bias, tile.bias[j]);
  }
}

void scale_packed_rows(const float* factors, int64_t count, const TileLayout& layout, float* values) {
  for (int64_t column = 0; column < layout.value_columns; column += layout.panel) {
    const int64_t width = std::min(layout.panel, layout.value_columns - column);
    float* panel = values + column / layout.panel * kKeyTile * layout.panel;
    for (int64_t j = 0; j < count; ++j)
      for (int64_t c = 0; c < width; ++c) panel[j * width + c] *= factors[j];
  }
}

/// Words of keys: rows of words, transposed as if they were floats. Returns the largest ‖row‖².
float pack_key_words(const RowPointers& rows, int64_t count, int64_t columns, const TileLayout& layout,
                     float* destination) {
  const int64_t words = layout.head_words();
  std::vector<float> rounded(static_cast<size_t>(count * words));
  RowPointers rounded_rows{};
  float largest = 0;
  for (int64_t j = 0; j < count; ++j) {
    if (j + kPrefetchAhead < count)
      prefetch_row(rows[static_cast<size_t>(j + kPrefetchAhead)], layout.head_dim);
    float* target = rounded.data() + j * words;
    rounded_rows[static_cast<size_t>(j)] = target;
    largest = std::max(largest, layout.pairs->round_row(rows[static_cast<size_t>(j)], layout.head_dim,
                                                        words_of(target), words));
  }
  pack_transposed(rounded_rows.data(), count, words, columns, layout.panel, destination, false);
  return largest;
}

void pack_value_words(const RowPointers& rows, const float* factors, int64_t count, int64_t columns,
                      const TileLayout& layout, float* destination) {
  for (int64_t column = 0; column < layout.value_columns; column += layout.panel) {
    PairRowsArguments panel;
    panel.source = rows.data();
    panel.factor = factors;
    panel.count = count;
    panel.first_column = column;
    panel.columns = layout.value_dim;
    panel.panel = words_of(destination + column / layout.panel * layout.value_rows() * layout.panel);
    panel.width = std::min(layout.panel, layout.value_columns - column);
    panel.depth = round_up(columns / 2, layout.pairs->depth_step);
    layout.pairs->pack_rows(panel);
  }
}

int64_t tile_floats(const TileLayout& layout) {
  return layout.key_tile_floats() + layout.value_tile_floats() + kKeyTile;
}

int64_t tiles_of(int64_t count) {
  return (count + kKeyTile - 1) / kKeyTile;
}

}  // namespace

TileLayout::TileLayout(const AttentionProblem& problem, bool with_values, bool rounded)
    : head_dim(problem.head_dim()),
      value_dim(with_values ? problem.value_dim() : 0),
      value_columns(round_up(value_dim, tile_kernels().lanes)),
      panel(tile_kernels().panel),
      pairs(rounded ? pair_kernels() : nullptr),
      is_rounded(rounded && pairs == nullptr) {}

const float* key_row(const AttentionProblem& problem, int64_t key_head, const KeyList& list, int64_t rank) {
  const int64_t row = list.order[rank];
  return list.synthetic ? list.synthetic->key.matrix(0).row(row) : problem.key.matrix(key_head).row(row);
}

const float* value_row(const AttentionProblem& problem, int64_t key_head, const KeyList& list, int64_t rank) {
  const int64_t row = list.order[rank];
  return list.synthetic ? list.synthetic->value.matrix(0).row(row) : problem.value.matrix(key_head).row(row);
}

void pack_rows(const float* const* rows, int64_t count, int64_t columns, int64_t padded_columns,
               int64_t panel, int64_t panel_rows, float* destination) {
  for (int64_t column = 0; column < padded_columns; column += panel) {
    const int64_t width = std::min(panel, padded_columns - column);
    const int64_t used = std::clamp<int64_t>(columns - column, 0, width);
    float* target = destination + column / panel * panel_rows * panel;
    for (int64_t j = 0; j < count; ++j) {
      if (j + kPrefetchAhead < count) prefetch_row(rows[j + kPrefetchAhead] + column, used);
      std::memcpy(target + j * width, rows[j] + column, static_cast<size_t>(used) * sizeof(float));
      std::fill(target + j * width + used, target + (j + 1) * width, 0.0F);
    }
  }
}

float pack_transposed(const float* const* rows, int64_t count, int64_t depth, int64_t padded_columns,
                      int64_t panel, float* destination, bool wants_norm) {
  const TileKernels& kernels = tile_kernels();
  float largest = 0;
  for (int64_t first = 0; first < padded_columns; first += panel) {
    TransposeArguments block;
    block.source = rows + first;
    block.rows = std::clamp<int64_t>(count - first, 0, panel);
    block.depth = depth;
    block.panel = destination + first * depth;
    block.width = std::min(panel, padded_columns - first);
    block.wants_norm = wants_norm;
    for (int64_t j = 0; j < block.rows; ++j) prefetch_row(block.source[j], depth);
    largest = std::max(largest, kernels.transpose(block));
  }
  return largest;
}

void pack_segment_columns(const float* const* rows, int64_t count, int64_t depth, float* destination) {
  const int64_t width = segment_width(count);
  if (width % tile_kernels().lanes == 0) {
    pack_transposed(rows, count, depth, width, width, destination);
    return;
  }
  std::fill_n(destination, width * depth, 0.0F);
  for (int64_t j = 0; j < count; ++j)
    for (int64_t k = 0; k < depth; ++k) destination[k * width + j] = rows[j][k];
}

void load_numbers(const std::vector<float>& numbers, int64_t first, int64_t count, int64_t columns,
                  float* target) {
  std::copy_n(numbers.data() + first, count, target);
  std::fill(target + count, target + columns, 0.0F);
}

void fill_bias(const KeyList& list, int64_t first, int64_t count, int64_t columns, float* bias) {
  for (int64_t j = 0; j < count; ++j)
    bias[j] = kLog2E * (list.log_weight ? (*list.log_weight)[static_cast<size_t>(first + j)]
                                        : list.uniform_log_weight);
  std::fill(bias + count, bias + columns, -std::numeric_limits<float>::infinity());
}

KeyTile pack_tile(const AttentionProblem& problem, const TileLayout& layout, int64_t key_head,
                  const KeyList& list, int64_t first, int64_t count, const TileBuffers& buffers) {
  const int64_t columns = round_up(count, tile_kernels().lanes);
  RowPointers rows{};
  for (int64_t j = 0; j < count; ++j)
    rows[static_cast<size_t>(j)] = key_row(problem, key_head, list, first + j);
  KeyTile tile{buffers.keys, buffers.values, buffers.bias, first, count, columns};
  fill_bias(list, first, count, columns, buffers.bias);
  set_bias_range(tile);
  if (layout.pairs != nullptr) {
    tile.largest_key_norm = std::sqrt(pack_key_words(rows, count, columns, layout, buffers.keys));
    for (int64_t j = 0; j < count && layout.value_columns > 0; ++j)
      rows[static_cast<size_t>(j)] = value_row(problem, key_head, list, first + j);
    const float* factors = list.signed_weights ? list.signed_weights->numerator.data() + first : nullptr;
    pack_value_words(rows, factors, count, columns, layout, buffers.values);
    return tile;
  }
  tile.largest_key_norm =
      std::sqrt(pack_transposed(rows.data(), count, layout.head_dim, columns, layout.panel, buffers.keys));
  if (layout.is_rounded) round_to_bfloat16(buffers.keys, columns * layout.head_dim, buffers.keys);
  if (layout.value_columns > 0) {
    for (int64_t j = 0; j < count; ++j)
      rows[static_cast<size_t>(j)] = value_row(problem, key_head, list, first + j);
    pack_rows(rows.data(), count, layout.value_dim, layout.value_columns, layout.panel, kKeyTile,
              buffers.values);
    if (list.signed_weights)
      scale_packed_rows(list.signed_weights->numerator.data() + first, count, layout, buffers.values);
    // Weights of padding keys are zero, but what they multiply must be finite.
    for (int64_t column = 0; column < layout.value_columns; column += layout.panel) {
      const int64_t width = std::min(layout.panel, layout.value_columns - column);
      float* panel = buffers.values + column / layout.panel * kKeyTile * layout.panel;
      std::fill(panel + count * width, panel + columns * width, 0.0F);
      if (layout.is_rounded) round_to_bfloat16(panel, count * width, panel);
    }
  }
  return tile;
}

int64_t PackedList::floats(const TileLayout& layout, int64_t count) {
  return tiles_of(count) * tile_floats(layout);
}

PackedList::PackedList(int64_t count, float* storage)
    : storage_(storage), tiles_(static_cast<size_t>(tiles_of(count))) {}

void PackedList::pack(const AttentionProblem& problem, const TileLayout& layout, int64_t key_head,
                      const KeyList& list, int64_t tile) {
  const int64_t first = tile * kKeyTile;
  float* keys = storage_ + tile * tile_floats(layout);
  float* values = keys + layout.key_tile_floats();
  tiles_[static_cast<size_t>(tile)] =
      pack_tile(problem, layout, key_head, list, first, std::min(kKeyTile, list.order.count - first),
                {keys, values, values + layout.value_tile_floats()});
}

int64_t PackedSegments::floats(const TileLayout& layout) {
  return kSegmentKeys * (3 + layout.head_dim + layout.value_columns);
}

void PackedSegments::pack(const AttentionProblem& problem, const TileLayout& layout, int64_t key_head,
                          int64_t segment) {
  const KeyList& list = *list_;
  const auto [first, last] = segment_of(list, segment);
  const int64_t count = last - first;
  float* bias = storage_ + segment * stride_;
  float* keys = bias + 3 * kSegmentKeys;
  float* values = keys + kSegmentKeys * layout.head_dim;
  fill_bias(list, first, count, kSegmentKeys, bias);
  if (list.has_factor()) load_numbers(*list.factor.rank, first, count, kSegmentKeys, bias + kSegmentKeys);
  if (list.signed_weights)
    load_numbers(list.signed_weights->denominator, first, count, kSegmentKeys, bias + 2 * kSegmentKeys);
  std::array<const float*, kSegmentKeys> rows{};
  for (int64_t j = 0; j < count; ++j) {
    rows[static_cast<size_t>(j)] = key_row(problem, key_head, list, first + j);
    prefetch_row(rows[static_cast<size_t>(j)], layout.head_dim);
  }
  if (layout.value_dim > 0)
    for (int64_t j = 0; j < count; ++j)
      prefetch_row(value_row(problem, key_head, list, first + j), layout.value_dim);
  pack_segment_columns(rows.data(), count, layout.head_dim, keys);
  for (int64_t j = 0; j < count && layout.value_dim > 0; ++j) {
    const float* source = value_row(problem, key_head, list, first + j);
    const float factor =
        list.signed_weights ? list.signed_weights->numerator[static_cast<size_t>(first + j)] : 1.0F;
    float* target = values + j * layout.value_columns;
    for (int64_t c = 0; c < layout.value_dim; ++c) target[c] = source[c] * factor;
    std::fill(target + layout.value_dim, target + layout.value_columns, 0.0F);
  }
}

SegmentTile PackedSegments::tile(const TileLayout& layout, int64_t segment) const {
  const auto [first, last] = segment_of(*list_, segment);
  const float* bias = storage_ + segment * stride_;
  SegmentTile tile;
  tile.bias = bias;
  if (list_->has_factor()) tile.rank_factor = bias + kSegmentKeys;
  if (list_->signed_weights) tile.denominator = bias + 2 * kSegmentKeys;
  tile.key_columns = bias + 3 * kSegmentKeys;
  tile.values = tile.key_columns + kSegmentKeys * layout.head_dim;
  tile.count = last - first;
  return tile;
}

void PackedSegments::prefetch(const TileLayout& layout, int64_t segment) const {
  const SegmentTile next = tile(layout, segment);
  prefetch_row(next.bias, kSegmentKeys);
  prefetch_row(next.key_columns, segment_width(next.count) * layout.head_dim);
  prefetch_row(next.values, next.count * layout.value_columns);
}

}  // namespace hyperattn
