// The engine cuda against the reference in double, on generated plans and on one plan of every method and
// option: errors are at most twice those of plain attention in the same precision, and bits do not change
// from run to run. Skipped, with the reason, where there is no GPU.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <iostream>

#include "algorithms/check_plan.h"
#include "algorithms/engines/cuda/device_attention.h"
#include "algorithms/primitives/sort_lsh.h"
#include "core/error.h"
#include "tests/algorithms/engines/precision_checks.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/algorithms/random_plans.h"

namespace hyperattn::testing {
namespace {

const char* const kPrecisions[] = {"bf16", "fp16", "fp32"};

const Engine& engine() {
  return *find_engine("cuda");
}

/// Whether the engine cannot run here; CTest counts a test that prints this as skipped.
bool skipped(const Engine& own = engine()) {
  const std::string reason = own.available();
  if (!reason.empty()) std::cout << "SKIPPED: engine " << own.name() << " " << reason << "\n";
  return !reason.empty();
}

TEST_CASE("cuda: generated plans, forward and backward, in every precision", "[cuda]") {
  if (skipped()) return;
  for (const std::string precision : kPrecisions)
    for (const PlanFamily& family : plan_families()) {
      Tally tally;
      for (const ProblemSize& size : kSizes) {
        const RoundedProblem p(size, precision, 3);
        for (uint64_t seed = 0; seed < 4; ++seed) {
          const Plan plan = RandomPlan(p.problem, family, seed).make();
          INFO(precision << ", " << family.name << ", " << to_string(size) << ", plan " << seed);
          REQUIRE(check_plan(p.problem, plan) == "");
          compare_plan(precision, p, plan, tally, engine());
        }
      }
      std::cout << precision << ", " << family.name << ": largest error over what is allowed " << tally.worst
                << "\n";
    }
}

TEST_CASE("cuda: the plan of every method and option, in every form of the problem", "[cuda]") {
  if (skipped()) return;
  const ProblemSize sizes[] = {{400, 400, 64, 64, 1, 2},
                               {400, 400, 64, 64, 1, 2, true},
                               {300, 511, 80, 48, 2, 2, true, 1},
                               {331, 200, 128, 128, 1, 2, true}};
  for (const std::string precision : kPrecisions) {
    Tally tally;
    for (const ProblemSize& size : sizes) {
      const RoundedProblem p(size, precision);
      for (const Variant& variant : variants(kVariantSizes)) {
        const Backend& backend = backend_named(variant.backend);
        const Call call = call_for(variant.backend, variant.settings);
        if (!backend.check(p.problem, call.parameters).empty()) continue;
        INFO(precision << ", " << to_string(variant) << ", " << to_string(size));
        const PlannedCall planned = backend.method().plan(*bound_of(p.problem), call);
        compare_plan(precision, p, *planned.plan, tally, engine());
      }
    }
    std::cout << precision << ", methods: largest error over what is allowed " << tally.worst << "\n";
  }
}

TEST_CASE("cuda: a window, and rows that see no key", "[cuda]") {
  if (skipped()) return;
  for (const std::string precision : kPrecisions) {
    Tally tally;
    for (const int64_t window : {1, 5, 64, 1000})
      for (ProblemSize size :
           {ProblemSize{300, 300, 40, 24, 1, 2, true}, ProblemSize{90, 40, 40, 24, 1, 2, true}}) {
        size.window = window;
        const RoundedProblem p(size, precision);
        INFO(precision << ", " << to_string(size));
        compare_plan(precision, p, exact_plan(p.problem), tally, engine());
      }
  }
}

TEST_CASE("cuda: given denominators, caps and transposed products, which measures are made of", "[cuda]") {
  if (skipped()) return;
  for (const std::string precision : kPrecisions)
    for (const ProblemSize& size :
         {ProblemSize{200, 331, 64, 48, 1, 2}, ProblemSize{331, 200, 20, 9, 1, 4, true, 2}}) {
      const RoundedProblem p(size, precision);
      for (uint64_t seed = 0; seed < 4; ++seed) {
        const Plan plan =
            seed == 0 ? exact_plan(p.problem) : RandomPlan(p.problem, plan_families()[0], seed).make();
        INFO(precision << ", " << to_string(size) << ", plan " << seed);
        const auto bound = bound_in(precision, p.problem, engine());
        const DoubleResult exact = run_plan_in_double(p.problem, exact_plan(p.problem));
        Tensor<double> logs(exact.lse.shape());
        std::vector<float> caps;
        for (int64_t i = 0; i < logs.shape().size(); ++i) {
          logs.data()[i] = exact.lse.data()[i];
          caps.push_back(static_cast<float>(0.3 + 0.1 * static_cast<double>(i % 7)));
        }
        const RowSums sums = sums_from_logs(logs.shape(), logs.data());
        int64_t capped = 0;
        EngineOptions options;
        options.denominators = &sums;
        options.score_cap = caps.data();
        options.capped_entries = &capped;
        const AttentionResult seen = engine().forward(*bound, plan, options);
        const DoubleResult expected = run_plan_in_double(p.problem, plan, options);
        const double scale = 1 + largest_entry(expected.out);
        INFO("out differs by " << largest_difference(seen.out, expected.out) << " of " << scale);
        CHECK(largest_difference(seen.out, expected.out) < 1e-5 * scale);
        // Scores at the cap to rounding may fall on either side.
        INFO(capped << " capped entries, expected " << expected.capped_entries);
        CHECK(std::abs(static_cast<double>(capped - expected.capped_entries)) <=
              1e-4 * static_cast<double>(expected.capped_entries) + 2);

        const Tensor<float> rows = gaussian({size.batch, size.heads, size.queries, 11}, 5, Purpose::other);
        const Tensor<float> product = engine().transposed(*bound, plan, sums, rows.view());
        const Tensor<double> wanted = run_transposed_in_double(p.problem, plan, sums, rows.view());
        INFO("a transposed product differs by " << largest_difference(product, wanted) << " of "
                                                << largest_entry(wanted));
        CHECK(largest_difference(product, wanted) < 1e-5 * (1 + largest_entry(wanted)));

        EngineOptions only_sums;
        only_sums.values = false;
        const AttentionResult without = engine().forward(*bound, plan, only_sums);
        CHECK(without.out.shape().size() == 0);
        CHECK(largest_difference(without.lse, engine().forward(*bound, plan, {}).lse) == 0);
      }
    }
}

/// Rows of requests that overlap, hashed at once and sorted in two parts, have the host's order.
void check_hashed_ahead(const BoundProblem& bound, const AttentionProblem& problem, int64_t buckets,
                        BucketOrder order) {
  std::vector<HashDirections> directions;
  for (const int64_t round : {0, 1, 2})
    directions.emplace_back(RandomStream(8, Purpose::other), problem.head_dim(), hash_bits(buckets), round);
  const std::vector<int32_t> asked = {1, 0, 1};
  std::vector<SortRequest> requests;
  for (int64_t head = 0; head < problem.heads(); ++head)
    for (const MatrixView<const float> rows : {problem.query.matrix(head), problem.keys_of(head)}) {
      const int64_t count = rows.rows;
      requests.push_back({rows, 0, &directions[0]});
      requests.push_back({rows_between(rows, count / 3, count), 5, &directions[1]});
      requests.push_back({rows_between(rows, 0, count / 2 + 1), 0, &directions[2]});
      if (count > 3) requests.back().asked_rows = &asked;
    }
  const auto hashed = bound.hash_rows(requests, buckets, order);
  REQUIRE(hashed != nullptr);
  std::vector<SortRequest> parts[2];
  for (size_t r = 0; r < requests.size(); ++r) {
    SortRequest request = requests[r];
    request.hashed = hashed.get();
    request.hashed_number = static_cast<int64_t>(r);
    parts[r % 2].push_back(request);
  }
  for (const std::vector<SortRequest>& part : parts) {
    const auto seen = bound.sort_by_bucket(part, buckets, order, nullptr);
    const auto expected = sort_by_bucket(part, buckets, order, nullptr);
    REQUIRE(seen.size() == expected.size());
    for (size_t r = 0; r < seen.size(); ++r) {
      INFO("request " << part[r].hashed_number);
      REQUIRE(seen[r].remote != nullptr);
      CHECK((seen[r].remote->on_host() == expected[r].order));
      if (part[r].asked_rows == nullptr) continue;
      const int32_t first = expected[r].ranks[0];
      const int32_t second = expected[r].ranks[1];
      CHECK((seen[r].asked.ranks->on_host() == std::vector<int32_t>{second, first, second}));
      std::vector<int32_t> ranks = {first, second, second};
      std::sort(ranks.begin(), ranks.end());
      CHECK((seen[r].asked.sorted_ranks->on_host() == ranks));
      std::vector<int32_t> rows;
      for (const int32_t rank : ranks) rows.push_back(expected[r].order[static_cast<size_t>(rank)]);
      CHECK((seen[r].asked.sorted_rows->on_host() == rows));
    }
  }
}

TEST_CASE("cuda: hash and sort on the card give the host's order, and methods the host's plans", "[cuda]") {
  if (skipped()) return;
  for (const std::string precision : kPrecisions)
    for (const ProblemSize& size :
         {ProblemSize{1, 3, 5, 5}, ProblemSize{5000, 3001, 64, 16, 1, 3}, ProblemSize{2048, 1024, 64, 16},
          ProblemSize{700, 700, 100, 16, 2, 2, true, 1}}) {
      const RoundedProblem p(size, precision);
      const auto bound = bound_in(precision, p.problem, engine());
      for (const int64_t buckets : {2, 128, 256, 512, 1 << 17})
        for (const BucketOrder order : {BucketOrder::gray, BucketOrder::reference}) {
          const HashDirections directions(RandomStream(7, Purpose::other), size.head_dim, hash_bits(buckets));
          const std::vector<int32_t> asked = {static_cast<int32_t>(size.keys - 1), 0,
                                              static_cast<int32_t>(size.keys / 2), 0};
          std::vector<SortRequest> requests;
          for (int64_t head = 0; head < p.problem.heads(); ++head) {
            requests.push_back({p.problem.query.matrix(head), 3, &directions, nullptr, 0, true, nullptr});
            requests.push_back({p.problem.keys_of(head), 0, &directions, nullptr, 0, head % 2 == 0, &asked});
          }
          const auto seen = bound->sort_by_bucket(requests, buckets, order, nullptr);
          const auto expected = sort_by_bucket(requests, buckets, order, nullptr);
          INFO(precision << ", " << to_string(size) << ", " << buckets << " buckets");
          check_hashed_ahead(*bound, p.problem, buckets, order);
          REQUIRE(seen.size() == expected.size());
          for (size_t r = 0; r < seen.size(); ++r) {
            REQUIRE(seen[r].remote != nullptr);
            CHECK((seen[r].remote->on_host() == expected[r].order));
            CHECK((seen[r].ranks == (requests[r].want_ranks ? expected[r].ranks : std::vector<int32_t>())));
            if (requests[r].want_ranks || requests[r].asked_rows == nullptr) continue;
            REQUIRE(seen[r].asked.ranks != nullptr);
            for (size_t i = 0; i < asked.size(); ++i)
              CHECK(seen[r].asked.ranks->on_host()[i] == expected[r].ranks[static_cast<size_t>(asked[i])]);
          }
        }
      for (const Variant& variant : variants(kVariantSizes)) {
        const Backend& backend = backend_named(variant.backend);
        Call call = call_for(variant.backend, variant.settings);
        call.parameters.set("precision", precision);  // of the kept keys, which are a problem of their own
        if (!backend.check(p.problem, call.parameters).empty()) continue;
        INFO(precision << ", " << to_string(variant) << ", " << to_string(size));
        const DoubleResult here = run_plan_in_double(p.problem, *backend.method().plan(*bound, call).plan);
        const DoubleResult host =
            run_plan_in_double(p.problem, *backend.method().plan(*bound_of(p.problem), call).plan);
        CHECK(largest_difference(here.out, host.out) == 0);
        CHECK(largest_difference(here.lse, host.lse) == 0);
      }
    }
}

TEST_CASE("cuda: guarded rows are counted, and inputs that overflow the precision are seen", "[cuda]") {
  if (skipped()) return;
  RandomProblem p({70, 90, 16, 8});
  PassBuilder pass(p.problem, 0, 0, RowOrder::run(0, 70));
  KeyList list;
  list.order = RowOrder::run(0, 90);
  auto weights = std::make_shared<SignedWeights>();
  weights->numerator.assign(90, 1.0F);
  weights->denominator.assign(90, -1.0F);
  list.signed_weights = std::move(weights);
  const Plan plan = plan_of(pass.everything_sees_all(pass.add_list(std::move(list))).take());
  const AttentionResult seen = engine().forward(*bound_in("bf16", p.problem, engine()), plan, {});
  CHECK(seen.diagnostics.guarded_rows == 70);
  CHECK(largest_entry(seen.out) == 0);
  CHECK(seen.lse.data()[69] == -INFINITY);

  p.value.data()[5] = 1e6F;  // beyond fp16
  const AttentionResult overflowed =
      engine().forward(*bound_in("fp16", p.problem, engine()), exact_plan(p.problem), {});
  CHECK_THROWS_WITH(check_result(overflowed), Catch::Contains("inf") || Catch::Contains("nan"));
}

/// Rows that see one key, and in a later phase others.
Plan one_key_first(const AttentionProblem& problem, int64_t key) {
  const auto pass_over = [&](RowOrder keys) {
    PassBuilder pass(problem, 0, 0, RowOrder::run(0, problem.query_count()));
    KeyList list;
    list.order = std::move(keys);
    return pass.everything_sees_all(pass.add_list(std::move(list))).take();
  };
  return PlanBuilder()
      .phase(0)
      .add(pass_over(RowOrder::run(key, 1)))
      .phase(1)
      .add(pass_over(RowOrder::run(0, key)))
      .take();
}

TEST_CASE("cuda: rows that have seen nothing but a NaN keep it in later phases", "[cuda]") {
  RandomProblem p({40, 33, 64, 64});
  const Plan plan = one_key_first(p.problem, 32);
  REQUIRE(check_plan(p.problem, plan) == "");
  std::fill_n(p.key.data() + 32 * 64, 64, NAN);
  const auto count_nan = [](const auto& out) {
    return std::count_if(out.data(), out.data() + out.shape().size(), [](auto x) { return std::isnan(x); });
  };
  CHECK(count_nan(run_plan_in_double(p.problem, plan).out) == 40 * 64);
  if (skipped()) return;
  for (const std::string precision : kPrecisions) {
    INFO(precision);
    CHECK(count_nan(engine().forward(*bound_in(precision, p.problem, engine()), plan, {}).out) == 40 * 64);
  }
}

TEST_CASE("cuda: refuses in one sentence what it cannot run") {
  RandomProblem p({4, 4, 8, 300});
  Parameters parameters;
  parameters.set("precision", std::string("bf16"));
  CHECK(engine().refuses(p.problem, parameters) ==
        "computes values of at most 256 columns, but these have 300");
  if (engine().available().empty()) return;
  INFO(engine().available());
  const Backend& backend = *backend_on(*find_method("exact"), engine());
  try {
    static_cast<void>(backend.bind(p.problem, parameters));
    FAIL("bound without a GPU");
  } catch (const Error& error) {
    CHECK(error.blame() == Blame::environment);
    CHECK(error.what() == "engine 'cuda' " + engine().available());
  }
}

/// Also of a program that was built without CUDA, which has stand-ins for the calls (absent.cpp).
TEST_CASE("cuda: tensors on a card are refused where there is none") {
  const std::string missing = engine().available();
  if (missing.empty()) return;
  const RandomProblem p({4, 4, 8, 8});
  AttentionOptions options;
  options.engine = "cuda";
  const Attention exact("exact", {{"precision", std::string("bf16")}}, options);
  const DeviceInputs inputs{{nullptr, cuda::Precision::bf16, p.problem.query.shape},
                            {nullptr, cuda::Precision::bf16, p.problem.key.shape},
                            {nullptr, cuda::Precision::bf16, p.problem.value.shape},
                            0,
                            nullptr};
  try {
    DeviceAttention call(exact, p.problem, inputs);
    call.forward(inputs.query, inputs.key, false);
    FAIL("computed without a GPU");
  } catch (const Error& error) {
    CHECK(error.blame() == Blame::environment);
    CHECK(error.what() == "engine 'cuda' " + missing);
  }
}

TEST_CASE("cudnn: exact attention, forward and backward, in every form of the problem", "[cuda]") {
  const Engine& own = *find_engine("cudnn");
  if (skipped(own)) return;
  const ProblemSize sizes[] = {{400, 400, 64, 64, 1, 2},
                               {331, 331, 128, 128, 2, 2, true},
                               {200, 511, 80, 48, 1, 4, true, 2},
                               {257, 100, 64, 64, 1, 2},
                               {1, 300, 33, 17, 1, 2}};
  for (const std::string precision : {"bf16", "fp16"}) {
    Tally tally;
    for (const ProblemSize& size : sizes) {
      const RoundedProblem p(size, precision);
      INFO(precision << ", " << to_string(size));
      compare_plan(precision, p, exact_plan(p.problem), tally, own);
    }
    std::cout << "cudnn, " << precision << ": largest error over what is allowed: " << tally.worst
              << std::endl;
  }
}

TEST_CASE("cudnn: what it cannot compute is refused by a sentence", "[cuda]") {
  const Engine& own = *find_engine("cudnn");
  Parameters parameters;
  parameters.set("precision", std::string("bf16"));
  CHECK(own.refuses(RandomProblem({8, 8, 300, 8}).problem, parameters) ==
        "computes rows of at most 256 columns, but these have 300");
  CHECK(own.refuses(RandomProblem({9, 8, 16, 8, 1, 1, true}).problem, parameters) ==
        "computes no rows that see no key, but of 9 causal queries on 8 keys the first see none");
  AttentionProblem windowed = RandomProblem({8, 8, 16, 8, 1, 1, true}).problem;
  windowed.window = 3;
  CHECK(own.refuses(windowed, parameters) == "has no window, but the problem has one of 3");
  CHECK(own.refuses(RandomProblem({8, 8, 16, 8, 1, 1, true}).problem, parameters).empty());
}

}  // namespace
}  // namespace hyperattn::testing
