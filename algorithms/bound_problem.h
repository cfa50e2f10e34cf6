// A problem where an engine computes, and what methods plan with there. Every primitive has an implementation
// on the host, from the problem's views; an engine with a device overrides those that it has, with the same
// results, and methods do not notice.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algorithms/problem.h"
#include "core/random.h"

namespace hyperattn {

enum class BucketOrder;
class Engine;
class HashDirections;
class HashedRows;
class SampledQueries;
struct AttentionNode;
struct BeamChoice;
struct BeamRequest;
struct ColumnMasses;
struct KeyMoments;
struct KeyRuns;
struct KeyTree;
struct LinearValues;
struct Plan;
struct SegmentMeans;
struct SortRequest;
struct SortedRows;
struct SortSeconds;
struct SyntheticKeys;

class BoundProblem {
 public:
  /// The tensors behind `problem`, and the engine, must outlive this.
  BoundProblem(const AttentionProblem& problem, const Engine& engine) : problem_(problem), engine_(engine) {}
  virtual ~BoundProblem() = default;
  BoundProblem(const BoundProblem&) = delete;
  BoundProblem& operator=(const BoundProblem&) = delete;

  /// Its tensors can be read on the host. Where the caller's lie on a device they are copied when this is
  /// first asked for; `shapes` has the same views and copies nothing.
  [[nodiscard]] virtual const AttentionProblem& problem() const { return problem_; }
  /// For planning that reads no tensors: views of them name rows for the primitives below.
  [[nodiscard]] const AttentionProblem& shapes() const { return problem_; }
  [[nodiscard]] const Engine& engine() const { return engine_; }

  /// While a method plans: the phases that `plan` has so far are final, and an engine may begin with them.
  virtual void phases_are_made(const Plan& /*plan*/) const {}

  /// Whether hash functions are drawn where rows are hashed, and not before.
  [[nodiscard]] virtual bool draws_hash_functions() const { return false; }

  /// Whether the plan that is made next may leave groups to the engine (SampledBlocks of plan.h).
  [[nodiscard]] virtual bool takes_sampled_blocks() const { return false; }

  /// Hashes the rows of many requests at once, for later calls of sort_by_bucket that have some of these each
  /// (SortRequest::hashed). Null where sort_by_bucket hashes as well by itself, as on the host.
  [[nodiscard]] virtual std::shared_ptr<const HashedRows> hash_rows(
      const std::vector<SortRequest>& /*requests*/, int64_t /*bucket_count*/, BucketOrder /*order*/) const {
    return nullptr;
  }

  // Each is what the function of the same name in algorithms/primitives says. Views are of the problem's own
  // tensors. Deterministic, and independent of threads.

  /// primitives/sort_lsh.h: hash and stable sort of many requests at once.
  [[nodiscard]] virtual std::vector<SortedRows> sort_by_bucket(const std::vector<SortRequest>& requests,
                                                               int64_t bucket_count, BucketOrder order,
                                                               SortSeconds* seconds) const;
  /// primitives/sort_lsh.h: bucket of every row.
  [[nodiscard]] virtual std::vector<uint32_t> bucket_codes(MatrixView<const float> rows,
                                                           const HashDirections& directions,
                                                           BucketOrder order, bool centre) const;
  /// Copies of some rows, in the order of their names.
  [[nodiscard]] virtual DenseMatrix<float> gathered_rows(MatrixView<const float> rows,
                                                         const std::vector<int32_t>& names) const;
  /// primitives/kmeans.h: means of rows, from a sample of them, and the best of them for every row.
  [[nodiscard]] DenseMatrix<float> kmeans_centres(MatrixView<const float> rows, int64_t centres,
                                                  const RandomStream& stream) const;
  [[nodiscard]] virtual std::vector<uint32_t> best_centres(MatrixView<const float> rows,
                                                           MatrixView<const float> centres, float factor,
                                                           const std::vector<float>& bias) const;
  /// primitives/column_sample.h: ‖v_j‖².
  [[nodiscard]] virtual std::vector<double> squared_row_norms(MatrixView<const float> rows) const;
  /// primitives/column_masses.h: softmax mass of keys over sampled queries.
  [[nodiscard]] virtual ColumnMasses column_masses(int64_t head, const AttentionNode& node,
                                                   const std::vector<int32_t>& key_ranks,
                                                   const SampledQueries& queries) const;
  /// primitives/run_means.h: weighted means of runs of keys and values.
  [[nodiscard]] virtual std::shared_ptr<SyntheticKeys> run_means(int64_t head, const KeyRuns& runs) const;
  /// primitives/covariance.h.
  [[nodiscard]] virtual KeyMoments key_moments(int64_t head, const AttentionNode& node) const;
  [[nodiscard]] virtual LinearValues missed_covariance(int64_t head, const AttentionNode& node,
                                                       const SyntheticKeys& runs) const;
  /// primitives/key_tree.h: keys in the order of a balanced tree, and means of segments of an order.
  [[nodiscard]] virtual KeyTree balanced_key_tree(MatrixView<const float> keys, const AttentionNode& node,
                                                  const std::vector<int64_t>& sizes) const;
  [[nodiscard]] virtual std::vector<SegmentMeans> segment_means(int64_t head, const KeyTree& tree,
                                                                bool spreads) const;
  /// primitives/beam.h: segments that query rows open.
  [[nodiscard]] virtual BeamChoice choose_segments(const BeamRequest& request) const;

 private:
  /// Before views are read.
  void require_on_host() const;

  AttentionProblem problem_;
  const Engine& engine_;
};

}  // namespace hyperattn
