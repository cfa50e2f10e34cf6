// Engines in a precision against the reference in double: errors are at most twice those of plain attention
// in the same precision, and bits do not change from run to run.
#pragma once

#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <string>

#include "algorithms/engine.h"
#include "tests/algorithms/engines/plain_attention.h"
#include "tests/algorithms/variants.h"

namespace hyperattn::testing {

inline double epsilon_of(const std::string& precision) {
  return precision == "bf16" ? 0x1p-8 : precision == "fp16" ? 0x1p-11 : 0x1p-23;
}

inline std::unique_ptr<BoundProblem> bound_in(const std::string& precision, const AttentionProblem& problem,
                                              const Engine& engine) {
  Parameters parameters;
  parameters.set("precision", precision);
  return engine.bind(problem, parameters);
}

/// A problem whose inputs are already rounded, so that what differs is what is computed of them.
struct RoundedProblem : RandomProblem {
  RoundedProblem(const ProblemSize& size, const std::string& precision, uint64_t seed = 1, double spread = 1)
      : RandomProblem(size, seed, spread) {
    for (Tensor<float>* tensor : {&query, &key, &value, &dout}) round_to(precision, *tensor);
  }
};

/// Rows whose denominator is mostly cancelled: their digits are noise.
inline bool is_noise(const DoubleResult& exact, int64_t row, double share) {
  return exact.absolute.data()[row] > 0 && exact.denominator.data()[row] < share * exact.absolute.data()[row];
}

/// The largest difference over the rows that are no noise.
template <class T>
double error_of(const Tensor<T>& seen, const DoubleResult& exact, double noise) {
  double worst = 0;
  const int64_t width = exact.out.shape().dim;
  for (int64_t i = 0; i < exact.out.shape().size(); ++i) {
    if (is_noise(exact, i / width, noise)) continue;
    const double difference = std::abs(static_cast<double>(seen.data()[i]) - exact.out.data()[i]);
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  return worst;
}

inline double error_of_lse(const Tensor<float>& seen, const DoubleResult& exact, double noise) {
  double worst = 0;
  for (int64_t row = 0; row < exact.lse.shape().size(); ++row) {
    if (is_noise(exact, row, noise)) continue;
    const double lse = exact.lse.data()[row];
    if (static_cast<double>(seen.data()[row]) == lse) continue;
    const double difference = std::abs(static_cast<double>(seen.data()[row]) - lse) / (1 + std::abs(lse));
    worst = std::isnan(difference) ? INFINITY : std::max(worst, difference);
  }
  return worst;
}

/// The largest ratio of an error to what is allowed, over all comparisons of a test.
struct Tally {
  double worst = 0;
  void compare(const char* what, double error, double plain, double floor) {
    const double allowed = 2 * plain + floor;
    worst = std::max(worst, error / allowed);
    INFO(what << " differs by " << error << "; plain attention by " << plain << ", allowed " << allowed);
    CHECK(error <= allowed);
  }
};

inline constexpr double kNoise = 0.1;

/// How much errors of rows that are no noise grow by cancellation, at most.
inline double amplification(const DoubleResult& exact) {
  double worst = 1;
  for (int64_t row = 0; row < exact.lse.shape().size(); ++row)
    if (exact.denominator.data()[row] > 0 && !is_noise(exact, row, kNoise))
      worst = std::max(worst, exact.absolute.data()[row] / exact.denominator.data()[row]);
  return worst;
}

inline void compare_forward(const std::string& precision, const AttentionResult& seen,
                            const DoubleResult& exact, const PlainAttention* plain, Tally& tally) {
  const double epsilon = epsilon_of(precision);
  const double factor = amplification(exact);
  // Values linear in the query are no plain attention; they cost some units of rounding.
  const double yardstick =
      plain != nullptr ? error_of(plain->out(), exact, kNoise) : 4 * epsilon * (1 + largest_entry(exact.out));
  const double yardstick_of_lse = plain != nullptr ? error_of_lse(plain->lse(), exact, kNoise) : epsilon;
  // Of a few numbers plain attention's largest error may be far below the unit of rounding.
  const double share = exact.out.shape().size() < 100 ? 0.5 : 0.25;
  tally.compare("out", error_of(seen.out, exact, kNoise), yardstick,
                factor * (share * epsilon * (1 + largest_entry(exact.out)) + 4e-6));
  tally.compare("lse", error_of_lse(seen.lse, exact, kNoise), yardstick_of_lse, factor * 3e-6);
}

inline void compare_backward(const std::string& precision, const AttentionProblem& problem, const Plan& plan,
                             const AttentionGradients& seen, const DoubleResult& exact,
                             const PlainAttention& plain, TensorView<const float> dout, Tally& tally) {
  const DoubleGradients expected = run_plan_backward_in_double(problem, plan, exact, dout);
  const auto yardstick = plain.backward(dout);
  const double factor = amplification(exact);
  const auto compare = [&](const char* what, const Tensor<float>& own, const Tensor<float>& other,
                           const Tensor<double>& truth) {
    tally.compare(what, largest_difference(own, truth), largest_difference(other, truth),
                  factor * factor * (0.25 * epsilon_of(precision) * (1 + largest_entry(truth)) + 1e-5));
  };
  compare("dq", seen.dquery, yardstick.dquery, expected.dquery);
  compare("dk", seen.dkey, yardstick.dkey, expected.dkey);
  compare("dv", seen.dvalue, yardstick.dvalue, expected.dvalue);
}

/// The upstream gradient without the rows that are noise, and without values so near the border of a clip
/// that rounding takes them across: one in twenty at most.
inline Tensor<float> clear_dout(const Tensor<float>& dout, const DoubleResult& exact,
                                const AttentionResult& seen) {
  Tensor<float> cleared(dout.shape());
  int64_t crossed = 0;
  for (int64_t i = 0; i < dout.shape().size(); ++i) {
    const bool noise = is_noise(exact, i / dout.shape().dim, kNoise);
    const bool crosses =
        !noise && !exact.clipped.empty() && exact.clipped[static_cast<size_t>(i)] != seen.clipped.data()[i];
    crossed += crosses ? 1 : 0;
    cleared.data()[i] = noise || crosses ? 0.0F : dout.data()[i];
  }
  INFO(crossed << " of " << dout.shape().size() << " values cross the border of the clip");
  CHECK(20 * crossed <= dout.shape().size());
  return cleared;
}

/// Runs a plan forward and backward, twice: the bits are the same.
inline void compare_plan(const std::string& precision, const RandomProblem& p, const Plan& plan, Tally& tally,
                         const Engine& engine) {
  const DoubleResult exact = run_plan_in_double(p.problem, plan);
  const auto bound = bound_in(precision, p.problem, engine);
  const AttentionResult seen = engine.forward(*bound, plan, {});
  const auto plain = has_query_terms(plan)
                         ? nullptr
                         : std::make_unique<const PlainAttention>(precision, p.problem, plan, exact);
  compare_forward(precision, seen, exact, plain.get(), tally);
  const AttentionResult again = engine.forward(*bound, plan, {});
  CHECK(largest_difference(seen.out, again.out) == 0);
  CHECK(largest_difference(seen.lse, again.lse) == 0);
  if (!plain) return;
  const Tensor<float> dout = clear_dout(p.dout, exact, seen);
  const AttentionGradients gradients = engine.backward(*bound, plan, seen, dout.view());
  compare_backward(precision, p.problem, plan, gradients, exact, *plain, dout.view(), tally);
  const AttentionGradients repeated = engine.backward(*bound, plan, seen, dout.view());
  CHECK(largest_difference(gradients.dquery, repeated.dquery) == 0);
  CHECK(largest_difference(gradients.dkey, repeated.dkey) == 0);
  CHECK(largest_difference(gradients.dvalue, repeated.dvalue) == 0);
}

inline const ProblemSize kSizes[] = {{1, 1, 1, 1},
                                     {23, 24, 16, 16, 1, 2, false, 1},
                                     {61, 257, 15, 20},
                                     {131, 129, 33, 17, 1, 3},
                                     {300, 140, 64, 64, 1, 4, false, 2},
                                     {40, 509, 128, 96},
                                     {70, 170, 65, 130},
                                     {70, 70, 256, 256}};

/// Sizes that fill the kernels' tiles and end in broken ones.
inline const VariantSizes kVariantSizes{64, 128, 48, 80, {64, 16}, {2, 4}};

}  // namespace hyperattn::testing
