#include "algorithms/primitives/kmeans.h"

#include <algorithm>
#include <limits>

#include "algorithms/kernels/products.h"
#include "core/eigen.h"
#include "core/parallel.h"

namespace hyperattn {
namespace {

constexpr int64_t kRowsPerJob = 512;

DenseMatrix<float> in_chain_order(const RowMajorMatrix<float>& centres) {
  DenseMatrix<float> ordered(centres.rows(), centres.cols());
  std::vector<bool> used(static_cast<size_t>(centres.rows()), false);
  int64_t current = 0;
  for (int64_t place = 0; place < centres.rows(); ++place) {
    if (place > 0) {
      float nearest = std::numeric_limits<float>::infinity();
      const int64_t last = current;
      for (int64_t c = 0; c < centres.rows(); ++c) {
        if (used[static_cast<size_t>(c)]) continue;
        const float distance = (centres.row(c) - centres.row(last)).squaredNorm();
        if (distance < nearest) {
          nearest = distance;
          current = c;
        }
      }
    }
    used[static_cast<size_t>(current)] = true;
    as_eigen(ordered).row(place) = centres.row(current);
  }
  return ordered;
}

}  // namespace

std::vector<float> nearest_biases(MatrixView<const float> centres) {
  std::vector<float> bias(static_cast<size_t>(centres.rows));
  for (int64_t c = 0; c < centres.rows; ++c)
    bias[static_cast<size_t>(c)] = -0.5F * as_eigen(centres).row(c).squaredNorm();
  return bias;
}

std::vector<uint32_t> best_centres(MatrixView<const float> rows, MatrixView<const float> centres,
                                   float factor, const std::vector<float>& bias) {
  const PackedColumns packed(centres, factor);
  const int64_t columns = packed.columns();
  Buffer<float> padded_bias(columns, -std::numeric_limits<float>::infinity());
  std::copy(bias.begin(), bias.end(), padded_bias.data());

  std::vector<uint32_t> best(static_cast<size_t>(rows.rows));
  parallel_for((rows.rows + kRowsPerJob - 1) / kRowsPerJob, [&](int64_t job, int) {
    Buffer<float> scores(kProductRows * columns);
    const int64_t job_end = std::min(rows.rows, (job + 1) * kRowsPerJob);
    for (int64_t first = job * kRowsPerJob; first < job_end; first += kProductRows) {
      const int64_t count = std::min(kProductRows, job_end - first);
      prefetch_product_rows(rows, first + kProductRows, std::min(first + 2 * kProductRows, rows.rows));
      packed.multiply({rows.row(first), count, rows.cols, rows.stride}, padded_bias.data(), scores.data());
      largest_of_rows(scores.data(), count, columns, best.data() + first);
    }
  });
  return best;
}

std::vector<int32_t> kmeans_sample(int64_t keys, int64_t centres, const RandomStream& stream) {
  return sample_without_replacement(stream, keys,
                                    std::min(keys, std::min(centres, keys) * kMeansKeysPerCentre));
}

DenseMatrix<float> kmeans_of_sample(MatrixView<const float> rows, int64_t centres) {
  const auto sample = as_eigen(rows);
  const int64_t drawn = rows.rows;
  const int64_t count = std::min(centres, drawn);
  RowMajorMatrix<float> means(count, rows.cols);
  for (int64_t c = 0; c < count; ++c) means.row(c) = sample.row(c * drawn / count);
  for (int round = 0; round < kMeansRounds; ++round) {
    const std::vector<uint32_t> own =
        best_centres(rows, view_of(means), 1.0F, nearest_biases(view_of(means)));
    RowMajorMatrix<float> sums = RowMajorMatrix<float>::Zero(count, rows.cols);
    std::vector<int64_t> members(static_cast<size_t>(count), 0);
    for (int64_t i = 0; i < drawn; ++i) {
      const uint32_t c = own[static_cast<size_t>(i)];
      sums.row(c) += sample.row(i);
      ++members[c];
    }
    for (int64_t c = 0; c < count; ++c)
      if (const int64_t size = members[static_cast<size_t>(c)]; size > 0)
        means.row(c) = sums.row(c) / static_cast<float>(size);
  }
  return in_chain_order(means);
}

DenseMatrix<float> kmeans_centres(MatrixView<const float> keys, int64_t centres, const RandomStream& stream) {
  return kmeans_of_sample(copied_rows(keys, kmeans_sample(keys.rows, centres, stream)), centres);
}

}  // namespace hyperattn
