// Buckets from k-means: keys go to the nearest of a few centres, queries to the centre with the largest
// estimated softmax mass. In place of the hash of sorted LSH where keys are clustered.
#pragma once

#include <cstdint>
#include <vector>

#include "core/random.h"
#include "core/tensor.h"

namespace hyperattn {

/// Lloyd rounds, and keys drawn for each centre to run them on: planning must stay small beside attention.
constexpr int kMeansRounds = 4;
constexpr int64_t kMeansKeysPerCentre = 16;

/// At most `centres` ≥ 1 means (fewer if there are fewer keys), in an order in which each is followed by the
/// nearest of those left, so that neighbouring buckets are similar.
[[nodiscard]] DenseMatrix<float> kmeans_centres(MatrixView<const float> keys, int64_t centres,
                                                const RandomStream& stream);

/// Both steps of it: the rows that are drawn, and the means of them as a matrix.
[[nodiscard]] std::vector<int32_t> kmeans_sample(int64_t keys, int64_t centres, const RandomStream& stream);
[[nodiscard]] DenseMatrix<float> kmeans_of_sample(MatrixView<const float> sample, int64_t centres);

/// For each row the centre c with the largest factor·(row · c) + bias_c, the first of equals. Depends on the
/// row and the centres only. 2·d FLOPs for each row and centre; parallel, independent of threads.
[[nodiscard]] std::vector<uint32_t> best_centres(MatrixView<const float> rows,
                                                 MatrixView<const float> centres, float factor,
                                                 const std::vector<float>& bias);

/// Biases −‖c‖²/2: with factor 1, `best_centres` are then the nearest.
[[nodiscard]] std::vector<float> nearest_biases(MatrixView<const float> centres);

}  // namespace hyperattn
