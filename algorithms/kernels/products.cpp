#include "algorithms/kernels/products.h"

#include <algorithm>

#include "algorithms/kernels/packing.h"
#include "algorithms/kernels/tile.h"

namespace hyperattn {

PackedColumns::PackedColumns(MatrixView<const float> rows, float factor)
    : count_(rows.rows),
      depth_(rows.cols),
      columns_(whole_vectors(rows.rows)),
      packed_(columns_ * rows.cols) {
  Buffer<float> scaled(count_ * depth_);
  std::vector<const float*> pointers;
  for (int64_t i = 0; i < count_; ++i) {
    for (int64_t c = 0; c < depth_; ++c) scaled[i * depth_ + c] = rows.row(i)[c] * factor;
    pointers.push_back(scaled.data() + i * depth_);
  }
  pack_transposed(pointers.data(), count_, depth_, columns_, tile_kernels().panel, packed_.data());
}

void PackedColumns::multiply(MatrixView<const float> rows, const float* bias, float* out,
                             int64_t stride) const {
  MultiplyArguments product;
  product.rows = rows.rows;
  product.columns = columns_;
  product.depth = depth_;
  product.a = rows.data;
  product.a_row = rows.stride;
  product.b = packed_.data();
  product.b_panel_stride = tile_kernels().panel * depth_;
  product.c = out;
  product.c_stride = stride;
  product.bias = bias;
  product.mode = bias != nullptr ? Accumulate::bias : Accumulate::overwrite;
  tile_kernels().multiply(product);
}

int64_t whole_vectors(int64_t count) {
  return round_up(count, tile_kernels().lanes);
}

void largest_of_rows(const float* rows, int64_t count, int64_t columns, uint32_t* places) {
  tile_kernels().argmax(rows, count, columns, places);
}

void exponentiate_base2(float* x, int64_t count) {
  tile_kernels().exp2(x, x, count);
}

void prefetch_product_rows(MatrixView<const float> rows, int64_t begin, int64_t end) {
  prefetch_rows(rows, begin, end);
}

GramProduct::GramProduct(int64_t rows, int64_t a_columns, int64_t b_columns)
    : rows_(rows),
      a_columns_(a_columns),
      b_stride_(whole_vectors(b_columns)),
      a_(rows * a_columns),
      b_(rows * b_stride_),
      panels_(rows * round_up(b_stride_, tile_kernels().panel)),
      product_(a_columns * b_stride_) {}

const float* GramProduct::multiply(int64_t rows) {
  const TileKernels& kernels = tile_kernels();
  std::vector<const float*> pointers;
  for (int64_t i = 0; i < rows; ++i) pointers.push_back(b_.data() + i * b_stride_);
  pack_rows(pointers.data(), rows, b_stride_, b_stride_, kernels.panel, rows_, panels_.data());
  MultiplyArguments product;
  product.rows = a_columns_;
  product.columns = b_stride_;
  product.depth = rows;
  product.a = a_.data();
  product.a_row = 1;
  product.a_step = a_columns_;
  product.b = panels_.data();
  product.b_panel_stride = rows_ * kernels.panel;
  product.c = product_.data();
  product.c_stride = b_stride_;
  kernels.multiply(product);
  return product_.data();
}

}  // namespace hyperattn
