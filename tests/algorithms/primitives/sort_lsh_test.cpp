#include "algorithms/primitives/sort_lsh.h"

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <numbers>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/parallel.h"
#include "tests/algorithms/random_problem.h"
#include "tests/statistics.h"

namespace hyperattn::testing {
namespace {

std::vector<uint32_t> codes_by_rank(int bits, BucketOrder order) {
  std::vector<uint32_t> codes(size_t{1} << bits, UINT32_MAX);
  for (uint32_t code = 0; code < codes.size(); ++code) {
    const uint32_t rank = bucket_rank(code, order);
    REQUIRE(rank < codes.size());
    REQUIRE(codes[rank] == UINT32_MAX);  // a bijection
    codes[rank] = code;
  }
  return codes;
}

int far_neighbours(const std::vector<uint32_t>& codes) {
  int count = 0;
  for (size_t rank = 0; rank < codes.size(); ++rank)
    count += std::popcount(codes[rank] ^ codes[(rank + 1) % codes.size()]) > 1 ? 1 : 0;
  return count;
}

TEST_CASE("neighbouring buckets in gray order differ in exactly one bit, the two ends too") {
  for (int bits = 1; bits <= 12; ++bits) {
    INFO("r = " << bits);
    const auto codes = codes_by_rank(bits, BucketOrder::gray);
    for (size_t rank = 0; rank < codes.size(); ++rank)
      REQUIRE(std::popcount(codes[rank] ^ codes[(rank + 1) % codes.size()]) == 1);
  }
}

TEST_CASE("the authors' order is a bijection without that property from r = 3 on") {
  for (int bits = 1; bits <= 12; ++bits) {
    INFO("r = " << bits);
    CHECK((far_neighbours(codes_by_rank(bits, BucketOrder::reference)) > 0) == (bits >= 3));
  }
  CHECK(bucket_rank(6, BucketOrder::reference) == (6U ^ 3U));
}

TEST_CASE("bucket counts are powers of two up to 2^20") {
  CHECK(hash_bits(1) == 0);
  CHECK(hash_bits(128) == 7);
  CHECK(hash_bits(int64_t{1} << 20) == 20);
  for (const int64_t bad : {int64_t{0}, int64_t{-1}, int64_t{96}, int64_t{1} << 21}) {
    INFO(bad);
    CHECK_THROWS_WITH(hash_bits(bad),
                      Catch::Contains("power of two") && Catch::Contains(std::to_string(bad)));
  }
}

// Codes by the definition, in double, and the smallest |product| met.
std::vector<uint32_t> plain_codes(MatrixView<const float> rows, const RandomStream& stream, int bits) {
  std::vector<uint32_t> codes(static_cast<size_t>(rows.rows), 0);
  for (int64_t i = 0; i < rows.rows; ++i)
    for (int t = 0; t < bits; ++t) {
      double product = 0;
      for (int64_t c = 0; c < rows.cols; ++c)
        product +=
            static_cast<double>(rows.row(i)[c]) * stream.normal(static_cast<uint64_t>(t * rows.cols + c));
      if (product > 0) codes[static_cast<size_t>(i)] |= 1U << t;
    }
  return codes;
}

TEST_CASE("hash codes are the signs of Gaussian projections, for any width and number of bits") {
  for (const int64_t d : {1, 2, 7, 64, 65, 256})
    for (const int bits : {0, 1, 7, 8, 9, 16, 20})
      for (const int64_t n : {1, 7, 8, 61}) {
        INFO("d " << d << ", r " << bits << ", n " << n);
        const Tensor<float> x = gaussian({1, 1, n, d}, 3, Purpose::query);
        const RandomStream stream(11, Purpose::hash, 2, 3, 4);
        std::vector<uint32_t> codes(static_cast<size_t>(n), 77);
        HashDirections(stream, d, bits).hash(x.matrix(0), 0, n, codes.data());
        CHECK(codes == plain_codes(x.matrix(0), stream, bits));
        DenseMatrix<double> given(d, bits);
        for (int64_t c = 0; c < d; ++c)
          for (int t = 0; t < bits; ++t) given(c, t) = stream.normal(static_cast<uint64_t>(t * d + c));
        HashDirections(given).hash(x.matrix(0), 0, n, codes.data());
        CHECK(codes == plain_codes(x.matrix(0), stream, bits));
      }
}

std::vector<int32_t> plain_order(const std::vector<uint32_t>& codes, BucketOrder order) {
  std::vector<int32_t> rows(codes.size());
  std::iota(rows.begin(), rows.end(), 0);
  std::stable_sort(rows.begin(), rows.end(), [&](int32_t a, int32_t b) {
    return bucket_rank(codes[static_cast<size_t>(a)], order) <
           bucket_rank(codes[static_cast<size_t>(b)], order);
  });
  return rows;
}

TEST_CASE("the sort is stable, by bucket rank, with ranks its inverse") {
  for (const int64_t n : {1, 2, 255, 4096, 4097, 9001})
    for (const int64_t buckets : {1, 2, 128, 1 << 20})
      for (const BucketOrder order : {BucketOrder::gray, BucketOrder::reference}) {
        INFO("n " << n << ", buckets " << buckets);
        const Tensor<float> x = gaussian({1, 1, n, 5}, 8, Purpose::key);
        const RandomStream stream(1, Purpose::hash);
        const HashDirections directions(stream, 5, hash_bits(buckets));
        SortRequest request;
        request.rows = x.matrix(0);
        request.directions = &directions;
        request.want_ranks = true;
        const SortedRows sorted = sort_by_bucket({request}, buckets, order)[0];
        CHECK(sorted.order == plain_order(plain_codes(x.matrix(0), stream, hash_bits(buckets)), order));
        bool inverse = true;
        for (size_t rank = 0; rank < sorted.order.size(); ++rank)
          inverse =
              inverse && sorted.ranks[static_cast<size_t>(sorted.order[rank])] == static_cast<int32_t>(rank);
        CHECK(inverse);
      }
}

TEST_CASE("a batch of requests sorts each as if alone, for any number of threads") {
  const Tensor<float> x = gaussian({1, 1, 20000, 8}, 8, Purpose::key);
  const HashDirections first(RandomStream(1, Purpose::hash), 8, 6);
  const HashDirections second(RandomStream(2, Purpose::hash), 8, 6);
  const RandomStream buckets(3, Purpose::bucket);
  std::vector<SortRequest> requests(4);
  const int64_t begins[] = {0, 0, 5000, 20000};
  for (size_t r = 0; r < 4; ++r) {
    requests[r].rows = x.matrix(0);
    requests[r].rows.data += begins[r] * 8;
    requests[r].rows.rows -= begins[r];
    requests[r].first_row = static_cast<int32_t>(begins[r]);
    requests[r].want_ranks = r == 2;
    requests[r].directions = r == 0 ? &first : &second;
  }
  requests[2].directions = nullptr;
  requests[2].random_buckets = &buckets;
  const int before = thread_count();
  set_thread_count(1);
  std::vector<SortedRows> alone;
  for (const SortRequest& request : requests)
    alone.push_back(sort_by_bucket({request}, 64, BucketOrder::gray)[0]);
  for (const int threads : {1, 2, 3, 8}) {
    set_thread_count(threads);
    const auto batch = sort_by_bucket(requests, 64, BucketOrder::gray);
    INFO(threads << " threads");
    for (size_t r = 0; r < 4; ++r) {
      CHECK(batch[r].order == alone[r].order);
      CHECK(batch[r].ranks == alone[r].ranks);
    }
  }
  set_thread_count(before);
  CHECK(alone[0].order != alone[1].order);
  CHECK(alone[2].ranks.size() == 15000);
  CHECK(std::set<int32_t>(alone[2].order.begin(), alone[2].order.end()).size() == 15000);
  CHECK(*std::min_element(alone[2].order.begin(), alone[2].order.end()) == 5000);
}

// Two unit vectors of the plane at angle theta, embedded in d dimensions.
Tensor<float> pair_at_angle(double theta, int64_t d) {
  Tensor<float> pair({1, 1, 2, d}, 0.0F);
  pair.data()[0] = 1;
  pair.data()[d] = static_cast<float>(std::cos(theta));
  pair.data()[d + 1] = static_cast<float>(std::sin(theta));
  return pair;
}

TEST_CASE("collision and adjacency probabilities are those of Definition 1 (|z| < 4.5)") {
  constexpr int kTrials = 20000;
  const struct {
    double theta;
    int bits;
  } cases[] = {{0.6, 4}, {0.2, 7}, {1.5, 2}, {0.3, 1}};
  for (const auto& c : cases) {
    const Tensor<float> pair = pair_at_angle(c.theta, 6);
    const uint32_t buckets = 1U << c.bits;
    int same = 0;
    int adjacent = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      const RandomStream stream(99, Purpose::hash, static_cast<uint32_t>(trial));
      uint32_t codes[2];
      HashDirections(stream, 6, c.bits).hash(pair.matrix(0), 0, 2, codes);
      const uint32_t gap =
          (bucket_rank(codes[0], BucketOrder::gray) - bucket_rank(codes[1], BucketOrder::gray)) % buckets;
      same += gap == 0 ? 1 : 0;
      adjacent += gap == 1 || gap == buckets - 1 ? 1 : 0;
    }
    const double stay = 1 - c.theta / std::numbers::pi;
    // With r = 1 there are two buckets, neighbours on both sides: once counted.
    const double sides = c.bits == 1 ? 1 : 2;
    const double expected_same = std::pow(stay, c.bits);
    const double expected_adjacent = sides * (1 - stay) * std::pow(stay, c.bits - 1);
    const auto z = [&](int count, double p) {
      return (count - kTrials * p) / std::sqrt(kTrials * p * (1 - p));
    };
    INFO("theta " << c.theta << ", r " << c.bits << ": same " << same / double(kTrials) << " expected "
                  << expected_same << ", adjacent " << adjacent / double(kTrials) << " expected "
                  << expected_adjacent);
    CHECK(std::abs(z(same, expected_same)) < kZBound);
    CHECK(std::abs(z(adjacent, expected_adjacent)) < kZBound);
  }
}

TEST_CASE("aligned blocks follow the design's formula for every rank") {
  for (const int64_t n_q : {1, 3, 15, 16, 17, 64, 101})
    for (const int64_t n_k : {1, 3, 15, 16, 17, 64, 101, 997})
      for (const int64_t b : {1, 2, 16, 100, 5000}) {
        INFO("n_q " << n_q << ", n_k " << n_k << ", b " << b);
        int64_t seen = 0;
        for (const RankBlock& block : aligned_blocks(n_q, n_k, b)) {
          REQUIRE(block.query_begin == seen);
          REQUIRE(block.key_begin % b == 0);
          REQUIRE(block.key_end == std::min(block.key_begin + b, n_k));
          bool in_block = true;
          for (; seen < block.query_end; ++seen) in_block &= seen * n_k / n_q / b == block.key_begin / b;
          REQUIRE(in_block);
        }
        REQUIRE(seen == n_q);
      }
}

TEST_CASE("banded blocks are windows of b key ranks centred on tiles of 128, wrapped") {
  for (const int64_t n : {1, 127, 128, 129, 1000})
    for (const int64_t b : {1, 64, 128, 256, 384, 5000}) {
      INFO("n " << n << ", b " << b);
      std::vector<std::set<int64_t>> keys(static_cast<size_t>(n));
      for (const RankBlock& block : banded_blocks(n, n, b)) {
        REQUIRE(block.query_begin % 128 == 0);
        REQUIRE(block.query_end <= n);
        bool new_keys = true;
        for (int64_t i = block.query_begin; i < block.query_end; ++i)
          for (int64_t j = block.key_begin; j < block.key_end; ++j)
            new_keys &= keys[static_cast<size_t>(i)].insert(j).second;
        REQUIRE(new_keys);
      }
      for (int64_t i = 0; i < n; ++i) {
        const int64_t width = std::min(b, n);
        const int64_t first = i / 128 * 128 + 64 - width / 2;
        std::set<int64_t> expected;
        for (int64_t j = first; j < first + width; ++j) expected.insert(((j % n) + n) % n);
        REQUIRE(keys[static_cast<size_t>(i)] == expected);
      }
    }
  // Unequal lengths: the windows move with the keys.
  const auto blocks = banded_blocks(256, 1024, 128);
  REQUIRE(blocks.size() == 2);
  CHECK(blocks[0].key_begin == 256 - 64);
  CHECK(blocks[1].key_begin == 768 - 64);
}

}  // namespace
}  // namespace hyperattn::testing
