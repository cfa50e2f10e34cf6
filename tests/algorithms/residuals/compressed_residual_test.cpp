#include "algorithms/residuals/compressed.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <numeric>
#include <set>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/primitives/column_masses.h"
#include "algorithms/residuals/columns.h"
#include "algorithms/residuals/runs.h"
#include "core/eigen.h"
#include "core/error.h"
#include "core/parallel.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Catch::Matchers::Contains;

const std::vector<std::string> kCompressed = {"centroids", "calibrated_centroids", "columns+centroids"};

NodeMask blocks_of(int64_t queries, int64_t keys, int64_t block) {
  SortedRows q;
  SortedRows k;
  q.order.resize(static_cast<size_t>(queries));
  std::iota(q.order.begin(), q.order.end(), 0);
  k.order.resize(static_cast<size_t>(keys));
  std::iota(k.order.rbegin(), k.order.rend(), 0);  // rank ρ holds row keys − 1 − ρ
  k.ranks.resize(k.order.size());
  std::iota(k.ranks.rbegin(), k.ranks.rend(), 0);
  return sorted_mask(std::move(q), std::move(k), aligned_blocks(queries, keys, block));
}

// What a residual plans for head 0 beside a mask of the test's own.
Plan residual_plan(const std::string& residual, const AttentionProblem& problem, const NodeMask& mask,
                   int64_t sample_size) {
  const auto bound = bound_of(problem);
  const Call call = call_for("hyper", {{"residual", residual}});
  const std::vector<HeadNode> nodes = {{0, whole_problem(problem.query_count(), problem.key_count())}};
  const ResidualRequest request{*bound, call, nodes, sample_size};
  PlanBuilder plan;
  for (Pass& pass : find_residual(residual)->plan(request)->passes(0, mask))
    plan.phase().add(std::move(pass));
  return plan.take();
}

// One row's output, entry by entry from the formula: the row's block, then every centroid outside of it.
std::vector<double> expected_row(const AttentionProblem& p, const NodeMask& mask, const RankedList& c,
                                 const MaskGroup& group, int64_t query) {
  const RankRange own = mask.ranges[static_cast<size_t>(group.first_range)];
  std::vector<double> sum(static_cast<size_t>(p.value_dim()), 0.0);
  double total = 0;
  const auto add = [&](const float* key, const float* value, double weight) {
    double score = 0;
    for (int64_t j = 0; j < p.head_dim(); ++j)
      score += static_cast<double>(p.query.matrix(0).row(query)[j]) * static_cast<double>(key[j]);
    const double w = weight * std::exp(score * static_cast<double>(p.scale));
    total += w;
    for (size_t j = 0; j < sum.size(); ++j) sum[j] += w * static_cast<double>(value[j]);
  };
  for (int64_t rank = own.begin; rank < own.end; ++rank)
    add(p.key.matrix(0).row(mask.keys[rank]), p.value.matrix(0).row(mask.keys[rank]), 1);
  const SyntheticKeys& means = *c.list.synthetic;
  for (size_t r = 0; r < c.ranks.size(); ++r) {
    if (c.ranks[r] >= own.begin && c.ranks[r] < own.end) continue;
    const auto run = static_cast<int64_t>(r);
    const int64_t begin = means.member_begin[r];
    const int64_t end = means.member_begin[r + 1];
    std::vector<float> key(static_cast<size_t>(p.head_dim()));
    std::vector<float> value(sum.size());
    for (size_t j = 0; j < key.size(); ++j) {
      double mean = 0;
      for (int64_t m = begin; m < end; ++m)
        mean += static_cast<double>(p.key.matrix(0).row(means.member_order[m])[j]);
      key[j] = static_cast<float>(mean / static_cast<double>(end - begin));
    }
    for (size_t j = 0; j < value.size(); ++j) {
      double mean = 0;
      for (int64_t m = begin; m < end; ++m)
        mean += static_cast<double>(p.value.matrix(0).row(means.member_order[m])[j]);
      value[j] = static_cast<float>(mean / static_cast<double>(end - begin));
    }
    INFO("run " << run);
    add(key.data(), value.data(), static_cast<double>(end - begin));
  }
  for (double& x : sum) x /= total;
  return sum;
}

}  // namespace

TEST_CASE("runs of centroids keep within blocks and hold every rank once") {
  for (const int64_t keys : {1, 15, 16, 17, 97, 128})
    for (const int64_t budget : {1, 3, 8, 40, 200}) {
      const RandomProblem p({53, keys, 4, 3}, 3);
      const NodeMask mask = blocks_of(53, keys, 16);
      std::vector<int32_t> ranks(static_cast<size_t>(keys));
      std::iota(ranks.begin(), ranks.end(), 0);
      const RankedList c = make_centroids(*bound_of(p.problem), 0, mask, ranks, std::min(budget, keys));
      CAPTURE(keys, budget, c.ranks);
      const SyntheticKeys& means = *c.list.synthetic;
      REQUIRE(means.member_begin.back() == keys);
      REQUIRE(c.ranks.size() + 1 == means.member_begin.size());
      const int64_t blocks = (keys + 15) / 16;
      REQUIRE(static_cast<int64_t>(c.ranks.size()) <= std::min(budget, keys) + blocks);
      for (size_t r = 0; r < c.ranks.size(); ++r) {
        const int64_t begin = means.member_begin[r];
        const int64_t end = means.member_begin[r + 1];
        REQUIRE(begin < end);
        REQUIRE(begin / 16 == (end - 1) / 16);
        REQUIRE(c.ranks[r] == begin);
        REQUIRE((*c.list.log_weight)[r] == Approx(std::log(static_cast<double>(end - begin))).margin(1e-7));
        for (int64_t m = begin; m < end; ++m) REQUIRE(means.member_order[m] == mask.keys[m]);
      }
    }
}

TEST_CASE("centroids give block plus weighted means, computed from the formula") {
  for (const int64_t keys : {17, 97}) {
    const RandomProblem p({53, keys, 8, 5}, 11);
    const NodeMask mask = blocks_of(53, keys, 16);
    const Plan plan = residual_plan("centroids", p.problem, mask, 12);
    const AttentionResult seen = run_forward(p.problem, plan);
    std::vector<int32_t> ranks(static_cast<size_t>(keys));
    std::iota(ranks.begin(), ranks.end(), 0);
    const RankedList c = make_centroids(*bound_of(p.problem), 0, mask, ranks, 12);
    double worst = 0;
    for (const MaskGroup& group : mask.groups)
      for (int64_t position = group.begin; position < group.end; ++position) {
        const int64_t row = mask.queries[position];
        const std::vector<double> expected = expected_row(p.problem, mask, c, group, row);
        for (size_t j = 0; j < expected.size(); ++j)
          worst =
              std::max(worst, std::abs(expected[j] - static_cast<double>(seen.out.matrix(0).row(row)[j])));
      }
    CAPTURE(keys, worst);
    REQUIRE(worst < 1e-5);
  }
}

// Softmax weights of given queries over all keys, by rank of the mask: one row for each query.
RowMajorMatrix<double> softmax_by_rank(const AttentionProblem& p, const NodeMask& mask,
                                       const std::vector<int32_t>& queries) {
  RowMajorMatrix<double> weights(queries.size(), mask.keys.count);
  for (Eigen::Index q = 0; q < weights.rows(); ++q) {
    for (int64_t rank = 0; rank < mask.keys.count; ++rank)
      weights(q, rank) = static_cast<double>(p.scale) *
                         as_eigen(p.query.matrix(0))
                             .row(queries[static_cast<size_t>(q)])
                             .cast<double>()
                             .dot(as_eigen(p.key.matrix(0)).row(mask.keys[rank]).cast<double>());
    weights.row(q) = (weights.row(q).array() - weights.row(q).maxCoeff()).exp().matrix();
    weights.row(q) /= weights.row(q).sum();
  }
  return weights;
}

TEST_CASE("column masses are softmax weights of the sampled rows") {
  const int64_t keys = 1500;  // several chunks, the last one ragged
  const RandomProblem p({40, keys, 8, 4}, 5, 4);
  const NodeMask mask = blocks_of(40, keys, 32);
  const AttentionNode node = whole_problem(40, keys);
  const std::vector<int32_t> rows =
      draw_mass_rows(p.problem, node, false, RandomStream(1, Purpose::row_sample));
  REQUIRE(static_cast<int64_t>(rows.size()) == kMassRows);
  const ColumnMasses seen =
      column_masses(p.problem, 0, node, mask.key_ranks, SampledQueries(p.problem, 0, rows));
  const Eigen::RowVectorXd expected = softmax_by_rank(p.problem, mask, rows).colwise().sum();
  for (int64_t rank = 0; rank < keys; ++rank) {
    CAPTURE(rank, seen.mass[static_cast<size_t>(rank)], expected(rank));
    REQUIRE(static_cast<double>(seen.mass[static_cast<size_t>(rank)]) ==
            Approx(expected(rank)).epsilon(1e-4).margin(1e-7));
  }
}

TEST_CASE("masses come from the node's own queries, or from those before them in a causal node") {
  const RandomProblem p({100, 100, 4, 4, 1, 1, true});
  const CausalTree tree = causal_tree(100, 100, 30);
  const RandomStream stream(3, Purpose::row_sample);
  for (const auto& level : tree.levels)
    for (const AttentionNode& node : level)
      for (const bool earlier : {false, true}) {
        const std::vector<int32_t> rows = draw_mass_rows(p.problem, node, earlier, stream);
        const std::set<int32_t> distinct(rows.begin(), rows.end());
        CAPTURE(node.key_begin, node.query_begin, earlier, rows);
        REQUIRE(distinct.size() ==
                static_cast<size_t>(std::min(kMassRows, earlier ? node.key_count() : node.query_count())));
        REQUIRE(*distinct.begin() >= (earlier ? node.key_begin : node.query_begin));
        REQUIRE(*distinct.rbegin() < (earlier ? node.key_end : node.query_end));
      }
  // Without causal mask there are no earlier queries.
  const RandomProblem plain({9, 50, 4, 4});
  REQUIRE(draw_mass_rows(plain.problem, whole_problem(9, 50), true, stream).size() == 9);
}

TEST_CASE("the largest places, of equals the first") {
  REQUIRE(largest_places({1, 5, 2, 5, 5, 0}, 2) == std::vector<int32_t>{1, 3});
  REQUIRE(largest_places({1, 5, 2}, 3) == std::vector<int32_t>{0, 1, 2});
  REQUIRE(largest_places({1, 5, 2}, 0).empty());
}

TEST_CASE("calibrated centroids, computed from their formula") {
  for (const int64_t keys : {17, 97, 600})
    for (const double spread : {1.0, 6.0}) {
      const RandomProblem p({53, keys, 8, 5}, 11, spread);
      const NodeMask mask = blocks_of(53, keys, 16);
      const AttentionNode node = whole_problem(53, keys);
      const std::vector<int32_t> rows =
          draw_mass_rows(p.problem, node, false, RandomStream(1, Purpose::row_sample));
      const SampledQueries queries(p.problem, 0, rows);
      const ColumnMasses masses = column_masses(p.problem, 0, node, mask.key_ranks, queries);
      const int64_t budget = keys / 3 + 1;
      const RankedList c = make_calibrated_centroids(*bound_of(p.problem), 0, mask, budget, queries, masses);
      const RowMajorMatrix<double> weights = softmax_by_rank(p.problem, mask, rows);
      const SyntheticKeys& means = *c.list.synthetic;
      CAPTURE(keys, spread, c.ranks);
      const int64_t blocks = (keys + 15) / 16;
      REQUIRE(static_cast<int64_t>(c.ranks.size()) <= std::max(budget, blocks + 1));
      REQUIRE(means.member_begin.front() == 0);
      REQUIRE(means.member_begin.back() == keys);
      for (size_t r = 0; r < c.ranks.size(); ++r) {
        const int64_t begin = means.member_begin[r];
        const int64_t size = means.member_begin[r + 1] - begin;
        CAPTURE(r, begin, size);
        REQUIRE(size > 0);
        REQUIRE(c.ranks[r] == begin);
        REQUIRE(begin / 16 == (begin + size - 1) / 16);
        const Eigen::RowVectorXd mass = weights.middleCols(begin, size).colwise().sum();
        Eigen::RowVectorXd key = Eigen::RowVectorXd::Zero(8);
        Eigen::RowVectorXd value = Eigen::RowVectorXd::Zero(5);
        for (int64_t i = 0; i < size; ++i) {
          const double share = 0.5 / static_cast<double>(size) + 0.5 * mass(i) / mass.sum();
          REQUIRE(static_cast<double>(means.share(static_cast<int64_t>(r), begin + i)) ==
                  Approx(share).epsilon(1e-3));
          key += share * as_eigen(p.problem.key.matrix(0)).row(mask.keys[begin + i]).cast<double>();
          value += share * as_eigen(p.problem.value.matrix(0)).row(mask.keys[begin + i]).cast<double>();
        }
        const auto row = static_cast<Eigen::Index>(r);
        REQUIRE((as_eigen(means.key.matrix(0)).row(row).cast<double>() - key).norm() < 1e-3);
        REQUIRE((as_eigen(means.value.matrix(0)).row(row).cast<double>() - value).norm() < 1e-3);
        // With its log-weight the centroid has the run's mass over the sampled queries. The scores that a
        // query's softmax subtracts follow from any one key.
        double seen = 0;
        for (size_t q = 0; q < rows.size(); ++q) {
          const auto query = as_eigen(p.problem.query.matrix(0)).row(rows[q]).cast<double>();
          const auto first = as_eigen(p.problem.key.matrix(0)).row(mask.keys[begin]).cast<double>();
          const double lse = static_cast<double>(p.problem.scale) * query.dot(first) -
                             std::log(weights(static_cast<Eigen::Index>(q), begin));
          seen += std::exp(static_cast<double>(p.problem.scale) * query.dot(key) - lse +
                           static_cast<double>((*c.list.log_weight)[r]));
        }
        if (size == 1)
          REQUIRE((*c.list.log_weight)[r] == 0.0F);
        else
          REQUIRE(seen == Approx(mass.sum()).epsilon(2e-3));
      }
    }
}

TEST_CASE("a key with much of the mass is a run of its own, and a run without mass is a plain mean") {
  RandomProblem p({20, 64, 4, 3}, 17);
  const NodeMask mask = blocks_of(20, 64, 16);
  for (int64_t i = 0; i < 20; ++i) std::fill_n(p.query.matrix(0).row(i), 4, 30.0F);
  std::fill_n(p.key.matrix(0).row(mask.keys[21]), 4, 30.0F);  // takes all mass: the others get e^−1000
  const AttentionNode node = whole_problem(20, 64);
  const SampledQueries queries(p.problem, 0,
                               draw_mass_rows(p.problem, node, false, RandomStream(1, Purpose::row_sample)));
  const ColumnMasses masses = column_masses(p.problem, 0, node, mask.key_ranks, queries);
  const RankedList c = make_calibrated_centroids(*bound_of(p.problem), 0, mask, 12, queries, masses);
  CAPTURE(c.ranks);
  const auto own = std::find(c.ranks.begin(), c.ranks.end(), 21);
  REQUIRE(own != c.ranks.end());
  REQUIRE(*(own + 1) == 22);
  for (size_t r = 0; r < c.ranks.size(); ++r) {
    const auto size =
        static_cast<double>(c.list.synthetic->member_begin[r + 1] - c.list.synthetic->member_begin[r]);
    REQUIRE(static_cast<double>((*c.list.log_weight)[r]) == Approx(std::log(size)).margin(1e-6));
  }
}

TEST_CASE("a budget of all keys makes every compressed residual exact") {
  for (const std::string& residual : kCompressed)
    for (const bool causal : {false, true})
      for (const int64_t more_keys : {0, 14, 200})
        for (const int64_t n : {1, 31, 33, 197}) {
          const RandomProblem p({n, n + more_keys, 8, 5, 2, 2, causal, more_keys == 200 ? 1 : 2}, 7, 2);
          const int64_t keys = p.problem.key_count();
          const ForwardState seen = run_backend("hyper", p.problem,
                                                {{"residual", residual},
                                                 {"block_size", int64_t{16}},
                                                 {"bucket_count", int64_t{8}},
                                                 {"min_seq_len", int64_t{32}},
                                                 {"sample_size", keys}});
          const ForwardState exact = run_backend("exact", p.problem);
          const double difference = largest_difference(seen.result.out, exact.result.out);
          CAPTURE(residual, causal, n, more_keys, difference);
          REQUIRE(difference < 1e-4);
        }
}

TEST_CASE("residual none is the backend lsh, bit for bit") {
  const RandomProblem p({211, 211, 8, 5, 1, 2, true}, 7);
  const Settings shared = {
      {"block_size", int64_t{16}}, {"bucket_count", int64_t{8}}, {"min_seq_len", int64_t{32}}};
  Settings none = shared;
  none.emplace_back("residual", std::string("none"));
  REQUIRE(largest_difference(run_backend("hyper", p.problem, none).result.out,
                             run_backend("lsh", p.problem, shared).result.out) == 0);
}

TEST_CASE("compressed residuals agree with the plan in double, forward and backward") {
  for (const std::string& residual : kCompressed)
    for (const ProblemSize& size :
         {ProblemSize{151, 203, 8, 5, 2, 1}, ProblemSize{151, 151, 8, 5, 2, 1, true},
          ProblemSize{71, 203, 8, 5, 1, 4, true, 2}, ProblemSize{203, 151, 8, 5, 1, 2, true, 1}}) {
      const RandomProblem p(size, 13);
      const ForwardState seen = run_backend("hyper", p.problem,
                                            {{"residual", residual},
                                             {"block_size", int64_t{16}},
                                             {"bucket_count", int64_t{8}},
                                             {"min_seq_len", int64_t{32}},
                                             {"sample_size", int64_t{40}}});
      const DoubleResult expected = run_plan_in_double(p.problem, *seen.planned.plan);
      CAPTURE(residual, to_string(size));
      REQUIRE(largest_difference(seen.result.out, expected.out) < 1e-5);
      REQUIRE(largest_difference(seen.result.lse, expected.lse) < 1e-5);
      const AttentionGradients gradients =
          run_backward(p.problem, *seen.planned.plan, seen.result, p.dout.view());
      const DoubleGradients wanted =
          run_plan_backward_in_double(p.problem, *seen.planned.plan, expected, p.dout.view());
      REQUIRE(largest_difference(gradients.dquery, wanted.dquery) < 1e-4);
      REQUIRE(largest_difference(gradients.dkey, wanted.dkey) < 1e-4);
      REQUIRE(largest_difference(gradients.dvalue, wanted.dvalue) < 1e-4);
    }
}

// The plan with its synthetic keys made anew from the problem's rows, all shares and weights as they were.
Plan with_means_of(const AttentionProblem& p, const Plan& plan) {
  Plan moved = plan;
  for (Phase& phase : moved.phases)
    for (Pass& pass : phase.passes)
      for (KeyList& list : pass.lists) {
        if (!list.synthetic) continue;
        const SyntheticKeys& old = *list.synthetic;
        auto means = std::make_shared<SyntheticKeys>();
        means->key = Tensor<float>(old.key.shape(), 0.0F);
        means->value = Tensor<float>(old.value.shape(), 0.0F);
        means->member_order = old.member_order;
        means->member_begin = old.member_begin;
        means->member_share = old.member_share;
        for (int64_t run = 0; run < old.key.shape().rows; ++run)
          for (int64_t i = old.member_begin[static_cast<size_t>(run)];
               i < old.member_begin[static_cast<size_t>(run) + 1]; ++i) {
            as_eigen(means->key.matrix(0)).row(run) +=
                old.share(run, i) * as_eigen(p.key.matrix(pass.head)).row(old.member_order[i]);
            as_eigen(means->value.matrix(0)).row(run) +=
                old.share(run, i) * as_eigen(p.value.matrix(pass.head)).row(old.member_order[i]);
          }
        list.synthetic = std::move(means);
      }
  return moved;
}

TEST_CASE("gradients through centroids are those of the formula with runs, shares and weights held fixed") {
  for (const bool calibrated : {false, true}) {
    RandomProblem p({20, 50, 4, 3}, 17);
    // The estimate of masses is paid for in keys.
    const Plan plan = calibrated ? residual_plan("calibrated_centroids", p.problem, blocks_of(20, 50, 16),
                                                 12 + kMassPlanningKeys)
                                 : residual_plan("centroids", p.problem, blocks_of(20, 50, 16), 12);
    const auto objective = [&]() {
      const DoubleResult r = run_plan_in_double(p.problem, with_means_of(p.problem, plan));
      double sum = 0;
      for (int64_t i = 0; i < r.out.shape().size(); ++i)
        sum += r.out.data()[i] * static_cast<double>(p.dout.data()[i]);
      return sum;
    };
    const AttentionGradients seen =
        run_backward(p.problem, plan, run_forward(p.problem, plan), p.dout.view());
    for (const bool keys : {true, false}) {
      Tensor<float>& input = keys ? p.key : p.value;
      const Tensor<float>& gradient = keys ? seen.dkey : seen.dvalue;
      for (int64_t i = 0; i < input.shape().size(); i += 7) {
        const float before = input.data()[i];
        const float step = 1.0F / 64;
        input.data()[i] = before + step;
        const double high = objective();
        input.data()[i] = before - step;
        const double low = objective();
        input.data()[i] = before;
        const double expected = (high - low) / (2 * static_cast<double>(step));
        CAPTURE(calibrated, keys, i, expected, gradient.data()[i]);
        REQUIRE(static_cast<double>(gradient.data()[i]) == Approx(expected).margin(1e-3).epsilon(1e-2));
      }
    }
  }
}

TEST_CASE("compressed residuals give the same bits for any number of threads") {
  const RandomProblem p({700, 700, 16, 8, 1, 2, true}, 19);
  const int before = thread_count();
  for (const std::string& residual : kCompressed) {
    const Settings settings = {{"residual", residual},
                               {"block_size", int64_t{32}},
                               {"min_seq_len", int64_t{64}},
                               {"sample_size", int64_t{48}}};
    set_thread_count(1);
    const ForwardState one = run_backend("hyper", p.problem, settings);
    set_thread_count(3);
    const ForwardState three = run_backend("hyper", p.problem, settings);
    set_thread_count(before);
    CAPTURE(residual);
    REQUIRE(largest_difference(one.result.out, three.result.out) == 0);
    REQUIRE(largest_difference(one.result.lse, three.result.lse) == 0);
  }
}

TEST_CASE("centroids have less error than the paper's sample on Gaussian keys") {
  const RandomProblem p({1024, 1024, 16, 16}, 23);
  const ForwardState exact = run_backend("exact", p.problem);
  const auto error = [&](const std::string& residual) {
    const Settings settings = {
        {"residual", residual}, {"block_size", int64_t{64}}, {"sample_size", int64_t{64}}};
    const ForwardState seen = run_backend("hyper", p.problem, settings);
    double sum = 0;
    for (int64_t i = 0; i < seen.result.out.shape().size(); ++i)
      sum += std::pow(static_cast<double>(seen.result.out.data()[i] - exact.result.out.data()[i]), 2);
    return std::sqrt(sum);
  };
  const double sample = error("sample");
  const double centroids = error("centroids");
  CAPTURE(sample, centroids);
  REQUIRE(centroids < sample / 2);
}

TEST_CASE("a budget is split by the share of columns, and leaves a centroid unless all are columns") {
  const auto seen = [](int64_t keys, double share) {
    const ColumnBudget split = split_budget(keys, share);
    return std::make_pair(split.columns, split.centroids);
  };
  using Split = std::pair<int64_t, int64_t>;
  CHECK(seen(256, 0.5) == Split{128, 128});
  CHECK(seen(7, 0.25) == Split{2, 5});
  CHECK(seen(7, 0) == Split{0, 7});
  CHECK(seen(7, 1) == Split{7, 0});
  CHECK(seen(7, 0.99) == Split{6, 1});
  CHECK(seen(1, 0.5) == Split{0, 1});
}

TEST_CASE("columns and centroids stand for all keys when the planning costs more than the sample pays for") {
  // All keys are equal, so that any centroids are exact; 64 k-means centres and the mass rows exceed m = 32.
  RandomProblem p({130, 257, 16, 8}, 31);
  for (int64_t row = 1; row < 257; ++row) std::copy_n(p.key.data(), 16, p.key.data() + row * 16);
  const ForwardState exact = run_backend("exact", p.problem);
  const ForwardState seen = run_backend("hyper", p.problem,
                                        {{"residual", std::string("columns+centroids")},
                                         {"buckets", std::string("kmeans")},
                                         {"bucket_count", int64_t{64}},
                                         {"block_size", int64_t{16}},
                                         {"sample_size", int64_t{32}}});
  const double difference = largest_difference(exact.result.out, seen.result.out);
  CAPTURE(difference);
  REQUIRE(difference < 1e-5);
}

TEST_CASE("residuals that cannot go with other parameters are refused in one sentence") {
  const RandomProblem p({512, 512, 16, 16});
  const auto wrong = [&](const Settings& settings) {
    return backend_named("hyper").check(p.problem, call_for("hyper", settings).parameters);
  };
  REQUIRE(wrong({{"residual", std::string("centroids")}}).empty());
  REQUIRE(wrong({{"residual", std::string("none")}}).empty());
  for (const char* free : {"none", "moments"})  // what they cost does not depend on m
    REQUIRE(wrong({{"residual", std::string(free)}, {"sample_size", int64_t{513}}}).empty());
  REQUIRE_THAT(wrong({{"residual", std::string("centroids")}, {"sample_size", int64_t{513}}}),
               Contains("sample_size must be at most the number of keys, 512, but is 513"));
  REQUIRE_THAT(wrong({{"residual", std::string("centroids")}, {"blocks", std::string("banded")}}),
               Contains("residual: centroids needs mask: sort_lsh with blocks: aligned"));
  REQUIRE_THAT(wrong({{"residual", std::string("columns+centroids")}, {"mask", std::string("band")}}),
               Contains("mask is band"));
  REQUIRE_THAT(wrong({{"residual", std::string("none")}, {"mask", std::string("none")}}),
               Contains("computes nothing"));
  REQUIRE_THAT(wrong({{"residual", std::string("centroids")}, {"estimator", std::string("theory")}}),
               Contains("needs residual: sample"));
}

}  // namespace hyperattn::testing
