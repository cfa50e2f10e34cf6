#include "algorithms/masks/heavy_mask.h"

#include <Eigen/Dense>
#include <algorithm>
#include <catch2/catch.hpp>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/masks/node_mask.h"
#include "core/eigen.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

HeavyMask::Pattern blocks(std::vector<MaskBlock> list) {
  return {std::move(list), {}, {}};
}

// Each entry is in the mask with the given probability; some rows are left empty.
HeavyMask::Pattern random_rows(int64_t queries, int64_t keys, double share, uint64_t seed) {
  const RandomStream stream(seed, Purpose::other);
  HeavyMask::Pattern pattern;
  pattern.indptr.push_back(0);
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j)
      if (i % 5 != 3 && stream.uniform(static_cast<uint64_t>(i * keys + j)) < share)
        pattern.indices.push_back(static_cast<int32_t>(j));
    pattern.indptr.push_back(static_cast<int64_t>(pattern.indices.size()));
  }
  return pattern;
}

Matrix dense_mask(const HeavyMask::Pattern& pattern, int64_t queries, int64_t keys) {
  Matrix mask = Matrix::Zero(queries, keys);
  for (const MaskBlock& b : pattern.blocks)
    mask.block(b.query_begin, b.key_begin, b.query_end - b.query_begin, b.key_end - b.key_begin).array() += 1;
  for (size_t i = 0; i + 1 < pattern.indptr.size(); ++i)
    for (int64_t at = pattern.indptr[i]; at < pattern.indptr[i + 1]; ++at)
      mask(static_cast<int64_t>(i), pattern.indices[static_cast<size_t>(at)]) += 1;
  return mask;
}

const std::vector<MaskBlock> kBlocks = {{0, 20, 0, 10},  {10, 50, 30, 70}, {10, 12, 10, 30},
                                        {60, 61, 0, 90}, {50, 60, 89, 90}, {70, 80, 5, 6}};

TEST_CASE("a mask of the user's own is computed exactly and sampled keys in it are left out") {
  const int64_t n_q = 80;
  const int64_t n_k = 90;
  RandomProblem p({n_q, n_k, 5, 4, 1, 2});
  const HeavyMask::Pattern patterns[] = {blocks(kBlocks), blocks({}), blocks({{0, n_q, 0, n_k}}),
                                         random_rows(n_q, n_k, 0.1, 1), random_rows(n_q, n_k, 0.9, 2)};
  for (const HeavyMask::Pattern& pattern : patterns) {
    const HeavyMask mask({pattern});
    Call call = call_for("hyper", {{"mask", std::string("file")}, {"sample_size", int64_t{25}}});
    call.mask = &mask;
    const Matrix masked = dense_mask(pattern, n_q, n_k);
    INFO(pattern.blocks.size() << " blocks, " << pattern.indices.size() << " indices");
    const ForwardState state = backend_named("hyper").forward(p.problem, call);
    REQUIRE(state.planned.masks != nullptr);
    const Plan mask_plan = state.planned.masks->masked(p.problem);
    for (int64_t head = 0; head < 2; ++head)
      CHECK((dense_weights(mask_plan, head, n_q, n_k) - masked).cwiseAbs().maxCoeff() < 1e-6);
    for (uint32_t head = 0; head < 2; ++head) {
      Matrix expected = masked;
      for (const int32_t j :
           sample_without_replacement(RandomStream(1, Purpose::key_sample, 0, head, 0), n_k, 25))
        for (int64_t i = 0; i < n_q; ++i)
          if (masked(i, j) == 0) expected(i, j) = 90.0 / 25.0;
      CHECK((dense_weights(*state.planned.plan, head, n_q, n_k) - expected).cwiseAbs().maxCoeff() < 1e-5);
    }
    const DoubleResult result = run_plan_in_double(p.problem, *state.planned.plan);
    CHECK(largest_difference(state.result.out, result.out) < 1e-5);
    CHECK(largest_difference(state.result.lse, result.lse) < 1e-5);
    const AttentionGradients gradients =
        backend_named("hyper").backward(p.problem, call, state, p.dout.view());
    const DoubleGradients expected =
        run_plan_backward_in_double(p.problem, *state.planned.plan, result, p.dout.view());
    CHECK(largest_difference(gradients.dquery, expected.dquery) < 1e-4);
    CHECK(largest_difference(gradients.dkey, expected.dkey) < 1e-4);
    CHECK(largest_difference(gradients.dvalue, expected.dvalue) < 1e-4);
    // lsh computes the mask and nothing else: rows without entries give 0 and −∞.
    Call lsh = call_for("lsh", {{"mask", std::string("file")}});
    lsh.mask = &mask;
    const ForwardState alone = backend_named("lsh").forward(p.problem, lsh);
    bool empty_rows_are_zero = true;
    for (int64_t i = 0; i < n_q; ++i)
      if (masked.row(i).sum() == 0)
        empty_rows_are_zero &=
            alone.result.lse.matrix(1).row(i)[0] == -INFINITY && alone.result.out.matrix(1).row(i)[0] == 0;
    CHECK(empty_rows_are_zero);
    CHECK(alone.result.diagnostics.entries == static_cast<int64_t>(2 * masked.sum()));
  }
}

TEST_CASE("one pattern for each head") {
  RandomProblem p({40, 40, 5, 4, 2, 1});
  const HeavyMask mask({blocks({{0, 40, 0, 20}}), random_rows(40, 40, 0.3, 9)});
  Call call = call_for("lsh", {{"mask", std::string("file")}});
  call.mask = &mask;
  const ForwardState state = backend_named("lsh").forward(p.problem, call);
  for (int64_t head = 0; head < 2; ++head)
    CHECK(dense_weights(*state.planned.plan, head, 40, 40) == dense_mask(mask.pattern(head), 40, 40));
}

TEST_CASE("a mask intersects with the causal mask") {
  RandomProblem p({100, 100, 5, 4, 1, 1, true});
  for (const HeavyMask::Pattern& pattern :
       {blocks({{0, 100, 0, 13}, {60, 90, 40, 99}}), random_rows(100, 100, 0.2, 4)}) {
    const HeavyMask mask({pattern});
    Call call = call_for("lsh", {{"mask", std::string("file")}, {"min_seq_len", int64_t{20}}});
    call.mask = &mask;
    const ForwardState state = backend_named("lsh").forward(p.problem, call);
    Matrix expected = Matrix::Zero(100, 100);
    const CausalTree tree = causal_tree(100, 100, 20);
    for (const CausalLeaf& leaf : tree.leaves)
      for (int64_t i = leaf.begin; i < leaf.end; ++i)
        for (int64_t j = leaf.begin; j <= i; ++j) expected(i, j) = 1;
    const Matrix given = dense_mask(pattern, 100, 100);
    for (const auto& level : tree.levels)
      for (const AttentionNode& node : level)
        for (int64_t i = node.query_begin; i < node.query_end; ++i)
          for (int64_t j = node.key_begin; j < node.key_end; ++j)
            expected(i, j) = node.exact ? 1 : given(i, j);
    CHECK(dense_weights(*state.planned.plan, 0, 100, 100) == expected);
  }
}

/// A problem that notes how many passes each phase has when phases are said to be made.
class ListeningProblem final : public BoundProblem {
 public:
  using BoundProblem::BoundProblem;
  void phases_are_made(const Plan& plan) const override {
    heard.emplace_back();
    for (const Phase& phase : plan.phases) heard.back().push_back(phase.passes.size());
  }
  mutable std::vector<std::vector<size_t>> heard;
};

TEST_CASE("phases that are said to be made stay as they are and where they are") {
  const RandomProblem p({160, 160, 5, 4, 1, 2, true});
  const HeavyMask::Pattern patterns[] = {
      blocks({{0, 160, 0, 13}, {60, 90, 40, 99}}), random_rows(160, 160, 0.2, 4),
      blocks({{80, 160, 0, 80}}),  // of the highest level alone: those below it have no phase
      blocks({{40, 80, 0, 40}, {120, 160, 80, 120}}), blocks({})};
  for (const HeavyMask::Pattern& pattern : patterns) {
    const HeavyMask mask({pattern});
    Call call = call_for("lsh", {{"mask", std::string("file")}, {"min_seq_len", int64_t{20}}});
    call.mask = &mask;
    const ListeningProblem bound(p.problem, default_engine());
    const PlannedCall planned = backend_named("lsh").method().plan(bound, call);
    REQUIRE(!bound.heard.empty());
    for (const std::vector<size_t>& passes : bound.heard) {
      REQUIRE(passes.size() <= planned.plan->phases.size());
      for (size_t phase = 0; phase < passes.size(); ++phase)
        CHECK(passes[phase] == planned.plan->phases[phase].passes.size());
    }
    CHECK(bound.heard.back().size() == planned.plan->phases.size());
  }
}

TEST_CASE("the band holds the keys near a row's own place") {
  for (const auto& [n_q, n_k] : {std::pair<int64_t, int64_t>{50, 50}, {50, 120}, {120, 50}, {1, 9}})
    for (const int64_t width : {0, 3, 500}) {
      INFO(n_q << " queries, " << n_k << " keys, width " << width);
      RandomProblem p({n_q, n_k, 5, 4});
      const ForwardState state =
          run_backend("lsh", p.problem, {{"mask", std::string("band")}, {"band_width", width}});
      Matrix expected = Matrix::Zero(n_q, n_k);
      for (int64_t i = 0; i < n_q; ++i)
        for (int64_t j = 0; j < n_k; ++j) expected(i, j) = std::abs(j - i * n_k / n_q) <= width ? 1 : 0;
      CHECK(dense_weights(*state.planned.plan, 0, n_q, n_k) == expected);
    }
}

TEST_CASE("unmasked keys are the complement of masked keys, for every kind of mask") {
  const RandomProblem p({80, 90, 5, 4});
  const AttentionNode node = whole_problem(80, 90);
  const NodeMask masks[] = {
      empty_mask(node), band_mask(p.problem, node, 7), pattern_mask(node, blocks(kBlocks)),
      pattern_mask(node, random_rows(80, 90, 0.2, 3)), pattern_mask(node, blocks({{0, 80, 0, 90}}))};
  for (const NodeMask& mask : masks) {
    Matrix seen = Matrix::Zero(80, 90);
    for (const bool masked : {true, false}) {
      PassBuilder pass(p.problem, 0, 0, mask.queries);
      const GroupVisits visits = masked ? GroupVisits::masked(mask, Stage::block, pass)
                                        : GroupVisits::unmasked(mask, Stage::block, pass);
      int64_t with_visits = 0;
      for (size_t g = 0; g < mask.groups.size(); ++g) {
        pass.group(mask.groups[g].begin, mask.groups[g].end);
        visits.visit(g, pass);
        with_visits += visits.empty(g) ? 0 : 1;
      }
      const Pass built = pass.take();
      REQUIRE(static_cast<int64_t>(built.groups.size()) == with_visits);
      seen += dense_weights(plan_of(built), 0, 80, 90);
    }
    CHECK(seen == Matrix::Ones(80, 90));
  }
}

TEST_CASE("invalid masks are refused with place and value") {
  const auto refuses = [](HeavyMask::Pattern pattern, const std::string& a, const std::string& b) {
    const HeavyMask mask({std::move(pattern)});
    CHECK_THROWS_WITH(mask.validate(2, 10, 20), Catch::Contains(a) && Catch::Contains(b));
  };
  refuses(blocks({{0, 5, 0, 5}, {3, 11, 0, 2}}), "block 1", "0 to 9");
  refuses(blocks({{0, 5, -1, 5}}), "block 0", "out of range");
  refuses(blocks({{0, 5, 3, 21}}), "keys", "0 to 19");
  refuses(blocks({{0, 5, 5, 5}}), "block 0", "empty or reversed");
  refuses(blocks({{5, 2, 0, 5}}), "queries", "empty or reversed");
  refuses(blocks({{0, 5, 0, 5}, {6, 8, 0, 20}, {4, 6, 4, 9}}), "block 0", "block 2");
  refuses({{}, {0, 1}, {3}}, "11", "2");
  refuses({{}, std::vector<int64_t>(11, 0), {3}}, "end with the number of indices, 1", "0");
  refuses({{}, {0, 1, 2, 3, 2, 3, 3, 3, 3, 3, 3}, {1, 2, 3}}, "from 3 to 2", "row 3");
  refuses({{}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}}, "start with 0", "1");
  refuses({{}, {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {20}}, "index 20 in row 0", "0 to 19");
  refuses({{}, {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {-1}}, "-1", "row 0");
  refuses({{}, {0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2}, {4, 4}}, "row 1", "increase");
  refuses({{{0, 1, 0, 1}}, {0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {2}}, "both", "");
  CHECK_THROWS_WITH(HeavyMask({blocks({}), blocks({}), blocks({})}).validate(2, 10, 20),
                    Catch::Contains("3") && Catch::Contains("2"));
  // What touches without overlapping is fine.
  CHECK_NOTHROW(HeavyMask({blocks({{0, 5, 0, 5}, {5, 10, 0, 5}, {0, 10, 5, 20}})}).validate(2, 10, 20));
  CHECK_NOTHROW(HeavyMask({blocks({})}).validate(2, 10, 20));
  // A mask that does not fit is found when it is used, too.
  RandomProblem p({8, 8, 3, 3});
  const HeavyMask wide({blocks({{0, 9, 0, 8}})});
  Call call = call_for("lsh", {{"mask", std::string("file")}});
  call.mask = &wide;
  CHECK_THROWS_AS(backend_named("lsh").forward(p.problem, call), Error);
}

}  // namespace
}  // namespace hyperattn::testing
