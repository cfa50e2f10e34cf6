// Sinks: keys that leave the others' planning and are exact for every row that may see them.
#include <catch2/catch.hpp>
#include <cmath>

#include "algorithms/engines/reference/reference_plan.h"
#include "core/eigen.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

using Matrix = RowMajorMatrix<double>;

Settings with_sinks(int64_t sinks, const Settings& more = {}) {
  Settings settings = {{"sink_keys", sinks},
                       {"block_size", int64_t{16}},
                       {"bucket_count", int64_t{8}},
                       {"min_seq_len", int64_t{16}}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

Matrix weights_of(const Plan& plan, const AttentionProblem& p, int64_t head) {
  return dense_weights(plan, head, p.query_count(), p.key_count());
}

/// Ones where a row may see a key.
Matrix visible(const AttentionProblem& p) {
  Matrix ones = Matrix::Ones(p.query_count(), p.key_count());
  for (int64_t i = 0; p.causal && i < p.query_count(); ++i)
    for (int64_t j = std::max<int64_t>(i + p.causal_offset() + 1, 0); j < p.key_count(); ++j) ones(i, j) = 0;
  return ones;
}

Tensor<float> without_first_rows(const Tensor<float>& tensor, int64_t count) {
  return last_rows(tensor, tensor.shape().rows - count);
}

}  // namespace

TEST_CASE("sinks: the other keys are planned as if the sinks did not exist") {
  for (const ProblemSize& size :
       {ProblemSize{100, 100, 5, 3, 1, 2}, ProblemSize{37, 101, 5, 3}, ProblemSize{101, 37, 5, 3},
        ProblemSize{60, 90, 5, 3, 1, 4, false, 2}, ProblemSize{1, 6, 5, 3}})
    for (const int64_t sinks : {0, 1, 4, 5})
      for (const char* residual : {"sample", "clt_sample", "centroids", "none", "tree"}) {
        const RandomProblem p(size, 3);
        const Tensor<float> key = without_first_rows(p.key, sinks);
        const Tensor<float> value = without_first_rows(p.value, sinks);
        AttentionProblem rest = p.problem;
        rest.key = key.view();
        rest.value = value.view();
        const int64_t m = std::min<int64_t>(9, size.keys - sinks);
        const bool tree = residual == std::string("tree");
        const auto settings = [&](int64_t count) -> Settings {
          if (tree)
            return {{"sink_keys", count}, {"levels", IntegerList{16, 4}}, {"beams", IntegerList{1, 2}}};
          return with_sinks(count, {{"residual", std::string(residual)}, {"sample_size", m}});
        };
        const std::string method = tree ? "tree" : "hyper";
        const ForwardState seen = run_backend(method, p.problem, settings(sinks));
        const ForwardState others = run_backend(method, rest, settings(0));
        // The two sets of keys, merged by their sums.
        const DoubleResult whole = run_plan_in_double(rest, *others.planned.plan);
        INFO(to_string(size) << ", " << sinks << " sinks, " << residual);
        double worst = 0;
        for (int64_t head = 0; head < p.problem.heads(); ++head)
          for (int64_t i = 0; i < size.queries; ++i) {
            const double log_others = whole.lse.matrix(head).row(i)[0];
            double sum = 1;
            double out = whole.out.matrix(head).row(i)[1];
            for (int64_t j = 0; j < sinks; ++j) {
              double score = 0;
              for (int64_t c = 0; c < 5; ++c)
                score += static_cast<double>(p.query.matrix(head).row(i)[c]) *
                         static_cast<double>(p.problem.keys_of(head).row(j)[c]);
              const double weight = std::exp(score * static_cast<double>(p.problem.scale) - log_others);
              sum += weight;
              out += weight * static_cast<double>(p.problem.values_of(head).row(j)[1]);
            }
            worst = std::max(
                worst, std::abs(out / sum - static_cast<double>(seen.result.out.matrix(head).row(i)[1])));
          }
        CHECK(worst < 2e-6);
      }
}

TEST_CASE("sinks: every row that may see them holds them once, exactly, and every other key once") {
  for (const ProblemSize& size :
       {ProblemSize{100, 100, 5, 3, 1, 2}, ProblemSize{200, 200, 5, 3, 1, 2, true},
        ProblemSize{61, 200, 5, 3, 1, 2, true, 1}, ProblemSize{200, 161, 5, 3, 1, 1, true},
        ProblemSize{1, 1, 5, 3}, ProblemSize{1, 90, 5, 3, 1, 1, true}})
    for (const int64_t sinks : {1, 3, 15, 17, 60, 100}) {
      if (sinks > size.keys) continue;
      const RandomProblem p(size, 3);
      const Matrix ones = visible(p.problem);
      for (const char* mask : {"sort_lsh", "none", "band"}) {
        INFO(to_string(size) << ", " << sinks << " sinks, mask " << mask);
        const Call call =
            call_for("hyper", with_sinks(sinks, {{"mask", std::string(mask)}, {"sample_size", int64_t{1}}}));
        const auto masks = node_masks(p.problem, call);
        const Plan masked = masks->masked(p.problem);
        const Plan unmasked = masks->unmasked(p.problem);
        const PlannedCall made =
            planned("hyper", p.problem,
                    with_sinks(sinks, {{"mask", std::string(mask)}, {"sample_size", int64_t{1}}}));
        for (int64_t head = 0; head < p.problem.heads(); ++head) {
          const Matrix held = weights_of(masked, p.problem, head);
          CHECK(held.leftCols(sinks) == ones.leftCols(sinks));
          CHECK(held + weights_of(unmasked, p.problem, head) == ones);
          CHECK(weights_of(*made.plan, p.problem, head).leftCols(sinks) == ones.leftCols(sinks));
        }
      }
    }
}

TEST_CASE("sinks: all keys as sinks are exact attention, and more than there are is refused") {
  for (const bool causal : {false, true}) {
    const RandomProblem p({70, 70, 5, 3, 1, 2, causal}, 3, 2);
    const ForwardState seen = run_backend("lsh", p.problem, with_sinks(70));
    const DoubleResult exact = attention_in_double(p.problem);
    CHECK(largest_difference(seen.result.out, exact.out) < 2e-6);
    CHECK(largest_difference(seen.result.lse, exact.lse) < 2e-6);
    CHECK_THAT(backend_named("lsh").check(p.problem, call_for("lsh", with_sinks(71)).parameters),
               Catch::Contains("sink_keys must be at most the number of keys, 70, but is 71"));
  }
}

TEST_CASE("sinks: entries are estimated as they are, and the paper's estimator runs beside them") {
  for (const ProblemSize& size :
       {ProblemSize{96, 112, 5, 3, 1, 2}, ProblemSize{256, 256, 5, 3, 1, 2, true}}) {
    const RandomProblem p(size, 3);
    const Settings settings = with_sinks(16);
    const Call call = call_for("lsh", settings);
    INFO(to_string(size));
    CHECK(backend_named("lsh").estimated_entries(p.problem, call.parameters) ==
          static_cast<double>(count_entries(*planned("lsh", p.problem, settings).plan)));
    const Settings theory = with_sinks(16, {{"estimator", std::string("theory")},
                                            {"sample_size", int64_t{48}},
                                            {"approx_kappa", INFINITY},
                                            {"clip_constant", 0.0}});
    // Denominators hold the sinks: with nothing clipped or floored, they are right on average.
    double mean = 0;
    const DoubleResult exact = attention_in_double(p.problem);
    for (uint64_t seed = 1; seed <= 40; ++seed)
      mean +=
          std::exp(static_cast<double>(run_backend("hyper", p.problem, theory, seed).result.lse.data()[90]) -
                   exact.lse.data()[90]) /
          40;
    CHECK(mean == Approx(1).margin(0.1));
  }
}

}  // namespace hyperattn::testing
