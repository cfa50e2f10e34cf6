// Weighted means of runs of keys against sums in double precision.
#include "algorithms/primitives/run_means.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn {
namespace {

using testing::ProblemSize;
using testing::RandomProblem;

/// Runs of these sizes, their members scattered over the keys, shares unequal and adding up to 1.
KeyRuns runs_of(const std::vector<int64_t>& sizes, int64_t keys) {
  KeyRuns runs;
  runs.begins.push_back(0);
  for (const int64_t size : sizes) {
    for (int64_t i = 0; i < size; ++i) {
      runs.members.push_back(static_cast<int32_t>((runs.begins.back() + i) * 37 % keys));
      runs.shares.push_back(2.0F * static_cast<float>(i + 1) / static_cast<float>(size * (size + 1)));
    }
    runs.begins.push_back(runs.begins.back() + size);
  }
  return runs;
}

double largest_error(MatrixView<const float> rows, const KeyRuns& runs, MatrixView<const float> means) {
  double largest = 0;
  for (int64_t run = 0; run < runs.count(); ++run)
    for (int64_t c = 0; c < rows.cols; ++c) {
      double expected = 0;
      for (int64_t i = runs.begin(run); i < runs.begin(run) + runs.size(run); ++i)
        expected += static_cast<double>(runs.shares[static_cast<size_t>(i)]) *
                    static_cast<double>(rows.row(runs.members[static_cast<size_t>(i)])[c]);
      largest = std::max(largest, std::abs(static_cast<double>(means.row(run)[c]) - expected));
    }
  return largest;
}

}  // namespace

TEST_CASE("run means are weighted sums in double, with a key head of the group, for any threads") {
  // One member; around the 64 that are added in float; long runs.
  const std::vector<int64_t> sizes = {1, 2, 63, 64, 65, 128, 129, 1, 1000, 7};
  for (const int64_t dim : {1, 17, 64}) {
    const ProblemSize size{3, 1401, dim, dim + 2, 2, 4, false, 2};
    const RandomProblem p(size);
    const KeyRuns runs = runs_of(sizes, size.keys);
    for (int64_t head = 0; head < p.problem.heads(); head += 3) {
      const std::shared_ptr<SyntheticKeys> means = run_means(p.problem, head, runs);
      const double keys = largest_error(p.problem.keys_of(head), runs, means->key.matrix(0));
      const double values = largest_error(p.problem.values_of(head), runs, means->value.matrix(0));
      CAPTURE(dim, head, keys, values);
      CHECK(means->key.shape().rows == static_cast<int64_t>(sizes.size()));
      CHECK(keys < 1e-6);
      CHECK(values < 1e-6);
      const int threads = thread_count();
      set_thread_count(threads == 1 ? 3 : 1);
      const std::shared_ptr<SyntheticKeys> again = run_means(p.problem, head, runs);
      set_thread_count(threads);
      CHECK(testing::largest_difference(means->key, again->key) == 0);
      CHECK(testing::largest_difference(means->value, again->value) == 0);
    }
  }
}

TEST_CASE("a run of one key with share 1 is that key, bit for bit") {
  const RandomProblem p({1, 9, 5, 3});
  const KeyRuns runs = {{8, 0, 4}, {0, 1, 2, 3}, {1.0F, 1.0F, 1.0F}};
  const std::shared_ptr<SyntheticKeys> means = run_means(p.problem, 0, runs);
  for (int64_t run = 0; run < 3; ++run) {
    const int32_t row = runs.members[static_cast<size_t>(run)];
    const std::vector<float> key(p.problem.keys_of(0).row(row), p.problem.keys_of(0).row(row) + 5);
    const std::vector<float> value(p.problem.values_of(0).row(row), p.problem.values_of(0).row(row) + 3);
    CHECK(std::vector<float>(means->key.matrix(0).row(run), means->key.matrix(0).row(run) + 5) == key);
    CHECK(std::vector<float>(means->value.matrix(0).row(run), means->value.matrix(0).row(run) + 3) == value);
  }
}

}  // namespace hyperattn
