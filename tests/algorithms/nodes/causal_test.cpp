#include "algorithms/nodes/causal.h"

#include <Eigen/Dense>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <set>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/eigen.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/algorithms/variants.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

TEST_CASE("leaves and cross nodes hold every entry on or below the diagonal exactly once") {
  for (const int64_t n : {1, 2, 3, 7, 8, 9, 64, 97, 100})
    for (const int64_t leaf_rows : {1, 2, 3, 8, 1000}) {
      INFO("n " << n << ", min_seq_len " << leaf_rows);
      const CausalTree tree = causal_tree(n, n, leaf_rows);
      Matrix seen = Matrix::Zero(n, n);
      int64_t next = 0;
      for (const CausalLeaf& leaf : tree.leaves) {
        REQUIRE(leaf.begin == next);
        REQUIRE(leaf.end - leaf.begin <= leaf_rows);
        next = leaf.end;
        for (int64_t i = leaf.begin; i < leaf.end; ++i)
          seen.row(i).segment(leaf.begin, i - leaf.begin + 1).array() += 1;
      }
      REQUIRE(next == n);
      std::set<uint32_t> streams;
      for (size_t l = 0; l < tree.levels.size(); ++l) {
        REQUIRE_FALSE(tree.levels[l].empty());
        int64_t last_query = 0;
        for (size_t i = 0; i < tree.levels[l].size(); ++i) {
          const AttentionNode& node = tree.levels[l][i];
          REQUIRE(node.level == static_cast<int>(l) + 1);
          REQUIRE(node.number == static_cast<int64_t>(i));
          REQUIRE(streams.insert(node.stream).second);
          REQUIRE(node.stream > 0);
          REQUIRE(node.key_end == node.query_begin);
          REQUIRE(node.key_count() == (node.key_count() + node.query_count()) / 2);
          REQUIRE(node.exact == (node.query_count() < leaf_rows));
          REQUIRE(node.key_begin >= last_query);  // nodes of a level touch disjoint rows
          last_query = node.query_end;
          seen.block(node.query_begin, node.key_begin, node.query_count(), node.key_count()).array() += 1;
        }
      }
      const Matrix expected = Matrix::Ones(n, n).triangularView<Eigen::Lower>();
      CHECK(seen == expected);
    }
}

TEST_CASE("fewer queries than keys: the last rows of the square problem's leaves and nodes") {
  for (const int64_t positions : {1, 7, 64, 97})
    for (const int64_t leaf_rows : {1, 3, 8})
      for (const int64_t rows : {int64_t{1}, int64_t{5}, (positions + 1) / 2, positions - 1, positions + 9}) {
        if (rows < 1) continue;
        INFO(rows << " rows, " << positions << " positions, min_seq_len " << leaf_rows);
        const int64_t offset = positions - rows;  // position of row 0
        const CausalTree tree = causal_tree(rows, positions, leaf_rows);
        std::map<uint32_t, AttentionNode> square;
        for (const auto& level : causal_tree(positions, positions, leaf_rows).levels)
          for (const AttentionNode& node : level) square[node.stream] = node;
        Matrix seen = Matrix::Zero(rows, positions);
        for (const CausalLeaf& leaf : tree.leaves) {
          REQUIRE(leaf.end > offset);  // has a row
          for (int64_t i = std::max(leaf.begin, offset); i < leaf.end; ++i)
            seen.row(i - offset).segment(leaf.begin, i - leaf.begin + 1).array() += 1;
        }
        for (const auto& level : tree.levels)
          for (const AttentionNode& node : level) {
            REQUIRE(square.count(node.stream) == 1);
            const AttentionNode& whole = square.at(node.stream);
            REQUIRE(node.query_count() > 0);
            REQUIRE(node.query_begin == std::max<int64_t>(whole.query_begin - offset, 0));
            REQUIRE(node.query_end == whole.query_end - offset);
            REQUIRE(node.key_begin == whole.key_begin);
            REQUIRE(node.key_end == whole.key_end);
            REQUIRE(node.level == whole.level);
            REQUIRE(node.number == whole.number);
            REQUIRE(node.exact == whole.exact);
            seen.block(node.query_begin, node.key_begin, node.query_count(), node.key_count()).array() += 1;
          }
        Matrix expected = Matrix::Zero(rows, positions);
        for (int64_t i = 0; i < rows; ++i)
          expected.row(i).head(std::max<int64_t>(i + offset + 1, 0)).setOnes();
        CHECK(seen == expected);
      }
}

TEST_CASE("the whole problem is one node of level 0 and stream 0") {
  const AttentionNode node = whole_problem(5, 9);
  CHECK(node.query_count() == 5);
  CHECK(node.key_count() == 9);
  CHECK(node.level == 0);
  CHECK(node.stream == 0);
  CHECK_FALSE(node.exact);
}

TEST_CASE("in a causal plan every phase is one level, and rows see the sample of each of their nodes") {
  RandomProblem p({200, 200, 5, 4, 1, 2, true});
  const PlannedCall call =
      planned("hyper", p.problem,
              {{"mask", std::string("none")}, {"min_seq_len", int64_t{32}}, {"sample_size", int64_t{10}}}, 3);
  const Plan& plan = *call.plan;
  const CausalTree tree = causal_tree(200, 200, 32);
  Matrix expected = Matrix::Zero(200, 200);
  for (const CausalLeaf& leaf : tree.leaves)
    for (int64_t i = leaf.begin; i < leaf.end; ++i)
      expected.row(i).segment(leaf.begin, i - leaf.begin + 1).array() = 1;
  for (const auto& level : tree.levels)
    for (const AttentionNode& node : level) {
      const auto sample = sample_without_replacement(RandomStream(3, Purpose::key_sample, 0, 1, node.stream),
                                                     node.key_count(), 10);
      for (int64_t i = node.query_begin; i < node.query_end; ++i)
        for (const int32_t j : sample)
          expected(i, node.key_begin + j) = static_cast<double>(node.key_count()) / 10;
    }
  for (const auto& level : tree.levels)
    for (const AttentionNode& node : level)
      if (node.exact)
        expected.block(node.query_begin, node.key_begin, node.query_count(), node.key_count()).setOnes();
  CHECK((dense_weights(plan, 1, 200, 200) - expected).cwiseAbs().maxCoeff() < 1e-5);
  REQUIRE(plan.phases.size() == tree.levels.size() + 1);
  for (size_t i = 0; i < plan.phases.size(); ++i) CHECK(plan.phases[i].level == static_cast<int>(i));
}

TEST_CASE("a sample larger than a node's keys is clamped: the node is exact") {
  RandomProblem p({64, 64, 5, 4, 1, 1, true});
  const PlannedCall call =
      planned("hyper", p.problem,
              {{"mask", std::string("none")}, {"min_seq_len", int64_t{8}}, {"sample_size", int64_t{40}}}, 0);
  const Matrix weights = dense_weights(*call.plan, 0, 64, 64);
  const Matrix lower = Matrix::Ones(64, 64).triangularView<Eigen::Lower>();
  CHECK((weights - lower).cwiseAbs().maxCoeff() < 1e-6);
}

// Replaces rows from `first` on with other numbers.
void change_rows(Tensor<float>& tensor, int64_t first) {
  for (int64_t head = 0; head < tensor.shape().matrices(); ++head)
    for (int64_t i = first; i < tensor.shape().rows; ++i)
      for (int64_t c = 0; c < tensor.shape().dim; ++c)
        tensor.matrix(head).row(i)[c] = static_cast<float>((i * 31 + c * 17) % 23 - 11);
}

int64_t changed_rows_before(const Tensor<float>& a, const Tensor<float>& b, int64_t first) {
  int64_t changed = 0;
  for (int64_t head = 0; head < a.shape().matrices(); ++head)
    for (int64_t i = 0; i < first; ++i) {
      const bool same =
          std::equal(a.matrix(head).row(i), a.matrix(head).row(i) + a.shape().dim, b.matrix(head).row(i));
      changed += same ? 0 : 1;
    }
  return changed;
}

// Every backend, and of hyper every value of every option that plans otherwise.
std::vector<Variant> all_variants() {
  const auto text = [](const char* value) { return ParameterValue(std::string(value)); };
  std::vector<Variant> variants = {
      {"reference", {}}, {"dense", {}}, {"exact", {}}, {"lsh", {{"mask", text("band")}}}};
  const Settings options = {{"mask", text("none")},
                            {"mask", text("band")},
                            {"blocks", text("banded")},
                            {"query_blocks", text("by_bucket")},
                            {"buckets", text("random")},
                            {"buckets", text("kmeans")},
                            {"centre_keys", true},
                            {"bucket_order", text("reference")},
                            {"sampling", text("uniform_iid")},
                            {"sampling", text("value_norm")},
                            {"sampling", text("prefix")},
                            {"collisions", text("count")},
                            {"estimator", text("theory")},
                            {"residual", text("none")},
                            {"residual", text("centroids")},
                            {"residual", text("columns+centroids")}};
  variants.push_back({"hyper", {}});
  for (const auto& option : options) variants.push_back({"hyper", {option}});
  for (const char* buckets : {"lsh", "random", "kmeans"}) {
    variants.push_back({"lsh", {{"buckets", text(buckets)}}});
    variants.push_back({"lsh", {{"buckets", text(buckets)}, {"query_blocks", text("by_bucket")}}});
    for (const char* residual : {"none", "centroids", "columns+centroids"})
      variants.push_back({"hyper", {{"buckets", text(buckets)}, {"residual", text(residual)}}});
    variants.push_back({"hyper", {{"buckets", text(buckets)}, {"estimator", text("theory")}}});
  }
  return variants;
}

// The variant's settings with sizes for a problem of few rows.
Settings with_sizes(const Variant& variant, int64_t block_size, int64_t min_seq_len, int64_t sample_size) {
  Settings settings = variant.settings;
  if (variant.backend != "lsh" && variant.backend != "hyper") return settings;
  settings.emplace_back("bucket_count", int64_t{8});
  settings.emplace_back("block_size", block_size);
  settings.emplace_back("min_seq_len", min_seq_len);
  if (variant.backend == "hyper") settings.emplace_back("sample_size", sample_size);
  return settings;
}

TEST_CASE("row i never depends on a later key or value: bits of earlier outputs stay") {
  const int64_t n = 701;
  const ProblemSize size{n, n, 8, 5, 1, 2, true};
  const RandomProblem p(size);
  for (const Variant& variant : all_variants()) {
    const Settings settings = with_sizes(variant, 32, 64, 30);
    const ForwardState before = run_backend(variant.backend, p.problem, settings);
    for (const int64_t first : {int64_t{1}, int64_t{64}, int64_t{351}, n - 1}) {
      RandomProblem changed(size);
      change_rows(changed.key, first);
      change_rows(changed.value, first);
      const ForwardState after = run_backend(variant.backend, changed.problem, settings);
      INFO(to_string(variant) << ", changed from row " << first);
      CHECK(changed_rows_before(before.result.out, after.result.out, first) == 0);
      CHECK(changed_rows_before(before.result.lse, after.result.lse, first) == 0);
      CHECK(changed_rows_before(before.result.out, after.result.out, n) > 0);
    }
  }
}

// D̃⁻¹ of the result itself, since the theory estimator's is not the row sum of its plan.
Matrix output_of_weights(const AttentionProblem& problem, const Matrix& weights,
                         const AttentionResult& result, int64_t head) {
  const Matrix scores = static_cast<double>(problem.scale) *
                        as_eigen(problem.query.matrix(head)).cast<double>() *
                        as_eigen(problem.keys_of(head)).cast<double>().transpose();
  Matrix p = (weights.array() * scores.array().exp()).matrix();
  for (int64_t i = 0; i < p.rows(); ++i) {
    const double lse = result.lse.matrix(head).row(i)[0];
    p.row(i) *= lse > -INFINITY ? std::exp(-lse) : 0;  // a row without keys gives 0
  }
  return p * as_eigen(problem.values_of(head)).cast<double>();
}

TEST_CASE("causal plans of awkward sizes run as the interpreter in double says, for every method") {
  std::vector<ProblemSize> sizes;
  for (const int64_t n : {1, 2, 3, 7, 64, 131}) sizes.push_back({n, n, 7, 3, 2, 2, true});
  sizes.push_back({131, 131, 7, 3, 2, 4, true, 2});  // grouped queries
  sizes.push_back({64, 93, 7, 3, 1, 3, true, 1});    // fewer queries than keys
  sizes.push_back({3, 131, 7, 3, 1, 1, true});
  sizes.push_back({69, 64, 7, 3, 1, 1, true});  // more, so that the first rows see no key
  for (const ProblemSize& size : sizes)
    for (const int64_t min_seq_len : {1, 2, 5, 16, 1000}) {
      RandomProblem p(size, static_cast<uint64_t>(size.keys), 1.5);
      const DoubleResult exact = attention_in_double(p.problem);
      for (const Variant& variant : all_variants()) {
        const ForwardState state = run_backend(
            variant.backend, p.problem, with_sizes(variant, 8, min_seq_len, std::min<int64_t>(size.keys, 6)));
        INFO(to_string(variant) << ", " << to_string(size) << ", min_seq_len " << min_seq_len);
        const bool sparse = variant.backend == "lsh" || variant.backend == "hyper";
        if (!sparse || size.keys <= min_seq_len) {  // one leaf
          CHECK(largest_difference(state.result.out, exact.out) < 2e-6);
          CHECK(largest_difference(state.result.lse, exact.lse) < 2e-6);
          continue;
        }
        const DoubleResult expected = run_plan_in_double(p.problem, *state.planned.plan);
        if (variant.settings.empty() ||
            variant.settings.back().second != ParameterValue(std::string("theory"))) {
          CHECK(largest_difference(state.result.out, expected.out) < 1e-5);
          CHECK(largest_difference(state.result.lse, expected.lse) < 1e-5);
          continue;
        }
        for (int64_t head = 0; head < p.problem.heads(); ++head) {
          const Matrix out =
              output_of_weights(p.problem, dense_weights(*state.planned.plan, head, size.queries, size.keys),
                                state.result, head);
          const double largest =
              (out - as_eigen(state.result.out.matrix(head)).cast<double>()).cwiseAbs().maxCoeff();
          CHECK(largest < 1e-5 * (1 + out.cwiseAbs().maxCoeff()));
        }
      }
    }
}

TEST_CASE("a later query can move an earlier row to another block, and only within their nodes") {
  const int64_t n = 512;
  const Settings settings = {{"min_seq_len", int64_t{64}}, {"block_size", int64_t{32}}};
  RandomProblem p({n, n, 8, 8, 1, 1, true});
  RandomProblem changed({n, n, 8, 8, 1, 1, true});
  change_rows(changed.query, 400);
  const ForwardState before = run_backend("lsh", p.problem, settings);
  const ForwardState after = run_backend("lsh", changed.problem, settings);
  const int64_t moved = changed_rows_before(before.result.out, after.result.out, 400);
  INFO(moved << " of 400 earlier rows changed");
  CHECK(moved > 0);
  CHECK(moved <= 400 - 256);  // rows before the root's middle share no node's queries with row 400
}

}  // namespace
}  // namespace hyperattn::testing
