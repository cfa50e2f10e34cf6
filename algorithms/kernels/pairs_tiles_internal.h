// Products of words (pairs.h) by tiles of 16 rows of 16 words, as AMX has them: two tiles of A times two of B
// are summed in four. `Tiles` is the unit: eight registers, of which 0 to 3 hold sums, 4 and 5 A, 6 and 7 B.
// Not installed. A source that compiles this for one instruction set includes it between its own target
// attributes.
#pragma once

#include <cstdint>

#include "algorithms/kernels/pairs.h"

namespace hyperattn {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTileWords = 16;
constexpr int64_t kTilePanel = 64;

/// One block of C: `Rows` × `Columns` tiles of it.
template <class Tiles, int Rows, int Columns>
inline void multiply_tile_block(const PairMultiplyArguments& m, const uint32_t* a, const uint32_t* b,
                                int64_t width, float* c, const float* bias) {
  constexpr int64_t kWordBytes = 4;
  const int64_t c_bytes = m.c_stride * kWordBytes;
  const auto tile_of_c = [&](int i, int j) { return c + i * kTileRows * m.c_stride + j * kTileWords; };
  if (bias == nullptr) {
    Tiles::template load<0>(tile_of_c(0, 0), c_bytes);
    if constexpr (Columns > 1) Tiles::template load<1>(tile_of_c(0, 1), c_bytes);
    if constexpr (Rows > 1) Tiles::template load<2>(tile_of_c(1, 0), c_bytes);
    if constexpr (Rows > 1 && Columns > 1) Tiles::template load<3>(tile_of_c(1, 1), c_bytes);
  } else {
    Tiles::template zero<0>();
    Tiles::template zero<1>();
    Tiles::template zero<2>();
    Tiles::template zero<3>();
  }
  const int64_t a_bytes = m.a_row * kWordBytes;
  const int64_t b_bytes = width * kWordBytes;
  for (int64_t k = 0; k < m.depth; k += kTileWords) {
    Tiles::template load<4>(a + k, a_bytes);
    Tiles::template load<6>(b + k * width, b_bytes);
    Tiles::template add_product<0, 0>();
    if constexpr (Columns > 1) {
      Tiles::template load<7>(b + k * width + kTileWords, b_bytes);
      Tiles::template add_product<0, 1>();
    }
    if constexpr (Rows > 1) {
      Tiles::template load<5>(a + k + kTileRows * m.a_row, a_bytes);
      Tiles::template add_product<1, 0>();
      if constexpr (Columns > 1) Tiles::template add_product<1, 1>();
    }
  }
  Tiles::template store<0>(tile_of_c(0, 0), c_bytes);
  if constexpr (Columns > 1) Tiles::template store<1>(tile_of_c(0, 1), c_bytes);
  if constexpr (Rows > 1) Tiles::template store<2>(tile_of_c(1, 0), c_bytes);
  if constexpr (Rows > 1 && Columns > 1) Tiles::template store<3>(tile_of_c(1, 1), c_bytes);
  if (bias == nullptr) return;
  for (int64_t i = 0; i < Rows * kTileRows; ++i) {
    float* row = c + i * m.c_stride;
    for (int64_t j = 0; j < Columns * kTileWords; ++j) row[j] = bias[j] + m.factor * row[j];
  }
}

/// PairKernels::multiply where rows are read and written in multiples of 16, and depth is one.
template <class Tiles>
void multiply_by_tiles(const PairMultiplyArguments& m) {
  for (int64_t column = 0; column < m.columns;) {
    const int64_t panel = column / kTilePanel;
    const int64_t left = m.columns - panel * kTilePanel;
    const int64_t width = left < kTilePanel ? left : kTilePanel;
    const uint32_t* b = m.b + panel * m.b_panel_stride + column % kTilePanel;
    const bool two = column % kTilePanel + 2 * kTileWords <= width;
    const float* bias = m.bias == nullptr ? nullptr : m.bias + column;
    for (int64_t i = 0; i < m.rows; i += 2 * kTileRows) {
      const uint32_t* a = m.a + i * m.a_row;
      float* c = m.c + i * m.c_stride + column;
      const bool tall = i + kTileRows < m.rows;
      if (tall && two)
        multiply_tile_block<Tiles, 2, 2>(m, a, b, width, c, bias);
      else if (tall)
        multiply_tile_block<Tiles, 2, 1>(m, a, b, width, c, bias);
      else if (two)
        multiply_tile_block<Tiles, 1, 2>(m, a, b, width, c, bias);
      else
        multiply_tile_block<Tiles, 1, 1>(m, a, b, width, c, bias);
    }
    column += (two ? 2 : 1) * kTileWords;
  }
}

}  // namespace hyperattn
