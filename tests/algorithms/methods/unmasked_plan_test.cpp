// Mask and unmasked rest of the backends `lsh` and `hyper`: together every entry of the problem, once.
#include <algorithm>
#include <catch2/catch.hpp>

#include "algorithms/check_plan.h"
#include "algorithms/masks/heavy_mask.h"
#include "core/eigen.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

Matrix all_entries(const AttentionProblem& problem) {
  Matrix all = Matrix::Ones(problem.query_count(), problem.key_count());
  for (int64_t i = 0; i < all.rows() && problem.causal; ++i)
    all.row(i).tail(std::clamp<int64_t>(all.rows() - 1 - i, 0, all.cols())).setZero();
  return all;
}

void require_partition(const std::string& backend, const AttentionProblem& problem, const Call& call) {
  const auto masks = backend_named(backend).method().plan_masks(*bound_of(problem), call);
  REQUIRE(masks != nullptr);
  const Plan masked = masks->masked(problem);
  const Plan unmasked = masks->unmasked(problem);
  REQUIRE(check_plan(problem, masked).empty());
  REQUIRE(check_plan(problem, unmasked).empty());
  for (int64_t head = 0; head < problem.heads(); ++head) {
    const Matrix inside = dense_weights(masked, head, problem.query_count(), problem.key_count());
    const Matrix outside = dense_weights(unmasked, head, problem.query_count(), problem.key_count());
    CAPTURE(head, inside.sum(), outside.sum());
    REQUIRE(inside + outside == all_entries(problem));
    REQUIRE(inside.cwiseProduct(outside).sum() == 0);
  }
  for (const Phase& phase : unmasked.phases) REQUIRE((phase.level > 0) == problem.causal);
}

}  // namespace

TEST_CASE("mask and unmasked rest partition the entries of sorted blocks") {
  for (const ProblemSize& size :
       {ProblemSize{40, 40, 4, 4, 1, 2}, ProblemSize{37, 61, 4, 4, 2, 1}, ProblemSize{61, 37, 4, 4},
        ProblemSize{1, 1, 4, 4}, ProblemSize{50, 3, 4, 4}}) {
    CAPTURE(to_string(size));
    const RandomProblem p(size);
    for (const std::string blocks : {"aligned", "banded"}) {
      const Settings settings = {
          {"block_size", int64_t{8}}, {"bucket_count", int64_t{8}}, {"blocks", blocks}};
      require_partition("lsh", p.problem, call_for("lsh", settings));
    }
  }
}

TEST_CASE("mask and unmasked rest partition the entries of causal problems") {
  for (const ProblemSize& size :
       {ProblemSize{1, 1, 4, 4, 1, 2, true}, ProblemSize{7, 7, 4, 4, 1, 2, true},
        ProblemSize{64, 64, 4, 4, 1, 2, true}, ProblemSize{101, 101, 4, 4, 1, 2, true},
        ProblemSize{1, 101, 4, 4, 1, 2, true}, ProblemSize{40, 101, 4, 4, 1, 2, true},
        ProblemSize{101, 64, 4, 4, 1, 2, true}, ProblemSize{101, 101, 4, 4, 2, 4, true, 2}}) {
    CAPTURE(to_string(size));
    const RandomProblem p(size);
    const Settings settings = {
        {"block_size", int64_t{8}}, {"min_seq_len", int64_t{16}}, {"sample_size", int64_t{4}}};
    require_partition("hyper", p.problem, call_for("hyper", settings));
  }
}

TEST_CASE("mask and unmasked rest partition the entries of other masks") {
  const RandomProblem p({30, 40, 4, 4, 1, 2});
  require_partition("hyper", p.problem, call_for("hyper", {{"mask", std::string("none")}}));
  require_partition("hyper", p.problem,
                    call_for("hyper", {{"mask", std::string("band")}, {"band_width", int64_t{3}}}));
  HeavyMask::Pattern rows;  // row i holds key i; rows 10 … 19 none; row 20 all
  rows.indptr = {0};
  for (int32_t i = 0; i < 30; ++i) {
    if (i < 10 || i > 20) rows.indices.push_back(i);
    for (int32_t j = 0; i == 20 && j < 40; ++j) rows.indices.push_back(j);
    rows.indptr.push_back(static_cast<int64_t>(rows.indices.size()));
  }
  HeavyMask::Pattern blocks;
  blocks.blocks = {{0, 10, 5, 9}, {0, 3, 20, 40}, {25, 30, 0, 40}};
  for (const HeavyMask::Pattern& pattern : {rows, blocks}) {
    const HeavyMask mask({pattern});
    Call call = call_for("lsh", {{"mask", std::string("file")}});
    call.mask = &mask;
    require_partition("lsh", p.problem, call);
  }
}

}  // namespace hyperattn::testing
