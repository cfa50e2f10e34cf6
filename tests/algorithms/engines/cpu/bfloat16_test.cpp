// The engine cpu in bf16, at every instruction set, against the reference in double: on generated plans and
// one plan of every method and option, errors are at most twice those of plain attention in bf16; exact
// attention is held to plain attention that rounds nothing but its inputs and weights.
#include "algorithms/kernels/bfloat16.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "algorithms/check_plan.h"
#include "algorithms/kernels/instruction_set.h"
#include "core/error.h"
#include "tests/algorithms/engines/precision_checks.h"
#include "tests/algorithms/random_plans.h"

namespace hyperattn::testing {
namespace {

const Engine& engine() {
  return *find_engine("cpu");
}

template <class Body>
void at_every_instruction_set(const Body& body) {
  for (const std::string& name : usable_instruction_sets()) {
    force_instruction_set(name);
    body(name);
  }
  force_instruction_set("");
}

Call bf16_call(const Variant& variant) {
  Call call = call_for(variant.backend, variant.settings);
  call.parameters.set("precision", std::string("bf16"));
  return call;
}

TEST_CASE("bfloat16 rounds to nearest even, as Eigen's does", "[bfloat16]") {
  const RandomStream stream(3, Purpose::other);
  for (uint64_t i = 0; i < 20000; ++i) {
    const auto exponent = static_cast<int>(i % 250) - 125;
    const auto x = static_cast<float>(std::ldexp(stream.normal(i), exponent));
    REQUIRE(rounded_to_bfloat16(x) == static_cast<float>(Eigen::bfloat16(x)));
  }
  CHECK(rounded_to_bfloat16(1.0F + 0x1p-8F) == 1.0F);
  CHECK(rounded_to_bfloat16(1.0F + 3 * 0x1p-8F) == 1.0F + 0x1p-6F);
  CHECK(rounded_to_bfloat16(-INFINITY) == -INFINITY);
  CHECK(rounded_to_bfloat16(std::numeric_limits<float>::max()) == INFINITY);
  CHECK(std::isnan(rounded_to_bfloat16(NAN)));
  CHECK(std::isnan(rounded_to_bfloat16(std::bit_cast<float>(0x7F800001U))));
}

TEST_CASE("bf16: generated plans, forward and backward", "[bfloat16]") {
  at_every_instruction_set([](const std::string& level) {
    for (const PlanFamily& family : plan_families()) {
      Tally tally;
      const bool is_best = level == usable_instruction_sets().front();
      for (const ProblemSize& size : kSizes) {
        if (!is_best && size.head_dim % 2 == 0) continue;  // odd widths say enough of the others
        const RoundedProblem p(size, "bf16", 3);
        for (uint64_t seed = 0; seed < (is_best ? 2 : 1); ++seed) {
          const Plan plan = RandomPlan(p.problem, family, seed).make();
          INFO(level << ", " << family.name << ", " << to_string(size) << ", plan " << seed);
          REQUIRE(check_plan(p.problem, plan) == "");
          compare_plan("bf16", p, plan, tally, engine());
        }
      }
    }
  });
}

TEST_CASE("bf16: the plan of every method and option, in every form of the problem", "[bfloat16]") {
  const ProblemSize sizes[] = {{290, 290, 64, 64, 1, 1}, {200, 311, 48, 80, 1, 2, true, 1}};
  Tally tally;
  for (const ProblemSize& size : sizes) {
    const RoundedProblem p(size, "bf16");
    for (const Variant& variant : variants(kVariantSizes)) {
      const Backend& backend = backend_named(variant.backend);
      if (find_spec(backend.parameters(), "precision") == nullptr) continue;
      const Call call = bf16_call(variant);
      if (!backend.check(p.problem, call.parameters).empty()) continue;
      INFO(to_string(variant) << ", " << to_string(size));
      const PlannedCall planned = backend.method().plan(*bound_of(p.problem), call);
      compare_plan("bf16", p, *planned.plan, tally, engine());
      // What runs another way than its plan alone.
      if (call.parameters.has("estimator") && call.parameters.text("estimator") == "theory") continue;
      const ForwardState whole = backend.forward(p.problem, call);
      CHECK(largest_difference(
                whole.result.out,
                engine().forward(*bound_in("bf16", p.problem, engine()), *planned.plan, {}).out) == 0);
    }
  }
}

/// Errors against double precision on the inputs as they were given, which both programs round first.
TEST_CASE("bf16: exact attention at awkward sizes, with spread scores and windows", "[bfloat16]") {
  std::vector<ProblemSize> sizes = {{1, 1, 1, 1},
                                    {1, 300, 64, 64},
                                    {23, 1, 16, 5},
                                    {255, 255, 64, 64},
                                    {256, 256, 64, 64},
                                    {257, 257, 64, 64},
                                    {25, 511, 127, 129},
                                    {331, 733, 128, 96},
                                    {70, 130, 256, 256},
                                    {97, 97, 31, 17, 2, 4, true, 2},
                                    {90, 40, 40, 24, 1, 2, true},
                                    {300, 300, 40, 24, 1, 2, true, 0, 5}};
  for (int64_t d = 1; d <= 40; d += 3) sizes.push_back({33, 47, d, d});
  at_every_instruction_set([&](const std::string& level) {
    for (const ProblemSize& size : sizes)
      for (const double spread : {1.0, 30.0}) {
        const RandomProblem given(size, 5, spread);
        const Plan plan = exact_plan(given.problem);
        const DoubleResult exact = run_plan_in_double(given.problem, plan);
        RandomProblem rounded(size, 5, spread);
        for (Tensor<float>* tensor : {&rounded.query, &rounded.key, &rounded.value})
          round_to("bf16", *tensor);
        const PlainAttention plain("bf16", rounded.problem, plan, exact, PlainRounding::weights);
        const AttentionResult seen = engine().forward(*bound_in("bf16", given.problem, engine()), plan, {});
        // Of a few numbers the largest error of one program may by chance be far below the other's.
        const double chance = exact.out.shape().size() < 2000 ? 0.5 * epsilon_of("bf16") : 0;
        const double allowed = 2 * error_of(plain.out(), exact, kNoise) + chance + 4e-6;
        const double error = error_of(seen.out, exact, kNoise);
        INFO(level << ", " << to_string(size) << ", spread " << spread << ": out differs by " << error
                   << ", allowed " << allowed);
        CHECK(error <= allowed);
        const DoubleResult of_rounded = run_plan_in_double(rounded.problem, plan);
        const double lse_error = error_of_lse(seen.lse, of_rounded, kNoise);
        INFO("lse differs by " << lse_error << " from that of the rounded inputs");
        CHECK(lse_error <= 3e-6);
      }
  });
}

TEST_CASE("bf16: weights are rounded, and inputs before anything is planned", "[bfloat16]") {
  const RandomProblem given({64, 512, 64, 64}, 9);
  RandomProblem rounded({64, 512, 64, 64}, 9);
  for (Tensor<float>* tensor : {&rounded.query, &rounded.key, &rounded.value}) round_to("bf16", *tensor);
  const Plan plan = exact_plan(given.problem);
  const AttentionResult of_given = engine().forward(*bound_in("bf16", given.problem, engine()), plan, {});
  const AttentionResult of_rounded = engine().forward(*bound_in("bf16", rounded.problem, engine()), plan, {});
  CHECK(largest_difference(of_given.out, of_rounded.out) == 0);
  const AttentionResult single = engine().forward(*bound_in("fp32", rounded.problem, engine()), plan, {});
  const double difference = largest_difference(of_rounded.out, single.out);
  INFO("weights in bf16 move the output by " << difference);
  CHECK(difference > 1e-5);
  CHECK(difference < 0x1p-8);
  const auto bound = bound_in("bf16", given.problem, engine());
  const float* bound_keys = bound->problem().key.data;
  CHECK(std::equal(bound_keys, bound_keys + rounded.key.shape().size(), rounded.key.data()));
}

TEST_CASE("bf16: given denominators, caps and transposed products are those of fp32 on rounded inputs",
          "[bfloat16]") {
  const RoundedProblem p({70, 90, 20, 9, 1, 2}, "bf16");
  const Plan plan = exact_plan(p.problem);
  const auto half = bound_in("bf16", p.problem, engine());
  const auto single = bound_in("fp32", p.problem, engine());
  const DoubleResult exact = run_plan_in_double(p.problem, plan);
  Tensor<double> logs(exact.lse.shape());
  for (int64_t i = 0; i < logs.shape().size(); ++i) logs.data()[i] = exact.lse.data()[i];
  const RowSums sums = sums_from_logs(logs.shape(), logs.data());
  EngineOptions options;
  options.denominators = &sums;
  CHECK(largest_difference(engine().forward(*half, plan, options).out,
                           engine().forward(*single, plan, options).out) == 0);
  const Tensor<float> rows = gaussian({1, 2, 70, 11}, 5, Purpose::other);
  CHECK(largest_difference(engine().transposed(*half, plan, sums, rows.view()),
                           engine().transposed(*single, plan, sums, rows.view())) == 0);
}

TEST_CASE("bf16: the same bits for any number of threads", "[bfloat16]") {
  const RoundedProblem p({300, 340, 64, 64, 1, 4, false, 2}, "bf16");
  const int before = thread_count();
  for (const PlanFamily& family : plan_families())
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const Plan plan = RandomPlan(p.problem, family, seed).make();
      const auto bound = bound_in("bf16", p.problem, engine());
      set_thread_count(1);
      const AttentionResult one = engine().forward(*bound, plan, {});
      for (const int threads : {2, 5}) {
        set_thread_count(threads);
        const AttentionResult many = engine().forward(*bound, plan, {});
        INFO(family.name << ", plan " << seed << ", " << threads << " threads");
        CHECK(largest_difference(one.out, many.out) == 0);
        CHECK(largest_difference(one.lse, many.lse) == 0);
      }
    }
  set_thread_count(before);
}

TEST_CASE("bf16: an engine's default and choices of a shared parameter are its own", "[bfloat16]") {
  const RandomProblem p({4, 4, 8, 8});
  const Backend& exact = backend_named("exact");
  CHECK(exact.ground(default_parameters(exact.parameters())) == "cpu fp32");
  CHECK(exact.ground(bf16_call({"exact", {}}).parameters) == "cpu bf16");
  CHECK(call_for("exact", {{"engine", std::string("cuda")}}).parameters.text("precision") == "bf16");
  const Call half = call_for("exact", {{"precision", std::string("fp16")}});
  CHECK(exact.check(p.problem, half.parameters) ==
        "precision of engine 'cpu' must be one of fp32, bf16, but is 'fp16'");
  const ParameterSpec& spec = *find_spec(exact.parameters(), "precision");
  CHECK(other_defaults_text(spec) == "bf16 with engine: cuda, bf16 with engine: cudnn");
}

}  // namespace
}  // namespace hyperattn::testing
