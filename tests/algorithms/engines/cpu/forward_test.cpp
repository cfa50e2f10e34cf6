#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <numeric>

#include "algorithms/engines/cpu/run_plan.h"
#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/kernels/tile.h"
#include "core/parallel.h"
#include "tests/algorithms/engines/cpu/engine_cases.h"

namespace hyperattn {
namespace {

using namespace testing;

constexpr double kEpsilon = 1.2e-7;  // of fp32

/// A score is a sum of d products, so its error is about ε·(√d + |s|)·|s|max-like; weights inherit it as a
/// relative error, and so do lse and out (|v| up to 5). 40 covers the spread of the largest of many rows.
double tolerance(const EngineCase& c) {
  const double score = 6 * c.size * c.size;
  return 40 * kEpsilon * (std::sqrt(static_cast<double>(c.dim)) + score);
}

struct Difference {
  double out = 0;
  double lse = 0;
};

Difference difference(const AttentionResult& seen, const DoubleResult& expected) {
  Difference worst;
  for (int64_t i = 0; i < seen.out.shape().size(); ++i)
    worst.out = std::max(worst.out, std::abs(seen.out.data()[i] - expected.out.data()[i]));
  for (int64_t i = 0; i < seen.lse.shape().size(); ++i) {
    const double a = seen.lse.data()[i];
    const double b = expected.lse.data()[i];
    if (std::isinf(b) || std::isinf(a))
      worst.lse = a == b ? worst.lse : INFINITY;
    else
      worst.lse = std::max(worst.lse, std::abs(a - b));
    if (std::isnan(a)) worst.lse = NAN;
  }
  return worst;
}

class EveryInstructionSet {
 public:
  ~EveryInstructionSet() { force_instruction_set(""); }
  template <class Body>
  void run(const Body& body) {
    for (const std::string& name : usable_instruction_sets()) {
      force_instruction_set(name);
      body();
    }
  }
};

void check_close(const EngineCase& c, const AttentionProblem& problem, const Plan& plan,
                 const std::string& what, double more = 0) {
  const double allowed = tolerance(c) + more;
  const DoubleResult expected = run_plan_in_double(problem, plan);
  EveryInstructionSet().run([&] {
    const Difference seen = difference(run_forward(problem, plan), expected);
    INFO(what << " at " << to_string(c) << " with " << instruction_set() << ": out differs by " << seen.out
              << ", lse by " << seen.lse << ", allowed " << allowed);
    CHECK(seen.out <= allowed);
    CHECK(seen.lse <= allowed);
  });
}

bool same_bits(const Tensor<float>& a, const Tensor<float>& b) {
  return a.shape() == b.shape() &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.shape().size()) * sizeof(float)) == 0;
}

TEST_CASE("engine: every plan feature agrees with the reference at awkward sizes") {
  for (const EngineCase& c : awkward_cases()) {
    const OwnedProblem owned(c);
    check_close(c, owned.problem, exact_plan(owned.problem), "exact");
    check_close(c, owned.problem, blocks_and_sample_plan(c, owned, 13, false), "blocks of 13 and sample");
    check_close(c, owned.problem, blocks_and_sample_plan(c, owned, 140, true),
                "blocks of 140, one row in no group");
    check_close(c, owned.problem, two_phase_plan(c, owned, 29), "two phases with synthetic keys");
    EngineCase square = c;
    square.queries = c.keys;
    square.causal = true;
    const OwnedProblem owned_square(square);
    check_close(square, owned_square.problem, exact_plan(owned_square.problem), "triangular");
  }
}

TEST_CASE("engine: scores of plus and minus 80 neither overflow nor lose the small rows") {
  const EngineCase c{1, 1, 70, 200, 64, 64, 3.6};  // scores about ±13·8
  const OwnedProblem owned(c);
  const DoubleResult expected = run_plan_in_double(owned.problem, exact_plan(owned.problem));
  double largest = 0;
  for (int64_t i = 0; i < expected.lse.shape().size(); ++i)
    largest = std::max(largest, expected.lse.data()[i]);
  CHECK(largest > 30);
  check_close(c, owned.problem, exact_plan(owned.problem), "large scores");
}

TEST_CASE("engine: rows without keys give zero and minus infinity") {
  const EngineCase c{1, 1, 9, 12, 8, 8};
  const OwnedProblem owned(c);
  Plan plan = exact_plan(owned.problem);
  plan.phases[0].passes[0].lists[0].uniform_log_weight = -INFINITY;
  const AttentionResult seen = run_forward(owned.problem, plan);
  for (int64_t i = 0; i < 9; ++i) {
    CHECK(seen.lse.data()[i] == -INFINITY);
    CHECK(seen.out.data()[8 * i] == 0.0F);
  }
}

// Three groups of ten rows and two lists, the second of log-weight `low`: both lists in both orders, and the
// first with all its keys excluded, as a row's own block can be whose keys are all sampled.
Plan heavy_and_light_plan(const AttentionProblem& problem, float low) {
  const int64_t half = problem.key_count() / 2;
  PassBuilder pass(problem, 0, 0, RowOrder::run(0, problem.query_count()));
  const int32_t heavy = pass.add_keys(RowOrder::run(0, half), Stage::exact);
  KeyList light_keys;
  light_keys.order = RowOrder::run(half, problem.key_count() - half);
  light_keys.uniform_log_weight = low;
  const int32_t light = pass.add_list(std::move(light_keys));
  std::vector<int32_t> all_of_heavy(static_cast<size_t>(half));
  std::iota(all_of_heavy.begin(), all_of_heavy.end(), 0);
  pass.group(0, 10).visit_all(heavy).visit_all(light);
  pass.group(10, 20).visit_all(light).visit_all(heavy);
  pass.group(20, 30).visit_all_except(heavy, all_of_heavy).visit_all(light);
  return PlanBuilder().add(pass.take()).take();
}

TEST_CASE("engine: a row's reference serves small and large scores, light keys and tiles without a key") {
  // ‖q‖·‖k‖ in base 2 from 0.1 to 10⁴: below and above the headroom, within which no maximum is looked for.
  // With d = 1 scores are as large as that.
  for (const int64_t dim : {1, 16})
    for (const double size : {0.05, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 20.0}) {
      const EngineCase c{1, 1, 30, 540, dim, 7, size};
      const OwnedProblem owned(c);
      for (const float low : {40.0F, 0.0F, -20.0F, -40.0F, -150.0F, -700.0F}) {
        INFO("log-weight of the light keys " << low << ", entries of size " << size);
        check_close(c, owned.problem, heavy_and_light_plan(owned.problem, low), "heavy and light keys",
                    kEpsilon * std::abs(static_cast<double>(low)));
      }
    }
}

TEST_CASE("engine: an infinite score gives NaN, not a silently wrong row") {
  EveryInstructionSet().run([] {
    const EngineCase c{1, 1, 30, 140, 4, 4};
    OwnedProblem owned(c);
    owned.query.data()[0] = 3e38F;
    owned.key.data()[0] = 3e38F;
    const AttentionResult seen = run_forward(owned.problem, exact_plan(owned.problem));
    INFO(instruction_set() << " gave " << seen.out.data()[0]);
    CHECK_FALSE(std::isfinite(seen.out.data()[0]));
    CHECK(std::isfinite(seen.out.data()[4 * 29]));
  });
}

TEST_CASE("engine: given denominators, caps on scores, and sums without values") {
  EveryInstructionSet().run([] {
    const EngineCase c{1, 2, 77, 150, 24, 20, 1.5};
    const OwnedProblem owned(c);
    const Plan plan = blocks_and_sample_plan(c, owned, 31, true);
    std::vector<double> log_denominators;
    std::vector<float> cap;
    for (int64_t i = 0; i < 2 * 77; ++i) {
      log_denominators.push_back(0.5 + 0.01 * static_cast<double>(i));
      cap.push_back(-1.0F + 0.02F * static_cast<float>(i));
    }
    EngineOptions options;
    const RowSums denominators = sums_from_logs({1, 2, 77, 1}, log_denominators.data());
    options.denominators = &denominators;
    const DoubleResult wanted = run_plan_in_double(owned.problem, plan, options);
    double largest = 0;  // rows are not normalised here, so entries can be large
    for (int64_t i = 0; i < wanted.out.shape().size(); ++i)
      largest = std::max(largest, std::abs(wanted.out.data()[i]));
    const Difference seen = difference(run_forward(owned.problem, plan, options), wanted);
    INFO(instruction_set() << ": out " << seen.out << " of " << largest << ", lse " << seen.lse);
    CHECK(seen.out < largest * tolerance(c));
    CHECK(seen.lse < tolerance(c));

    Plan uniform = exact_plan(owned.problem);
    uniform.phases[0].passes[0].lists[0].uniform_log_weight = 0.75F;
    EngineOptions capped;
    int64_t lowered = 0;
    capped.score_cap = cap.data();
    capped.capped_entries = &lowered;
    capped.values = false;
    const AttentionResult result = run_forward(owned.problem, uniform, capped);
    int64_t lowered_expected = 0;
    capped.capped_entries = &lowered_expected;
    const DoubleResult expected = run_plan_in_double(owned.problem, uniform, capped);
    CHECK(result.out.shape().size() == 0);
    CHECK(lowered == lowered_expected);
    CHECK(lowered > 100);
    for (int64_t i = 0; i < 154; ++i)
      CHECK(result.lse.data()[i] == Approx(expected.lse.data()[i]).margin(tolerance(c)));
  });
}

TEST_CASE("engine: bits do not depend on the number of threads") {
  const EngineCase c{1, 1, 1100, 1300, 40, 24};
  const OwnedProblem owned(c);
  const std::vector<Plan> plans = [&] {
    std::vector<Plan> all;
    all.push_back(exact_plan(owned.problem));
    all.push_back(blocks_and_sample_plan(c, owned, 100, true));
    all.push_back(two_phase_plan(c, owned, 64));
    return all;
  }();
  const int before = thread_count();
  for (const Plan& plan : plans) {
    set_thread_count(1);
    const AttentionResult one = run_forward(owned.problem, plan);
    for (int threads : {2, 3, 8, 16}) {
      set_thread_count(threads);
      const AttentionResult many = run_forward(owned.problem, plan);
      INFO(threads << " threads");
      CHECK(same_bits(one.out, many.out));
      CHECK(same_bits(one.lse, many.lse));
    }
  }
  set_thread_count(before);
}

TEST_CASE("tile kernels: the exponential keeps its promise over its whole range") {
  EveryInstructionSet().run([] {
    const TileKernels& kernels = tile_kernels();
    double worst = 0;
    std::vector<float> x(64);
    std::vector<float> y(64);
    for (double start = -126; start < 127.9; start += 0.0413) {
      for (size_t i = 0; i < 64; ++i)
        x[i] = std::min(127.99F, static_cast<float>(start + 0.00017 * static_cast<double>(i)));
      kernels.exp2(x.data(), y.data(), 64);
      for (size_t i = 0; i < 64; ++i)
        worst = std::max(worst, std::abs(y[i] / std::exp2(static_cast<double>(x[i])) - 1));
    }
    INFO(instruction_set() << ": worst relative error " << worst);
    CHECK(worst < 2.5e-7);
    std::fill(x.begin(), x.end(), -INFINITY);
    x[1] = 0;
    x[2] = -1e30F;
    x[3] = -150;
    x[4] = 129;
    x[5] = NAN;
    x[6] = 1e30F;
    kernels.exp2(x.data(), y.data(), 64);
    CHECK(y[0] == 0.0F);
    CHECK(y[1] == 1.0F);
    CHECK(y[2] == 0.0F);
    CHECK(y[3] < 1e-44F);
    CHECK(std::isinf(y[4]));
    CHECK(std::isnan(y[5]));
    CHECK(std::isinf(y[6]));
  });
}

TEST_CASE("engine: unknown instruction sets are refused by name") {
  CHECK_THROWS_WITH(force_instruction_set("mmx"), Catch::Contains("mmx") && Catch::Contains("portable"));
}

}  // namespace
}  // namespace hyperattn
