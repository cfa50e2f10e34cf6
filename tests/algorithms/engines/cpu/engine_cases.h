// Problems and plans that exercise every feature of the engine, for the forward and the backward tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "algorithms/plan_builder.h"
#include "algorithms/problem.h"
#include "core/random.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {

struct EngineCase {
  int64_t batch = 1;
  int64_t heads = 1;
  int64_t queries = 1;
  int64_t keys = 1;
  int64_t dim = 1;
  int64_t value_dim = 1;
  double size = 1;  ///< standard deviation of Q and K entries
  bool causal = false;
};

inline std::string to_string(const EngineCase& c) {
  return "b" + std::to_string(c.batch) + " h" + std::to_string(c.heads) + " nq" + std::to_string(c.queries) +
         " nk" + std::to_string(c.keys) + " d" + std::to_string(c.dim) + " dv" + std::to_string(c.value_dim);
}

struct OwnedProblem {
  Tensor<float> query, key, value, dout;
  AttentionProblem problem;

  explicit OwnedProblem(const EngineCase& c, uint64_t seed = 7)
      : query(gaussian({c.batch, c.heads, c.queries, c.dim}, seed, Purpose::query, c.size)),
        key(gaussian({c.batch, c.heads, c.keys, c.dim}, seed, Purpose::key, c.size)),
        value(gaussian({c.batch, c.heads, c.keys, c.value_dim}, seed, Purpose::value)),
        dout(gaussian({c.batch, c.heads, c.queries, c.value_dim}, seed, Purpose::output_gradient)),
        problem{query.view(), key.view(), value.view(), default_scale(c.dim), c.causal} {}
};

inline std::vector<int32_t> permutation(int64_t count, uint64_t seed) {
  std::vector<int32_t> rows(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = static_cast<int32_t>(i);
  const RandomStream stream(seed, Purpose::other);
  for (int64_t i = count - 1; i > 0; --i)
    std::swap(
        rows[static_cast<size_t>(i)],
        rows[static_cast<size_t>(stream.below(static_cast<uint64_t>(i), static_cast<uint64_t>(i) + 1))]);
  return rows;
}

/// Sampled keys with weights and the weights' logarithms: every third key, one of them twice, some removed.
inline KeyList every_third_key(const EngineCase& c) {
  std::vector<int32_t> rows;
  std::vector<float> log_weight;
  for (int64_t j = 0; j < c.keys; j += 3) {
    rows.push_back(static_cast<int32_t>(j));
    const float odd = j % 5 == 0 ? -std::numeric_limits<float>::infinity() : -0.5F;
    log_weight.push_back(j % 2 == 0 ? 1.25F : odd);
  }
  if (c.keys > 4) {  // drawn twice
    rows.push_back(rows.back());
    log_weight.push_back(0.25F);
  }
  KeyList sampled;
  sampled.order = RowOrder::list(std::move(rows));
  sampled.stage = Stage::sample;
  sampled.log_weight = std::make_shared<const std::vector<float>>(std::move(log_weight));
  return sampled;
}

/// Permuted blocks of `block` keys, and a weighted sample of every third key, repeated keys and exclusions
/// included; the last query belongs to no group when `leave_one_out`.
inline Pass blocks_and_sample_pass(const EngineCase& c, const AttentionProblem& problem, int64_t head,
                                   int64_t block, bool leave_one_out) {
  PassBuilder pass(problem, head, 0,
                   RowOrder::list(permutation(c.queries, 11 + static_cast<uint64_t>(head))));
  const int32_t keys =
      pass.add_keys(RowOrder::list(permutation(c.keys, 23 + static_cast<uint64_t>(head))), Stage::block);
  KeyList third = every_third_key(c);
  const int64_t m = third.order.count;
  const int32_t sampled = pass.add_list(std::move(third));
  const int64_t queries = c.queries - (leave_one_out ? 1 : 0);
  const int64_t group_rows = std::max<int64_t>(1, block * c.queries / c.keys);
  int64_t number = 0;
  for (int64_t begin = 0; begin < queries; begin += group_rows, ++number) {
    const int64_t key_begin = std::min(c.keys - 1, begin * c.keys / c.queries);
    std::vector<int32_t> excluded;
    for (int64_t rank = number % 4; rank < m; rank += 4 + number % 3)
      excluded.push_back(static_cast<int32_t>(rank));
    pass.group(begin, std::min(queries, begin + group_rows))
        .visit(keys, key_begin, std::min(c.keys, key_begin + block))
        .visit_all_except(sampled, excluded);
  }
  return pass.take();
}

inline PlanBuilder blocks_and_sample(const EngineCase& c, const AttentionProblem& problem, int64_t block,
                                     bool leave_one_out) {
  PlanBuilder plan;
  plan.phase();
  for (int64_t head = 0; head < problem.heads(); ++head)
    plan.add(blocks_and_sample_pass(c, problem, head, block, leave_one_out));
  return plan;
}

inline Plan blocks_and_sample_plan(const EngineCase& c, const OwnedProblem& owned, int64_t block,
                                   bool leave_one_out) {
  return blocks_and_sample(c, owned.problem, block, leave_one_out).take();
}

/// Means of runs of three keys of a head, each with the weight of its run.
inline KeyList means_of_three(const EngineCase& c, const OwnedProblem& owned, int64_t head) {
  auto means = std::make_shared<SyntheticKeys>();
  const int64_t count = (c.keys + 2) / 3;
  means->key = Tensor<float>({1, 1, count, c.dim}, 0.0F);
  means->value = Tensor<float>({1, 1, count, c.value_dim}, 0.0F);
  means->member_order = RowOrder::run(0, c.keys);
  std::vector<float> log_weight;
  for (int64_t s = 0; s < count; ++s) {
    const int64_t begin = 3 * s;
    const int64_t end = std::min(c.keys, begin + 3);
    means->member_begin.push_back(begin);
    for (int64_t j = begin; j < end; ++j) {
      const auto share = static_cast<float>(1.0 / static_cast<double>(end - begin));
      for (int64_t t = 0; t < c.dim; ++t)
        means->key.matrix(0).row(s)[t] += share * owned.key.matrix(head).row(j)[t];
      for (int64_t t = 0; t < c.value_dim; ++t)
        means->value.matrix(0).row(s)[t] += share * owned.value.matrix(head).row(j)[t];
    }
    log_weight.push_back(std::log(static_cast<float>(end - begin)));
  }
  means->member_begin.push_back(c.keys);
  KeyList list;
  list.order = RowOrder::run(0, count);
  list.log_weight = std::make_shared<const std::vector<float>>(std::move(log_weight));
  list.synthetic = std::move(means);
  return list;
}

/// Two phases: blocks and sample first, then every row once more against a synthetic list (means of runs of
/// keys).
inline Plan two_phase_plan(const EngineCase& c, const OwnedProblem& owned, int64_t block) {
  PlanBuilder plan = blocks_and_sample(c, owned.problem, block, true);
  plan.phase();
  for (int64_t head = 0; head < owned.problem.heads(); ++head) {
    PassBuilder pass(owned.problem, head, 0, RowOrder::run(0, c.queries));
    plan.add(pass.everything_sees_all(pass.add_list(means_of_three(c, owned, head))).take());
  }
  return plan.take();
}

/// Sizes around every border: one row, tiles of 24, 128 and 256 and their neighbours, primes, n_q ≠ n_k, d =
/// 1 … 256.
inline std::vector<EngineCase> awkward_cases() {
  return {{1, 1, 1, 1, 1, 1},        {1, 2, 3, 2, 7, 5},       {2, 1, 23, 24, 16, 16},
          {1, 1, 24, 127, 64, 64},   {1, 1, 25, 128, 65, 63},  {1, 1, 131, 129, 33, 17},
          {1, 3, 61, 257, 15, 80},   {1, 1, 257, 256, 64, 64}, {1, 1, 300, 509, 128, 96},
          {1, 1, 40, 130, 256, 256}, {1, 1, 1, 600, 48, 1},    {2, 2, 97, 5, 2, 130}};
}

}  // namespace hyperattn::testing
