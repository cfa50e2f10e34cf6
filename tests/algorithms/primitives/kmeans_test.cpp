// k-means: centres against Lloyd's rounds in double precision and plain loops, and the choice of a centre
// against a search through all of them.
#include "algorithms/primitives/kmeans.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn {
namespace {

using testing::gaussian;
using Rows = std::vector<std::vector<double>>;

Rows rows_of(MatrixView<const float> matrix) {
  Rows rows;
  for (int64_t i = 0; i < matrix.rows; ++i) rows.emplace_back(matrix.row(i), matrix.row(i) + matrix.cols);
  return rows;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t c = 0; c < a.size(); ++c) sum += (a[c] - b[c]) * (a[c] - b[c]);
  return sum;
}

size_t nearest(const std::vector<double>& row, const Rows& centres) {
  size_t best = 0;
  for (size_t c = 1; c < centres.size(); ++c)
    if (distance(row, centres[c]) < distance(row, centres[best])) best = c;
  return best;
}

/// Each centre followed by the nearest of those left, from the first one on.
Rows in_chain(const Rows& centres) {
  Rows left = centres;
  Rows ordered = {left.front()};
  left.erase(left.begin());
  while (!left.empty()) {
    const size_t next = nearest(ordered.back(), left);
    ordered.push_back(left[next]);
    left.erase(left.begin() + static_cast<int64_t>(next));
  }
  return ordered;
}

/// What kmeans.h promises, from the same sample.
Rows plain_centres(MatrixView<const float> keys, int64_t centres, const RandomStream& stream) {
  const int64_t count = std::min(centres, keys.rows);
  const int64_t drawn = std::min(keys.rows, count * kMeansKeysPerCentre);
  const Rows all = rows_of(keys);
  Rows sample;
  for (const int32_t row : sample_without_replacement(stream, keys.rows, drawn))
    sample.push_back(all[static_cast<size_t>(row)]);
  Rows means;
  for (int64_t c = 0; c < count; ++c) means.push_back(sample[static_cast<size_t>(c * drawn / count)]);
  for (int round = 0; round < kMeansRounds; ++round) {
    std::vector<Rows> members(means.size());
    for (const std::vector<double>& row : sample) members[nearest(row, means)].push_back(row);
    for (size_t c = 0; c < means.size(); ++c) {
      if (members[c].empty()) continue;
      for (size_t x = 0; x < means[c].size(); ++x) {
        means[c][x] = 0;
        for (const std::vector<double>& row : members[c]) means[c][x] += row[x];
        means[c][x] /= static_cast<double>(members[c].size());
      }
    }
  }
  return in_chain(means);
}

/// `clusters` well-separated groups of keys, one after the other in turn.
Tensor<float> clustered(int64_t keys, int64_t dim, int64_t clusters) {
  Tensor<float> rows = gaussian({1, 1, keys, dim}, 3, Purpose::key, 0.1);
  const Tensor<float> middles = gaussian({1, 1, clusters, dim}, 4, Purpose::cluster, 3);
  for (int64_t i = 0; i < keys; ++i)
    for (int64_t c = 0; c < dim; ++c) rows.matrix(0).row(i)[c] += middles.matrix(0).row(i % clusters)[c];
  return rows;
}

}  // namespace

TEST_CASE("k-means: centres are those of Lloyd's rounds in double precision, in a chain", "[kmeans]") {
  struct Size {
    int64_t keys;
    int64_t dim;
    int64_t centres;
    int64_t clusters;
  };
  // One key; fewer keys than centres; as many; all keys drawn; a part of them; sizes beside vectors.
  for (const Size& size : {Size{1, 3, 5, 1}, Size{4, 3, 9, 2}, Size{7, 5, 7, 3}, Size{97, 17, 6, 6},
                           Size{101, 1, 4, 4}, Size{1009, 33, 13, 13}, Size{530, 64, 33, 5}}) {
    CAPTURE(size.keys, size.dim, size.centres, size.clusters);
    const Tensor<float> keys = clustered(size.keys, size.dim, size.clusters);
    const RandomStream stream(7, Purpose::bucket, 1, 2, 3);
    const Rows expected = plain_centres(keys.matrix(0), size.centres, stream);
    const DenseMatrix<float> found = kmeans_centres(keys.matrix(0), size.centres, stream);
    REQUIRE(found.rows == static_cast<int64_t>(expected.size()));
    double largest = 0;
    for (size_t c = 0; c < expected.size(); ++c)
      for (size_t x = 0; x < expected[c].size(); ++x)
        largest = std::max(
            largest, std::abs(static_cast<double>(found.row(static_cast<int64_t>(c))[x]) - expected[c][x]));
    CAPTURE(largest);
    CHECK(largest < 2e-5);
  }
}

TEST_CASE("k-means: the best centre is that of a search in double, for any threads", "[kmeans]") {
  struct Size {
    int64_t rows;
    int64_t dim;
    int64_t centres;
  };
  for (const Size& size :
       {Size{1, 1, 1}, Size{5, 3, 2}, Size{23, 16, 17}, Size{513, 7, 31}, Size{1025, 65, 48}}) {
    const Tensor<float> rows = gaussian({1, 1, size.rows, size.dim}, 1, Purpose::query);
    const Tensor<float> centres = gaussian({1, 1, size.centres, size.dim}, 2, Purpose::key);
    const Tensor<float> biases = gaussian({1, 1, size.centres, 1}, 3, Purpose::value);
    const std::vector<float> bias(biases.data(), biases.data() + size.centres);
    for (const float factor : {1.0F, 0.25F, -2.0F}) {
      const std::vector<uint32_t> found = best_centres(rows.matrix(0), centres.matrix(0), factor, bias);
      int64_t wrong = 0;
      double lost = 0;
      for (int64_t i = 0; i < size.rows; ++i) {
        double best = -INFINITY;
        double chosen = -INFINITY;
        for (int64_t c = 0; c < size.centres; ++c) {
          double score = static_cast<double>(bias[static_cast<size_t>(c)]);
          for (int64_t x = 0; x < size.dim; ++x)
            score += static_cast<double>(factor) * static_cast<double>(rows.matrix(0).row(i)[x]) *
                     static_cast<double>(centres.matrix(0).row(c)[x]);
          best = std::max(best, score);
          if (static_cast<uint32_t>(c) == found[static_cast<size_t>(i)]) chosen = score;
        }
        lost = std::max(lost, best - chosen);  // ties to rounding may go either way
        wrong += best - chosen > 1e-4 ? 1 : 0;
      }
      CAPTURE(size.rows, size.dim, size.centres, factor, lost);
      CHECK(wrong == 0);
      const int threads = thread_count();
      set_thread_count(threads == 1 ? 3 : 1);
      CHECK(best_centres(rows.matrix(0), centres.matrix(0), factor, bias) == found);
      set_thread_count(threads);
    }
  }
}

TEST_CASE("k-means: of equal centres the first is chosen, and biases make the nearest the best", "[kmeans]") {
  Tensor<float> centres = gaussian({1, 1, 19, 5}, 5, Purpose::key);
  for (const int64_t copy : {3, 11, 18})
    std::copy(centres.matrix(0).row(1), centres.matrix(0).row(1) + 5, centres.matrix(0).row(copy));
  const std::vector<float> bias = nearest_biases(centres.matrix(0));
  const std::vector<uint32_t> found = best_centres(centres.matrix(0), centres.matrix(0), 1.0F, bias);
  const Rows rows = rows_of(centres.matrix(0));
  std::vector<uint32_t> expected;
  for (const std::vector<double>& row : rows) expected.push_back(static_cast<uint32_t>(nearest(row, rows)));
  CHECK(expected[11] == 1);
  CHECK(found == expected);
}

}  // namespace hyperattn
