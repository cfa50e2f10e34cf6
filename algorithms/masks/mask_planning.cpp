#include "algorithms/masks/mask_planning.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "algorithms/masks/bucket_blocks.h"
#include "algorithms/primitives/kmeans.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

// Where the random buckets of keys start; queries use the numbers below.
constexpr uint64_t kKeyBuckets = uint64_t{1} << 32;

MatrixView<const float> rows_of(TensorView<const float> tensor, int64_t head, int64_t begin, int64_t end) {
  MatrixView<const float> rows = tensor.matrix(head);
  rows.data += begin * rows.stride;
  rows.rows = end - begin;
  return rows;
}

void check_replay_directions(const AttentionProblem& problem, const Replay& replay, int64_t bucket_count) {
  const DenseMatrix<double>& given = replay.projections;
  if (given.rows != problem.head_dim())
    fail_input("the replayed hash directions must have as many rows as the head dimension, " +
               std::to_string(problem.head_dim()) + ", but have " + std::to_string(given.rows));
  if (given.cols != hash_bits(bucket_count))
    fail_usage("bucket_count must be 2^" + std::to_string(given.cols) + " for a replay of " +
               std::to_string(given.cols) + " hash directions, but is " + std::to_string(bucket_count));
}

// One hash function for each node; a replay's is shared by all.
std::vector<HashDirections> directions_of(const AttentionProblem& problem, const CallContext& context,
                                          const SparseOptions& options, const std::vector<HeadNode>& nodes) {
  const int bits = hash_bits(options.bucket_count);
  std::vector<HashDirections> directions(nodes.size());
  if (options.random_buckets) return directions;
  if (context.replay != nullptr) {
    check_replay_directions(problem, *context.replay, options.bucket_count);
    directions[0] = HashDirections(context.replay->projections);
    return directions;
  }
  for_each_node(nodes, [&](size_t i) {
    directions[i] = HashDirections(node_stream(context, Purpose::hash, nodes[i]), problem.head_dim(), bits);
  });
  return directions;
}

// All hashing and sorting as one parallel job, so that small nodes don't starve threads.
std::vector<NodeMask> sorted_masks(const AttentionProblem& problem, const CallContext& context,
                                   const SparseOptions& options, const std::vector<HeadNode>& nodes,
                                   PlanningSeconds* seconds) {
  SortSeconds spent;
  Stopwatch watch;
  const std::vector<HashDirections> directions = directions_of(problem, context, options, nodes);
  std::vector<RandomStream> buckets;
  for (const HeadNode& node : nodes) buckets.push_back(node_stream(context, Purpose::bucket, node));
  std::vector<SortRequest> requests(2 * nodes.size());
  for (size_t i = 0; i < nodes.size(); ++i) {
    const AttentionNode& node = nodes[i].node;
    SortRequest& query = requests[2 * i];
    SortRequest& key = requests[2 * i + 1];
    query.rows = rows_of(problem.query, nodes[i].head, node.query_begin, node.query_end);
    query.first_row = static_cast<int32_t>(node.query_begin);
    key.rows = rows_of(problem.key, nodes[i].head, node.key_begin, node.key_end);
    key.first_row = static_cast<int32_t>(node.key_begin);
    key.random_offset = kKeyBuckets;
    key.want_ranks = options.sample_size > 0;
    for (SortRequest* request : {&query, &key}) {
      request->random_buckets = &buckets[i];
      if (!options.random_buckets) request->directions = &directions[context.replay != nullptr ? 0 : i];
    }
  }
  spent.hash += watch.seconds();
  std::vector<SortedRows> sorted =
      sort_by_bucket(requests, options.bucket_count, options.bucket_order, &spent);
  watch.restart();
  std::vector<NodeMask> masks(nodes.size());
  for_each_node(nodes, [&](size_t i) {
    const int64_t query_count = nodes[i].node.query_count();
    const int64_t key_count = nodes[i].node.key_count();
    masks[i] =
        sorted_mask(std::move(sorted[2 * i]), std::move(sorted[2 * i + 1]),
                    options.banded_blocks ? banded_blocks(query_count, key_count, options.block_size)
                                          : aligned_blocks(query_count, key_count, options.block_size));
  });
  if (seconds != nullptr) {
    seconds->hash += spent.hash;
    seconds->sort += spent.sort + watch.seconds();
  }
  return masks;
}

std::vector<uint32_t> hashed_codes(MatrixView<const float> rows, const HashDirections& directions,
                                   BucketOrder order) {
  constexpr int64_t kChunk = 4096;
  std::vector<uint32_t> codes(static_cast<size_t>(rows.rows));
  parallel_for((rows.rows + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    const int64_t begin = chunk * kChunk;
    const int64_t end = std::min(rows.rows, begin + kChunk);
    directions.hash(rows, begin, end, codes.data() + begin);
    for (int64_t i = begin; i < end; ++i)
      codes[static_cast<size_t>(i)] = bucket_rank(codes[static_cast<size_t>(i)], order);
  });
  return codes;
}

DenseMatrix<float> centred(MatrixView<const float> rows) {
  const auto matrix = as_eigen(rows);
  const Eigen::RowVectorXf mean =
      (matrix.cast<double>().colwise().sum() / static_cast<double>(rows.rows)).cast<float>();
  return to_dense(matrix.rowwise() - mean);
}

BucketCodes hash_buckets(MatrixView<const float> query, MatrixView<const float> key,
                         const SparseOptions& options, const HashDirections& directions) {
  BucketCodes codes;
  codes.bucket_count = options.bucket_count;
  codes.query = hashed_codes(query, directions, options.bucket_order);
  if (!options.centre_keys) {
    codes.key = hashed_codes(key, directions, options.bucket_order);
    return codes;
  }
  codes.key = hashed_codes(centred(key), directions, options.bucket_order);
  return codes;
}

// Keys by distance; queries by scale·(q · c) + log n_c, the mass of the bucket were all its keys at c.
BucketCodes kmeans_buckets(MatrixView<const float> query, MatrixView<const float> key, float scale,
                           const SparseOptions& options, const RandomStream& stream) {
  const DenseMatrix<float> centres = kmeans_centres(key, options.bucket_count, stream);
  BucketCodes codes;
  codes.bucket_count = centres.rows;
  codes.key = best_centres(key, centres, 1.0F, nearest_biases(centres));
  std::vector<float> mass(static_cast<size_t>(centres.rows), 0.0F);
  for (const uint32_t code : codes.key) ++mass[code];
  for (float& m : mass) m = std::log(m);
  codes.query = best_centres(query, centres, scale, mass);
  return codes;
}

BucketCodes random_buckets(const AttentionNode& node, const SparseOptions& options,
                           const RandomStream& stream) {
  BucketCodes codes;
  codes.bucket_count = options.bucket_count;
  const auto draw = [&](uint64_t index) {
    return static_cast<uint32_t>(stream.below(index, static_cast<uint64_t>(options.bucket_count)));
  };
  for (int64_t i = 0; i < node.query_count(); ++i) codes.query.push_back(draw(static_cast<uint64_t>(i)));
  for (int64_t j = 0; j < node.key_count(); ++j)
    codes.key.push_back(draw(kKeyBuckets + static_cast<uint64_t>(j)));
  return codes;
}

// What the batched sort cannot do: other bucket numbers, and other blocks for queries.
bool needs_codes(const SparseOptions& options) {
  return options.kmeans_buckets || options.centre_keys || options.query_blocks_by_bucket;
}

NodeMask coded_mask(const AttentionProblem& problem, const CallContext& context, const SparseOptions& options,
                    const HeadNode& place, const HashDirections* directions) {
  const auto& [head, node] = place;
  const auto query = rows_of(problem.query, head, node.query_begin, node.query_end);
  const auto key = rows_of(problem.key, head, node.key_begin, node.key_end);
  const BucketCodes codes =
      options.random_buckets ? random_buckets(node, options, node_stream(context, Purpose::bucket, place))
      : options.kmeans_buckets
          ? kmeans_buckets(query, key, problem.scale, options, node_stream(context, Purpose::centroid, place))
          : hash_buckets(query, key, options, *directions);
  return options.query_blocks_by_bucket ? blocks_by_bucket(codes, node, options.block_size)
                                        : blocks_by_rank(codes, node, options.block_size);
}

}  // namespace

MaskPlanner::MaskPlanner(const AttentionProblem& problem, const CallContext& context,
                         const SparseOptions& options, const std::vector<HeadNode>& nodes,
                         PlanningSeconds* seconds)
    : problem_(problem), context_(context), options_(options), nodes_(nodes) {
  if (options.mask == MaskKind::file) {
    if (context.mask == nullptr) fail_usage("mask: file needs a mask, but none was given (see mask_path)");
    context.mask->validate(problem.heads(), problem.query_count(), problem.key_count());
  }
  if (nodes.empty() || options.mask != MaskKind::sort_lsh || options.kmeans_buckets) return;
  if (needs_codes(options))
    directions_ = directions_of(problem, context, options, nodes);
  else
    sorted_ = sorted_masks(problem, context, options, nodes, seconds);
}

NodeMask MaskPlanner::take(size_t i) {
  if (!sorted_.empty()) return std::move(sorted_[i]);
  const AttentionNode& node = nodes_[i].node;
  switch (options_.mask) {
    case MaskKind::none:
      return empty_mask(node);
    case MaskKind::band:
      return band_mask(node, options_.band_width, problem_.query_count(), problem_.key_count());
    case MaskKind::file:
      return pattern_mask(node, context_.mask->pattern(nodes_[i].head));
    case MaskKind::sort_lsh:
      break;
  }
  const size_t own = context_.replay != nullptr ? 0 : i;
  return coded_mask(problem_, context_, options_, nodes_[i],
                    directions_.empty() ? nullptr : &directions_[own]);
}

std::vector<NodeMask> build_masks(const AttentionProblem& problem, const CallContext& context,
                                  const SparseOptions& options, const std::vector<HeadNode>& nodes,
                                  PlanningSeconds* seconds) {
  MaskPlanner planner(problem, context, options, nodes, seconds);
  const Stopwatch watch;
  std::vector<NodeMask> masks(nodes.size());
  for_each_node(nodes, [&](size_t i) { masks[i] = planner.take(i); });
  if (seconds != nullptr) seconds->sort += watch.seconds();
  return masks;
}

}  // namespace hyperattn
