// query_moves against ranks counted one by one, and the methods whose rows never move.
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <vector>

#include "algorithms/primitives/sort_lsh.h"
#include "tests/experiments/measures/answered.h"

namespace hyperattn::testing {
namespace {

/// Bucket ranks of the rows of a node, by the hash that the backend draws for it.
std::vector<uint32_t> buckets_of(const Answered& a, const HeadNode& place, MatrixView<const float> rows) {
  const int bits = hash_bits(a.call.parameters.integer("bucket_count"));
  const RandomStream stream(a.call.seed, Purpose::hash, a.call.trial, static_cast<uint32_t>(place.head),
                            place.node.stream);
  std::vector<uint32_t> codes(static_cast<size_t>(rows.rows));
  HashDirections(stream, rows.cols, bits).hash(rows, 0, rows.rows, codes.data());
  for (uint32_t& code : codes) code = bucket_rank(code, BucketOrder::gray);
  return codes;
}

/// The block of query `row` among queries of these buckets: by its rank in a stable sort.
int64_t block_of(const std::vector<uint32_t>& buckets, size_t row, int64_t keys, int64_t block_size) {
  int64_t rank = 0;
  for (size_t j = 0; j < buckets.size(); ++j)
    rank += buckets[j] < buckets[row] || (buckets[j] == buckets[row] && j < row) ? 1 : 0;
  return rank * keys / static_cast<int64_t>(buckets.size()) / block_size;
}

/// The share of all rows of a node that later queries move.
double share_of_node(const Answered& a, const HeadNode& place) {
  const AttentionNode& node = place.node;
  MatrixView<const float> rows = a.input.problem.query.matrix(place.head);
  rows.data += node.query_begin * rows.stride;
  rows.rows = node.query_count();
  const std::vector<uint32_t> buckets = buckets_of(a, place, rows);
  const RandomStream stream(a.call.seed, Purpose::query_moves, a.call.trial,
                            static_cast<uint32_t>(place.head), node.stream);
  std::vector<uint32_t> fresh;
  for (uint64_t j = 0; j < buckets.size(); ++j)
    fresh.push_back(buckets[stream.below(buckets.size() + j, buckets.size())]);
  const int64_t block_size = a.call.parameters.integer("block_size");
  int64_t moved = 0;
  for (size_t row = 0; row < buckets.size(); ++row) {
    std::vector<uint32_t> changed = buckets;
    std::copy(fresh.begin() + static_cast<int64_t>(row) + 1, fresh.end(),
              changed.begin() + static_cast<int64_t>(row) + 1);
    moved += block_of(buckets, row, node.key_count(), block_size) !=
                     block_of(changed, row, node.key_count(), block_size)
                 ? 1
                 : 0;
  }
  return static_cast<double>(moved) / static_cast<double>(buckets.size());
}

const MeasuredSize kSize{301, 301, 8, 5, 1, 2, true};
const Settings kAllRows = {{"rows", int64_t{1000}}};

Settings lsh_settings() {
  return {{"block_size", int64_t{16}}, {"bucket_count", int64_t{8}}, {"min_seq_len", int64_t{40}}};
}

}  // namespace

TEST_CASE("with every row asked, query_moves is the share of rows whose rank changes its block") {
  Answered a(kSize, "lsh", lsh_settings());
  const std::vector<FigureRow> rows = a.rows(query_moves_measure(), kAllRows);
  double largest = 0;
  std::map<int, double> of_levels;
  for (int64_t head = 0; head < 2; ++head) {
    double moved = 0;
    double all = 0;
    std::map<int, std::pair<double, double>> levels;
    for (const HeadNode& place : a.context.approximated_nodes()) {
      if (place.head != head) continue;
      const auto queries = static_cast<double>(place.node.query_count());
      const double node = queries * share_of_node(a, place);
      moved += node;
      all += queries;
      levels[place.node.level].first += node;
      levels[place.node.level].second += queries;
    }
    CAPTURE(head, moved, all);
    REQUIRE(moved > 0);
    REQUIRE(moved < all);
    REQUIRE(find_row(rows, head)->figures.at("query_moves") == Approx(moved / all));
    largest = std::max(largest, moved / all);
    for (const auto& [level, sums] : levels)
      of_levels[level] = std::max(of_levels[level], sums.first / sums.second);
  }
  REQUIRE(rows[0].figures.at("query_moves") == Approx(largest));
  REQUIRE(of_levels.size() == 2);  // the deepest nodes are exact
  for (const auto& [level, share] : of_levels) {
    CAPTURE(level, share);
    REQUIRE(find_row(rows, -1, level)->figures.at("query_moves") == Approx(share));
  }
}

TEST_CASE("query_moves of few sampled rows estimates that of all rows") {
  Answered a({1200, 1200, 8, 5, 1, 1, true}, "lsh", lsh_settings());
  const double all = a.rows(query_moves_measure(), kAllRows)[0].figures.at("query_moves");
  const double some = a.rows(query_moves_measure(), {{"rows", int64_t{8}}})[0].figures.at("query_moves");
  const auto sampled = static_cast<double>(8 * a.context.approximated_nodes().size());
  CAPTURE(all, some, sampled);
  REQUIRE(some > 0);
  REQUIRE(std::abs(some - all) < 4.5 * std::sqrt(all * (1 - all) / sampled));
}

TEST_CASE("rows do not move where blocks do not depend on other queries") {
  const std::pair<std::string, ParameterValue> still[] = {{"query_blocks", std::string("by_bucket")},
                                                          {"mask", std::string("band")},
                                                          {"buckets", std::string("random")},
                                                          {"block_size", int64_t{1000}}};
  for (const auto& [name, value] : still) {
    CAPTURE(name, hyperattn::to_string(value));
    REQUIRE(Answered(kSize, "lsh", with(lsh_settings(), name, value))
                .figure(query_moves_measure(), "query_moves") == 0);
  }
  REQUIRE(Answered(kSize, "hyper", with(kSmall, "mask", std::string("none")))
              .figure(query_moves_measure(), "query_moves") == 0);
  // Buckets of k-means are taken by the same ranks.
  REQUIRE(Answered(kSize, "lsh", with(lsh_settings(), "buckets", std::string("kmeans")))
              .figure(query_moves_measure(), "query_moves") > 0);
}

TEST_CASE("query_moves is not a number where nothing is approximated or nothing is causal") {
  const MeasuredSize plain{301, 301, 8, 5};
  REQUIRE(std::isnan(Answered(plain, "lsh", lsh_settings()).figure(query_moves_measure(), "query_moves")));
  REQUIRE(std::isnan(Answered(kSize, "exact", {}).figure(query_moves_measure(), "query_moves")));
  REQUIRE(std::isnan(Answered(kSize, "lsh", with(lsh_settings(), "min_seq_len", int64_t{301}))
                         .figure(query_moves_measure(), "query_moves")));
}

}  // namespace hyperattn::testing
