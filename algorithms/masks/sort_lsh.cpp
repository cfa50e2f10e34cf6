// Blocks of sorted rows (paper, Algorithm 1), and its relatives: buckets from a hash, from k-means centres of
// the keys or at random; queries cut by their own ranks or placed by their bucket; blocks aligned or banded.
#include "algorithms/primitives/sort_lsh.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "algorithms/masks/bucket_blocks.h"
#include "algorithms/masks/mask.h"
#include "algorithms/masks/query_blocks.h"
#include "algorithms/nodes/node_work.h"
#include "algorithms/primitives/kmeans.h"
#include "core/error.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

// Where the random buckets of keys start; queries use the numbers below. Rounds are as far apart again.
constexpr uint64_t kKeyBuckets = uint64_t{1} << 32;
constexpr uint64_t kRoundBuckets = uint64_t{1} << 33;

constexpr int64_t kMostRounds = 64;

enum class Buckets { lsh, random, kmeans };

struct Options {
  int64_t bucket_count;
  int64_t block_size;
  BucketOrder bucket_order;
  Buckets buckets;
  bool centre_keys;
  bool query_blocks_by_bucket;
  bool banded;
  int64_t rounds;

  explicit Options(const Parameters& parameters)
      : bucket_count(parameters.integer("bucket_count")),
        block_size(parameters.integer("block_size")),
        bucket_order(parameters.text("bucket_order") == "reference" ? BucketOrder::reference
                                                                    : BucketOrder::gray),
        buckets(parameters.text("buckets") == "random"   ? Buckets::random
                : parameters.text("buckets") == "kmeans" ? Buckets::kmeans
                                                         : Buckets::lsh),
        centre_keys(parameters.boolean("centre_keys")),
        query_blocks_by_bucket(rows_keep_to_their_buckets(parameters)),
        banded(parameters.text("blocks") == "banded"),
        rounds(buckets == Buckets::kmeans ? 1 : parameters.integer("hash_rounds")) {}

  /// What the sort of all nodes at once cannot do: other bucket numbers, and other blocks for queries.
  [[nodiscard]] bool goes_node_by_node() const {
    return buckets == Buckets::kmeans || centre_keys || query_blocks_by_bucket;
  }
};

std::vector<ParameterSpec> declared_parameters() {
  ParameterSpec buckets =
      integer_parameter("bucket_count", "buckets of the hash, 2^r from r hyperplanes: more make blocks purer")
          .between(1, 1 << kMaxHashBits)
          .by_default(128);
  buckets.power_of_two = true;
  return {
      std::move(buckets),
      integer_parameter("block_size", "keys in a block (b): cost and exact mass grow with it")
          .between(1, std::numeric_limits<int32_t>::max())
          .by_default(256),
      choice_parameter("bucket_order", {"gray", "reference"},
                       "order of buckets: neighbours differ in one bit, or as in the authors' code")
          .only_with("buckets", {"lsh"}),
      choice_parameter(
          "buckets", {"lsh", "random", "kmeans"},
          "hashed buckets, random ones as a control, or at most bucket_count k-means centres of the keys"),
      boolean_parameter("centre_keys", "the hash (nothing else) sees keys minus their mean")
          .only_with("buckets", {"lsh"}),
      query_blocks_parameter(),
      choice_parameter("blocks", {"aligned", "banded"},
                       "blocks of equal ranks, or windows centred on tiles of 128 queries"),
      integer_parameter("hash_rounds",
                        "independent rounds of sorting: a row holds the keys of all its blocks, each once")
          .between(1, kMostRounds)
          .by_default(int64_t{1})
          .only_with("buckets", {"lsh", "random"}),
  };
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

/// The hash functions of a call's nodes: one for each node, or a replay's for all of them.
class NodeDirections {
 public:
  NodeDirections() = default;
  NodeDirections(const MaskRequest& request, const Options& options) {
    if (options.buckets != Buckets::lsh) return;
    const AttentionProblem& problem = request.bound.shapes();
    if (const Replay* replay = request.call.replay; replay != nullptr) {
      if (options.rounds > 1)
        fail_usage("hash_rounds must be 1 for a replay, which holds the directions of one round, but is " +
                   std::to_string(options.rounds));
      check_replay_directions(problem, *replay, options.bucket_count);
      directions_.emplace_back(replay->projections);
      return;
    }
    rounds_ = static_cast<size_t>(options.rounds);
    directions_.resize(request.nodes.size() * rounds_);
    for_small_pieces(directions_.size(), [&](size_t d) {
      directions_[d] = HashDirections(node_stream(request.call, Purpose::hash, request.nodes[d / rounds_]),
                                      problem.head_dim(), hash_bits(options.bucket_count),
                                      static_cast<int64_t>(d % rounds_));
    });
    if (request.bound.draws_hash_functions()) return;
    const auto draw = [&](int64_t d, int) {
      static_cast<void>(directions_[static_cast<size_t>(d)].packed());
    };
    parallel_for(std::ssize(directions_), draw, small_pieces(std::ssize(directions_)));
  }

  /// Of node i; null where buckets are not hashed.
  [[nodiscard]] const HashDirections* of(size_t i, int64_t round) const {
    if (directions_.empty()) return nullptr;
    return &directions_[directions_.size() == 1 ? 0 : i * rounds_ + static_cast<size_t>(round)];
  }

 private:
  size_t rounds_ = 1;
  std::vector<HashDirections> directions_;
};

/// All sorting of the prepared nodes as one parallel job, so that small nodes don't starve threads; and all
/// hashing, of the whole call's nodes where an engine wants it so.
class SortedTogether final : public MaskPlanner {
 public:
  SortedTogether(const MaskRequest& request, const Options& options)
      : request_(request), options_(options), masks_(request.nodes.size()) {
    const Stopwatch watch;
    directions_ = NodeDirections(request_, options_);
    if (options_.buckets == Buckets::random)
      for (const HeadNode& node : request_.nodes)
        buckets_.push_back(node_stream(request_.call, Purpose::bucket, node));
    if (options_.rounds == 1)
      hashed_ = request_.bound.hash_rows(requests_of(all_nodes(request_.nodes), 0, false),
                                         options_.bucket_count, options_.bucket_order);
    if (request_.seconds != nullptr) request_.seconds->hash += watch.seconds();
  }

  void prepare(const std::vector<size_t>& which) override {
    SortSeconds spent;
    for (int64_t round = 0; round < options_.rounds; ++round)
      sort_round(which, round, requests_of(which, round, true), spent);
    if (request_.seconds == nullptr) return;
    request_.seconds->hash += spent.hash;
    request_.seconds->sort += spent.sort;
  }

  [[nodiscard]] bool leaves_blocks(size_t i) const override {
    const AttentionNode& node = request_.nodes[i].node;
    const int64_t blocks = (node.key_count() + options_.block_size - 1) / options_.block_size;
    return request_.takes_unlisted_blocks && !options_.banded && options_.rounds == 1 &&
           request_.bound.takes_sampled_blocks() && node.query_count() >= kLeftBlockRows * blocks;
  }
  [[nodiscard]] NodeMask take(size_t i) override { return std::move(masks_[i]); }

 private:
  /// `for_sorting`: what is asked of the sorted order is known by then.
  [[nodiscard]] std::vector<SortRequest> requests_of(const std::vector<size_t>& which, int64_t round,
                                                     bool for_sorting) const {
    const AttentionProblem& problem = request_.bound.shapes();
    std::vector<SortRequest> requests(2 * which.size());
    for (size_t w = 0; w < which.size(); ++w) {
      const size_t i = which[w];
      const auto& [head, node] = request_.nodes[i];
      SortRequest& query = requests[2 * w];
      SortRequest& key = requests[2 * w + 1];
      query.rows = rows_between(problem.query.matrix(head), node.query_begin, node.query_end);
      query.first_row = static_cast<int32_t>(node.query_begin);
      query.random_offset = static_cast<uint64_t>(round) * kRoundBuckets;
      query.hashed_number = static_cast<int64_t>(2 * i);
      key.rows = rows_between(problem.keys_of(head), node.key_begin, node.key_end);
      key.first_row = static_cast<int32_t>(node.key_begin);
      key.random_offset = query.random_offset + kKeyBuckets;
      key.hashed_number = query.hashed_number + 1;
      key.want_ranks = request_.want_ranks || options_.rounds > 1;
      if (for_sorting && request_.asked_keys) key.asked_rows = request_.asked_keys(i);
      for (SortRequest* one : {&query, &key}) {
        one->directions = directions_.of(i, round);
        one->random_buckets = buckets_.empty() ? nullptr : &buckets_[i];
        one->hashed = hashed_.get();
      }
    }
    return requests;
  }

  void sort_round(const std::vector<size_t>& which, int64_t round, const std::vector<SortRequest>& sorts,
                  SortSeconds& spent) {
    std::vector<SortedRows> sorted =
        request_.bound.sort_by_bucket(sorts, options_.bucket_count, options_.bucket_order, &spent);
    const Stopwatch watch;
    const auto make = [&](int64_t number, int) {
      const auto w = static_cast<size_t>(number);
      NodeMask mask =
          sorted_mask(std::move(sorted[2 * w]), std::move(sorted[2 * w + 1]), listed_blocks(which[w]));
      if (!options_.banded) mask.block_size = options_.block_size;
      if (round == 0)
        masks_[which[w]] = std::move(mask);
      else
        masks_[which[w]].further.push_back(std::move(mask));
    };
    parallel_for(std::ssize(which), make, pieces_worth_a_team(std::ssize(which), microseconds(which)));
    spent.sort += watch.seconds();
  }

  /// None where the engine finds them itself.
  [[nodiscard]] std::vector<RankBlock> listed_blocks(size_t i) const {
    if (leaves_blocks(i)) return {};
    const AttentionNode& node = request_.nodes[i].node;
    if (options_.banded) return banded_blocks(node.query_count(), node.key_count(), options_.block_size);
    return aligned_blocks(node.query_count(), node.key_count(), options_.block_size);
  }

  MaskRequest request_;
  Options options_;
  NodeDirections directions_;
  std::vector<RandomStream> buckets_;  // of the nodes, where they are drawn
  std::shared_ptr<const HashedRows> hashed_;
  std::vector<NodeMask> masks_;
};

/// Each node by bucket numbers of its own.
class CodedNodes final : public MaskPlanner {
 public:
  CodedNodes(const MaskRequest& request, const Options& options)
      : request_(request), options_(options), directions_(request, options) {}

  [[nodiscard]] NodeMask take(size_t i) override {
    NodeMask mask = mask_of(i, 0);
    for (int64_t round = 1; round < options_.rounds; ++round) mask.further.push_back(mask_of(i, round));
    return mask;
  }

 private:
  [[nodiscard]] NodeMask mask_of(size_t i, int64_t round) const {
    const AttentionNode& node = request_.nodes[i].node;
    const BucketCodes codes = codes_of(i, round);
    return options_.query_blocks_by_bucket ? blocks_by_bucket(codes, node, options_.block_size)
                                           : blocks_by_rank(codes, node, options_.block_size);
  }

  [[nodiscard]] BucketCodes codes_of(size_t i, int64_t round) const {
    switch (options_.buckets) {
      case Buckets::random:
        return random_codes(request_.nodes[i], round);
      case Buckets::kmeans:
        return kmeans_codes(request_.nodes[i]);
      case Buckets::lsh:
        break;
    }
    const BoundProblem& bound = request_.bound;
    BucketCodes codes;
    codes.bucket_count = options_.bucket_count;
    codes.query = bound.bucket_codes(queries_of(request_.nodes[i]), *directions_.of(i, round),
                                     options_.bucket_order, false);
    codes.key = bound.bucket_codes(keys_of(request_.nodes[i]), *directions_.of(i, round),
                                   options_.bucket_order, options_.centre_keys);
    return codes;
  }

  [[nodiscard]] BucketCodes random_codes(const HeadNode& place, int64_t round) const {
    const uint64_t first = static_cast<uint64_t>(round) * kRoundBuckets;
    const RandomStream stream = node_stream(request_.call, Purpose::bucket, place);
    BucketCodes codes;
    codes.bucket_count = options_.bucket_count;
    const auto draw = [&](uint64_t index) {
      return static_cast<uint32_t>(stream.below(index, static_cast<uint64_t>(options_.bucket_count)));
    };
    for (int64_t i = 0; i < place.node.query_count(); ++i)
      codes.query.push_back(draw(first + static_cast<uint64_t>(i)));
    for (int64_t j = 0; j < place.node.key_count(); ++j)
      codes.key.push_back(draw(first + kKeyBuckets + static_cast<uint64_t>(j)));
    return codes;
  }

  /// Keys by distance; queries by scale·(q · c) + log n_c, the mass of the bucket were all its keys at c.
  [[nodiscard]] BucketCodes kmeans_codes(const HeadNode& place) const {
    const BoundProblem& bound = request_.bound;
    const DenseMatrix<float> centres = bound.kmeans_centres(
        keys_of(place), options_.bucket_count, node_stream(request_.call, Purpose::centroid, place));
    BucketCodes codes;
    codes.bucket_count = centres.rows;
    codes.key = bound.best_centres(keys_of(place), centres, 1.0F, nearest_biases(centres));
    std::vector<float> mass(static_cast<size_t>(centres.rows), 0.0F);
    for (const uint32_t code : codes.key) ++mass[code];
    for (float& m : mass) m = std::log(m);
    codes.query = bound.best_centres(queries_of(place), centres, bound.shapes().scale, mass);
    return codes;
  }

  [[nodiscard]] MatrixView<const float> queries_of(const HeadNode& place) const {
    return rows_between(request_.bound.shapes().query.matrix(place.head), place.node.query_begin,
                        place.node.query_end);
  }
  [[nodiscard]] MatrixView<const float> keys_of(const HeadNode& place) const {
    return rows_between(request_.bound.shapes().keys_of(place.head), place.node.key_begin,
                        place.node.key_end);
  }

  MaskRequest request_;
  Options options_;
  NodeDirections directions_;
};

class SortLshMask final : public DescribedMask {
 public:
  SortLshMask()
      : DescribedMask(
            {"sort_lsh", "the keys of the row's own block after sorting by bucket", declared_parameters()}) {}

  [[nodiscard]] std::string check(const Parameters& parameters) const override {
    const Options options(parameters);
    if (!options.banded || !options.goes_node_by_node()) return {};
    return "blocks: banded goes with buckets: lsh or random, centre_keys: false and query_blocks: by_rank "
           "only; choose blocks: aligned";
  }

  [[nodiscard]] bool whole_blocks(const Parameters& parameters) const override {
    return !Options(parameters).banded && !is_union(parameters);
  }
  [[nodiscard]] bool is_union(const Parameters& parameters) const override {
    return Options(parameters).rounds > 1;
  }
  [[nodiscard]] bool rows_are_independent(const Parameters& parameters) const override {
    return Options(parameters).query_blocks_by_bucket;
  }

  [[nodiscard]] double keys(const AttentionNode& node, const Parameters& parameters) const override {
    const Options options(parameters);
    return static_cast<double>(std::min(node.key_count(), options.rounds * options.block_size));
  }
  /// A k-means centre is compared with every query and every key.
  [[nodiscard]] int64_t planning_keys(const Parameters& parameters) const override {
    const Options options(parameters);
    return options.buckets == Buckets::kmeans ? options.bucket_count : 0;
  }
  /// Bucket codes, orders and ranks.
  [[nodiscard]] double bytes(double queries, double keys) const override {
    return (2 * queries + 3 * keys) * sizeof(int32_t);
  }

  [[nodiscard]] std::unique_ptr<MaskPlanner> plan(const MaskRequest& request) const override {
    const Options options(request.call.parameters);
    if (options.goes_node_by_node()) return std::make_unique<CodedNodes>(request, options);
    return std::make_unique<SortedTogether>(request, options);
  }
};

}  // namespace

const Mask& mask_sort_lsh() {
  static const SortLshMask mask;
  return mask;
}

}  // namespace hyperattn
