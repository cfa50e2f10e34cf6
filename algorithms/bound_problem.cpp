#include "algorithms/bound_problem.h"

#include "algorithms/primitives/beam.h"
#include "algorithms/primitives/column_masses.h"
#include "algorithms/primitives/column_sample.h"
#include "algorithms/primitives/covariance.h"
#include "algorithms/primitives/key_tree.h"
#include "algorithms/primitives/kmeans.h"
#include "algorithms/primitives/run_means.h"
#include "algorithms/primitives/sort_lsh.h"

namespace hyperattn {

void BoundProblem::require_on_host() const {
  static_cast<void>(problem());
}

std::vector<SortedRows> BoundProblem::sort_by_bucket(const std::vector<SortRequest>& requests,
                                                     int64_t bucket_count, BucketOrder order,
                                                     SortSeconds* seconds) const {
  require_on_host();
  return hyperattn::sort_by_bucket(requests, bucket_count, order, seconds);
}

std::vector<uint32_t> BoundProblem::bucket_codes(MatrixView<const float> rows,
                                                 const HashDirections& directions, BucketOrder order,
                                                 bool centre) const {
  require_on_host();
  return hyperattn::bucket_codes(rows, directions, order, centre);
}

DenseMatrix<float> BoundProblem::gathered_rows(MatrixView<const float> rows,
                                               const std::vector<int32_t>& names) const {
  require_on_host();
  return copied_rows(rows, names);
}

DenseMatrix<float> BoundProblem::kmeans_centres(MatrixView<const float> rows, int64_t centres,
                                                const RandomStream& stream) const {
  return kmeans_of_sample(gathered_rows(rows, kmeans_sample(rows.rows, centres, stream)), centres);
}

std::vector<uint32_t> BoundProblem::best_centres(MatrixView<const float> rows,
                                                 MatrixView<const float> centres, float factor,
                                                 const std::vector<float>& bias) const {
  require_on_host();
  return hyperattn::best_centres(rows, centres, factor, bias);
}

std::vector<double> BoundProblem::squared_row_norms(MatrixView<const float> rows) const {
  require_on_host();
  return hyperattn::squared_row_norms(rows);
}

ColumnMasses BoundProblem::column_masses(int64_t head, const AttentionNode& node,
                                         const std::vector<int32_t>& key_ranks,
                                         const SampledQueries& queries) const {
  return hyperattn::column_masses(problem(), head, node, key_ranks, queries);
}

std::shared_ptr<SyntheticKeys> BoundProblem::run_means(int64_t head, const KeyRuns& runs) const {
  return hyperattn::run_means(problem(), head, runs);
}

KeyMoments BoundProblem::key_moments(int64_t head, const AttentionNode& node) const {
  return hyperattn::key_moments(problem(), head, node);
}

LinearValues BoundProblem::missed_covariance(int64_t head, const AttentionNode& node,
                                             const SyntheticKeys& runs) const {
  return hyperattn::missed_covariance(problem(), head, node, runs);
}

KeyTree BoundProblem::balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                                        const std::vector<int64_t>& sizes) const {
  require_on_host();
  return hyperattn::balanced_key_tree(keys, node, sizes);
}

std::vector<SegmentMeans> BoundProblem::segment_means(int64_t head, const KeyTree& tree, bool spreads) const {
  return hyperattn::segment_means(problem(), head, tree, spreads);
}

BeamChoice BoundProblem::choose_segments(const BeamRequest& request) const {
  require_on_host();
  return hyperattn::choose_segments(request);
}

}  // namespace hyperattn
