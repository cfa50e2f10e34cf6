#include "algorithms/masks/bucket_blocks.h"

#include <catch2/catch.hpp>
#include <set>

#include "algorithms/primitives/kmeans.h"
#include "core/eigen.h"
#include "core/parallel.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

const std::vector<std::string> kBuckets = {"lsh", "random", "kmeans"};

Settings by_bucket(const std::string& buckets, const std::string& residual) {
  return {{"query_blocks", std::string("by_bucket")},
          {"buckets", buckets},
          {"residual", residual},
          {"bucket_count", int64_t{8}},
          {"block_size", int64_t{256}},
          {"sample_size", int64_t{48}},
          {"min_seq_len", int64_t{128}}};
}

}  // namespace

TEST_CASE("a query goes to the block that holds the middle of its bucket, worked out by hand") {
  // Keys sorted by bucket: ranks 0–1 bucket 0, 2–6 bucket 1, 7 bucket 3; bucket 2 is empty. b = 3.
  const BucketCodes codes{{3, 1, 0, 2, 1}, {1, 0, 1, 3, 1, 0, 1, 1}, 4};
  const NodeMask mask = blocks_by_bucket(codes, whole_problem(5, 8), 3);
  std::vector<int64_t> queries;
  for (int64_t p = 0; p < 5; ++p) queries.push_back(mask.queries[p]);
  CAPTURE(queries);
  REQUIRE(queries == std::vector<int64_t>{2, 1, 4, 0, 3});
  REQUIRE(mask.groups.size() == 3);
  REQUIRE(mask.groups[1].begin == 1);
  REQUIRE(mask.groups[1].end == 3);
  REQUIRE(mask.ranges[2].begin == 6);
  REQUIRE(mask.ranges[2].end == 8);
}

TEST_CASE("with by_bucket, changes of later rows leave the bits of earlier rows") {
  const int64_t n = 1031;
  const int64_t changed = 700;
  const ProblemSize size{n, n, 16, 8, 1, 2, true};
  for (const std::string& buckets : kBuckets)
    for (const std::string residual : {"sample", "centroids", "calibrated_centroids", "linear_centroids",
                                       "moments", "columns+centroids", "none", "clt_sample"}) {
      RandomProblem p(size, 3, 2);
      const ForwardState before = run_backend("hyper", p.problem, by_bucket(buckets, residual));
      const RandomProblem other(size, 4, 2);
      take_later_rows(p, other, changed);
      const ForwardState after = run_backend("hyper", p.problem, by_bucket(buckets, residual));
      int64_t differing = 0;
      for (int64_t head = 0; head < 2; ++head)
        for (int64_t row = 0; row < changed; ++row) {
          const float* a = before.result.out.matrix(head).row(row);
          const float* b = after.result.out.matrix(head).row(row);
          differing += std::equal(a, a + 8, b) && before.result.lse.matrix(head).row(row)[0] ==
                                                      after.result.lse.matrix(head).row(row)[0]
                           ? 0
                           : 1;
        }
      CAPTURE(buckets, residual, differing);
      REQUIRE(differing == 0);
    }
}

TEST_CASE("by_rank lets later rows move earlier ones, which the test above would see") {
  const ProblemSize size{1031, 1031, 16, 8, 1, 1, true};
  RandomProblem p(size, 3, 2);
  Settings settings = by_bucket("lsh", "centroids");
  settings[0].second = std::string("by_rank");
  const ForwardState before = run_backend("hyper", p.problem, settings);
  const RandomProblem other(size, 4, 2);
  for (int64_t row = 700; row < 1031; ++row)
    std::copy_n(other.query.matrix(0).row(row), 16, p.query.matrix(0).row(row));
  const ForwardState after = run_backend("hyper", p.problem, settings);
  bool moved = false;
  for (int64_t row = 0; row < 700; ++row)
    moved = moved || before.result.out.matrix(0).row(row)[0] != after.result.out.matrix(0).row(row)[0];
  REQUIRE(moved);
}

TEST_CASE("bucket blocks hold every query once, and all keys of the sample make any of them exact") {
  for (const std::string& buckets : kBuckets)
    for (const std::string blocks : {"by_rank", "by_bucket"})
      for (const bool causal : {false, true})
        for (const int64_t n : {1, 33, 197}) {
          const RandomProblem p({n, causal ? n : n + 14, 8, 5, 2, 2, causal}, 7, 2);
          const ForwardState seen = run_backend("hyper", p.problem,
                                                {{"buckets", buckets},
                                                 {"query_blocks", blocks},
                                                 {"centre_keys", true},
                                                 {"block_size", int64_t{16}},
                                                 {"bucket_count", int64_t{8}},
                                                 {"min_seq_len", int64_t{32}},
                                                 {"sample_size", p.problem.key_count()}});
          const double difference =
              largest_difference(seen.result.out, run_backend("exact", p.problem).result.out);
          CAPTURE(buckets, blocks, causal, n, difference);
          REQUIRE(difference < 1e-4);
        }
}

TEST_CASE("by_rank from bucket numbers is the batched sort") {
  const RandomProblem p({333, 301, 8, 5, 1, 2}, 7);
  const Settings settings = {{"block_size", int64_t{16}}, {"bucket_count", int64_t{8}}};
  // Keys without mean: centring changes no hash by more than rounding.
  RandomProblem centred({333, 301, 8, 5, 1, 2}, 7);
  for (int64_t head = 0; head < 2; ++head) {
    auto keys = as_eigen(centred.key.matrix(head));
    const Eigen::RowVectorXf mean = keys.colwise().mean();
    keys.rowwise() -= mean;
  }
  Settings with = settings;
  with.emplace_back("centre_keys", true);
  const double difference = largest_difference(run_backend("lsh", centred.problem, settings).result.out,
                                               run_backend("lsh", p.problem, with).result.out);
  CAPTURE(difference);
  REQUIRE(difference < 1e-4);
}

TEST_CASE("k-means finds separated clusters, and fewer keys than centres are their own centres") {
  const int64_t rows = 400;
  Tensor<float> keys = gaussian({1, 1, rows, 6}, 3, Purpose::key, 0.01);
  for (int64_t i = 0; i < rows; ++i) keys.matrix(0).row(i)[i % 4] += 5;
  const DenseMatrix<float> centres = kmeans_centres(keys.matrix(0), 32, RandomStream(1, Purpose::centroid));
  REQUIRE(centres.rows == 32);
  const auto codes = best_centres(keys.matrix(0), centres, 1.0F, nearest_biases(centres));
  for (int64_t i = 0; i < rows; ++i) {
    const float distance =
        (as_eigen(centres).row(codes[static_cast<size_t>(i)]) - as_eigen(keys.matrix(0)).row(i)).norm();
    CAPTURE(i, distance);
    REQUIRE(distance < 0.2F);
  }
  REQUIRE(kmeans_centres({keys.data(), 3, 6, 6}, 32, RandomStream(1, Purpose::centroid)).rows == 3);
}

TEST_CASE("bucket blocks give the same bits for any number of threads") {
  const RandomProblem p({1500, 1500, 16, 8}, 19);
  const int before = thread_count();
  for (const std::string& buckets : kBuckets) {
    set_thread_count(1);
    const ForwardState one = run_backend("hyper", p.problem, by_bucket(buckets, "centroids"));
    set_thread_count(3);
    const ForwardState three = run_backend("hyper", p.problem, by_bucket(buckets, "centroids"));
    set_thread_count(before);
    CAPTURE(buckets);
    REQUIRE(largest_difference(one.result.out, three.result.out) == 0);
  }
}

TEST_CASE("bucket choices that cannot go together are refused in one sentence") {
  const RandomProblem p({512, 512, 16, 16, 1, 1, true});
  const auto wrong = [&](const Settings& settings) {
    return backend_named("hyper").check(p.problem, call_for("hyper", settings).parameters);
  };
  REQUIRE_THAT(wrong({{"blocks", std::string("banded")}, {"buckets", std::string("kmeans")}}),
               Catch::Matchers::Contains("choose blocks: aligned"));
}

}  // namespace hyperattn::testing
