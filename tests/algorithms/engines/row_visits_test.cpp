// Plans in which most of the work is row visits, at sizes where tiles of rows are many and segments are
// visited by none, one or many rows of each, against the reference in double.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "algorithms/check_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/plan_walk.h"
#include "algorithms/registry.h"
#include "core/parallel.h"
#include "tests/algorithms/random_plans.h"
#include "tests/algorithms/random_problem.h"

namespace hyperattn::testing {
namespace {

/// Segments of 1 to 16 ranks; each row visits about `visits` of them.
KeyList segmented_keys(std::vector<int32_t> keys, Dice& dice) {
  KeyList list;
  std::vector<int32_t> offsets = {0};
  while (offsets.back() < static_cast<int32_t>(keys.size()))
    offsets.push_back(std::min(static_cast<int32_t>(keys.size()),
                               offsets.back() + static_cast<int32_t>(dice.between(1, kSegmentKeys))));
  list.segments = std::make_shared<const std::vector<int32_t>>(std::move(offsets));
  std::vector<float> weights;
  for (size_t i = 0; i < keys.size(); ++i)
    weights.push_back(dice.chance(0.05) ? -std::numeric_limits<float>::infinity() : dice.uniform(-1, 1));
  list.log_weight = std::make_shared<const std::vector<float>>(std::move(weights));
  list.order = RowOrder::list(dice.shuffled(std::move(keys)));
  return list;
}

/// Whether a row visits a segment and what it skips: a function of both alone, so that plans that differ in
/// later rows agree in earlier ones.
bool visits(int64_t row, int64_t segment, int64_t segments, uint64_t variant, RowEntry& entry) {
  constexpr uint64_t kVisits = 20;
  const RandomStream stream(variant, Purpose::other);
  const auto counter = static_cast<uint64_t>(2 * (row * segments + segment));
  if (stream.below(counter, static_cast<uint64_t>(segments)) >= kVisits) return false;
  const uint64_t skip = stream.below(counter + 1, 1 << 17);
  entry = {static_cast<int32_t>(row), static_cast<uint16_t>(skip >> 16 != 0 ? skip : 0)};
  return true;
}

/// Two lists with segments, the second with a factor and, if asked, linear values. Rows from `changed` on
/// pick other segments.
Plan many_row_visits(const AttentionProblem& problem, bool linear, int64_t changed) {
  Dice dice(9);
  PlanBuilder plan;
  plan.phase();
  for (int64_t head = 0; head < problem.heads(); ++head) {
    const int64_t rows = problem.query_count();
    PassBuilder pass(problem, head, 0, RowOrder::run(0, rows));
    std::vector<int32_t> all(static_cast<size_t>(problem.key_count()));
    std::iota(all.begin(), all.end(), 0);
    std::vector<KeyList> lists = {segmented_keys(all, dice), segmented_keys(all, dice)};
    std::vector<float> row_factor;
    std::vector<float> rank_factor;
    for (int64_t i = 0; i < rows; ++i) row_factor.push_back(dice.uniform(0, 2));
    for (size_t j = 0; j < all.size(); ++j) rank_factor.push_back(dice.uniform(0, 1));
    lists[1].factor = {std::make_shared<const std::vector<float>>(std::move(row_factor)),
                       std::make_shared<const std::vector<float>>(std::move(rank_factor))};
    lists[1].linear_value = linear;
    if (linear) {
      auto values = std::make_shared<LinearValues>();
      values->variance.assign(static_cast<size_t>(problem.head_dim()), 0.1F);
      for (int64_t i = 0; i < problem.head_dim() * problem.value_dim(); ++i)
        values->cross_covariance.push_back(dice.uniform(-0.1, 0.1));
      pass.with_linear_values(values);
    }
    pass.add_list(lists[0]);
    pass.add_list(lists[1]);
    pass.group(0, rows);
    for (int32_t list = 0; list < 2; ++list) {
      const auto segments = static_cast<int64_t>(lists[static_cast<size_t>(list)].segments->size()) - 1;
      for (int64_t segment = 0; segment < segments; ++segment) {
        const SegmentRange range = segment_of(lists[static_cast<size_t>(list)], segment);
        std::vector<RowEntry> entries;
        for (int64_t row = 0; row < rows; ++row)
          if (RowEntry entry; visits(row, segment, segments, row < changed ? 1 : 2, entry)) {
            entry.skip &= static_cast<uint16_t>((1U << (range.end - range.begin)) - 1U);
            entries.push_back(entry);
          }
        pass.visit_segment(list, static_cast<int32_t>(segment), entries);
      }
    }
    plan.add(pass.take());
  }
  return plan.take();
}

const ProblemSize kSizes[] = {{1500, 700, 64, 64},
                              {701, 1009, 1, 1},
                              {530, 333, 7, 5, 1, 4, false, 2},
                              {260, 411, 96, 33},
                              {300, 300, 256, 256}};

AttentionResult run(const AttentionProblem& problem, const Plan& plan, const EngineOptions& options = {}) {
  const auto bound = default_engine().bind(problem, default_parameters(default_engine().parameters()));
  return default_engine().forward(*bound, plan, options);
}

void compare(const AttentionProblem& problem, const Plan& plan, const DoubleResult& exact,
             const EngineOptions& options) {
  const AttentionResult seen = run(problem, plan, options);
  CHECK(largest_difference(seen.out, exact.out) < 2e-4 * (1 + largest_entry(exact.out)));
  CHECK(largest_difference(seen.lse, exact.lse) < 1e-4);
  if (options.capped_entries == nullptr) return;
  INFO("capped " << *options.capped_entries << ", expected " << exact.capped_entries);
  // Rounding may move one over the cap.
  CHECK(std::abs(*options.capped_entries - exact.capped_entries) <= 1 + exact.capped_entries / 10000);
}

TEST_CASE("many row visits agree with the reference on every instruction set, plain, linear and capped") {
  for (const ProblemSize& size : kSizes)
    for (const bool linear : {false, true}) {
      const RandomProblem p(size, 4, 3);
      const Plan plan = many_row_visits(p.problem, linear, size.queries);
      INFO(to_string(size) << (linear ? ", linear values" : ""));
      REQUIRE(check_plan(p.problem, plan) == "");
      const std::vector<float> cap(static_cast<size_t>(size.batch * size.heads * size.queries), 0.7F);
      int64_t capped = 0;
      EngineOptions options;
      options.score_cap = cap.data();
      options.capped_entries = &capped;
      const DoubleResult exact = run_plan_in_double(p.problem, plan);
      const DoubleResult exact_capped =
          linear ? DoubleResult{} : run_plan_in_double(p.problem, plan, options);
      for (const std::string& level : usable_instruction_sets()) {
        INFO("instruction set " << level);
        force_instruction_set(level);
        compare(p.problem, plan, exact, {});
        if (!linear) compare(p.problem, plan, exact_capped, options);
      }
    }
  force_instruction_set("");
}

TEST_CASE("a row's bits depend on no thread and on no later row's query and visits") {
  const int before = thread_count();
  for (const ProblemSize& size : kSizes)
    for (const bool linear : {false, true}) {
      const RandomProblem p(size, 4, 3);
      RandomProblem other(size, 4, 3);
      const int64_t changed = size.queries * 3 / 5;
      for (int64_t head = 0; head < size.heads; ++head)
        for (int64_t row = changed; row < size.queries; ++row)
          for (int64_t c = 0; c < size.head_dim; ++c) other.query.view().matrix(head).row(row)[c] *= -7;
      set_thread_count(1);
      const Plan plan = many_row_visits(p.problem, linear, size.queries);
      const AttentionResult one = run(p.problem, plan);
      INFO(to_string(size) << (linear ? ", linear values" : ""));
      for (const int threads : {2, 3}) {
        set_thread_count(threads);
        const AttentionResult many = run(p.problem, plan);
        CHECK(largest_difference(one.out, many.out) == 0);
        CHECK(largest_difference(one.lse, many.lse) == 0);
      }
      const AttentionResult later = run(other.problem, many_row_visits(other.problem, linear, changed));
      int64_t different = 0;
      for (int64_t head = 0; head < size.heads; ++head)
        for (int64_t row = 0; row < size.queries; ++row) {
          const int64_t flat = (head * size.queries + row) * size.value_dim;
          const bool equal = std::equal(one.out.data() + flat, one.out.data() + flat + size.value_dim,
                                        later.out.data() + flat);
          if (row < changed) CHECK(equal);
          if (row >= changed && !equal) ++different;
        }
      CHECK(different > 0);
    }
  set_thread_count(before);
}

}  // namespace
}  // namespace hyperattn::testing
