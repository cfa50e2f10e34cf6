// Forms of the problem that every method and engine honours: fewer or more queries than keys under a causal
// mask, grouped queries, windows, and scores so large that their log-sum-exp loses digits.
#include <catch2/catch.hpp>
#include <cmath>

#include "algorithms/engines/reference/reference_plan.h"
#include "algorithms/plan_builder.h"
#include "algorithms/registry.h"
#include "core/error.h"
#include "tests/algorithms/plan_checks.h"
#include "tests/algorithms/variants.h"

namespace hyperattn::testing {
namespace {

bool is_exact(const Variant& variant) {
  return backend_named(variant.backend).method().name() == "exact";
}

TEST_CASE("causal with fewer queries: exact attention has the last rows of the square problem, bit for bit") {
  const int64_t n = 300;
  RandomProblem square({n, n, 16, 8, 1, 2, true});
  for (const int64_t rows : {1, 7, 24, 25, 256, 299}) {
    const Tensor<float> query = last_rows(square.query, rows);
    AttentionProblem fewer = square.problem;
    fewer.query = query.view();
    for (const char* backend : {"exact", "reference"}) {
      INFO(backend << ", " << rows << " of " << n << " rows");
      const ForwardState whole = run_backend(backend, square.problem);
      const ForwardState part = run_backend(backend, fewer);
      CHECK(largest_difference(part.result.out, last_rows(whole.result.out, rows)) == 0);
      CHECK(largest_difference(part.result.lse, last_rows(whole.result.lse, rows)) == 0);
    }
  }
}

TEST_CASE("causal with fewer queries: a strictly autoregressive method keeps the bits of the last rows") {
  const int64_t n = 200;
  RandomProblem square({n, n, 8, 8, 1, 2, true});
  const Settings settings = {{"query_blocks", std::string("by_bucket")},
                             {"min_seq_len", int64_t{32}},
                             {"block_size", int64_t{16}},
                             {"bucket_count", int64_t{8}}};
  for (const std::string backend : {"lsh", "hyper"})
    for (const int64_t rows : {1, 30, 100, 150}) {
      Settings own = settings;
      if (backend == "hyper") own.emplace_back("sample_size", int64_t{12});
      const Tensor<float> query = last_rows(square.query, rows);
      AttentionProblem fewer = square.problem;
      fewer.query = query.view();
      const ForwardState whole = run_backend(backend, square.problem, own);
      const ForwardState part = run_backend(backend, fewer, own);
      INFO(backend << ", " << rows << " of " << n << " rows");
      CHECK(largest_difference(part.result.out, last_rows(whole.result.out, rows)) == 0);
      CHECK(largest_difference(part.result.lse, last_rows(whole.result.lse, rows)) == 0);
    }
}

TEST_CASE(
    "causal with unequal numbers: every method runs its plan as the reference does, and exact ones are "
    "exact") {
  for (const auto& [queries, keys] :
       {std::pair<int64_t, int64_t>{40, 90}, {90, 40}, {1, 70}, {70, 1}, {33, 64}}) {
    RandomProblem p({queries, keys, 7, 5, 1, 2, true}, 3, 1.5);
    const DoubleResult exact = attention_in_double(p.problem);
    for (const Variant& variant : variants()) {
      if (backend_named(variant.backend)
              .check(p.problem, call_for(variant.backend, variant.settings).parameters) != "")
        continue;  // more sampled keys than keys
      INFO(to_string(variant) << ", " << queries << " queries, " << keys << " keys");
      const ForwardState state = run_backend(variant.backend, p.problem, variant.settings);
      for (int64_t row = 0; row < queries - keys; ++row) {
        CHECK(state.result.lse.data()[row] == -INFINITY);
        CHECK(state.result.out.data()[row * 5] == 0);
      }
      if (is_exact(variant)) {
        CHECK(largest_difference(state.result.out, exact.out) < 2e-6);
        CHECK(largest_difference(state.result.lse, exact.lse) < 2e-6);
      }
      if (state.planned.denominators != nullptr) continue;
      check_run_of_plan(variant.backend, p, variant.settings, state, 2e-5, 2e-5);
    }
  }
}

/// Keys and values repeated for every query head of their group.
Tensor<float> repeated(const Tensor<float>& tensor, int64_t group) {
  TensorShape shape = tensor.shape();
  shape.heads *= group;
  Tensor<float> copy(shape);
  for (int64_t head = 0; head < shape.matrices(); ++head)
    std::copy_n(tensor.matrix(head / group).data, shape.rows * shape.dim, copy.matrix(head).data);
  return copy;
}

TEST_CASE("grouped queries: the bits of repeated keys and values, and gradients that are their sums") {
  for (const bool causal : {false, true})
    for (const int64_t group : {2, 3}) {
      const int64_t n = 70;
      const Tensor<float> query = gaussian({2, 2 * group, n, 8}, 1, Purpose::query);
      const Tensor<float> key = gaussian({2, 2, n, 8}, 1, Purpose::key);
      const Tensor<float> value = gaussian({2, 2, n, 6}, 1, Purpose::value);
      const Tensor<float> dout = gaussian({2, 2 * group, n, 6}, 1, Purpose::output_gradient);
      const Tensor<float> all_keys = repeated(key, group);
      const Tensor<float> all_values = repeated(value, group);
      AttentionProblem grouped{query.view(), key.view(), value.view(), default_scale(8), causal};
      AttentionProblem plain{query.view(), all_keys.view(), all_values.view(), default_scale(8), causal};
      for (const Variant& variant : variants()) {
        INFO(to_string(variant) << ", groups of " << group << (causal ? ", causal" : ""));
        const Backend& backend = backend_named(variant.backend);
        const Call call = call_for(variant.backend, variant.settings);
        const ForwardState a = backend.forward(grouped, call);
        const ForwardState b = backend.forward(plain, call);
        CHECK(largest_difference(a.result.out, b.result.out) == 0);
        CHECK(largest_difference(a.result.lse, b.result.lse) == 0);
        if (!backend.no_gradient(call.parameters).empty()) continue;
        const AttentionGradients seen = backend.backward(grouped, call, a, dout.view());
        const AttentionGradients parts = backend.backward(plain, call, b, dout.view());
        CHECK(largest_difference(seen.dquery, parts.dquery) == 0);
        double worst = 0;
        for (int64_t head = 0; head < 4; ++head)
          for (int64_t i = 0; i < n * 8; ++i) {
            double sum = 0;
            for (int64_t g = 0; g < group; ++g) sum += parts.dkey.matrix(head * group + g).data[i];
            worst = std::max(worst, std::abs(sum - seen.dkey.matrix(head).data[i]));
          }
        CHECK(worst < 1e-6 * (1 + largest_entry(seen.dkey)));
      }
    }
}

TEST_CASE("a window: exact engines agree with a masked softmax, gradients too, and other methods refuse it") {
  for (const auto& [queries, keys] : {std::pair<int64_t, int64_t>{90, 90}, {40, 90}, {300, 300}})
    for (const int64_t window : {1, 5, 64, 1000}) {
      RandomProblem p({queries, keys, 7, 5, 1, 2, true});
      p.problem.window = window;
      const DoubleResult reference = attention_in_double(p.problem);
      double worst = 0;
      for (int64_t i = 0; i < queries; ++i) {
        const int64_t last = i + keys - queries;
        double sum = 0;
        double out = 0;
        for (int64_t j = std::max<int64_t>(0, last - window + 1); j <= last; ++j) {
          double score = 0;
          for (int64_t c = 0; c < 7; ++c)
            score += static_cast<double>(p.query.matrix(1).row(i)[c]) * p.key.matrix(1).row(j)[c];
          const double weight = std::exp(static_cast<double>(p.problem.scale) * score);
          sum += weight;
          out += weight * p.value.matrix(1).row(j)[2];
        }
        worst = std::max(worst, std::abs(out / sum - reference.out.matrix(1).row(i)[2]));
      }
      INFO(queries << " queries, " << keys << " keys, window " << window);
      CHECK(worst < 1e-12);
      for (const char* backend : {"exact", "dense"}) {
        const ForwardState state = run_backend(backend, p.problem);
        CHECK(largest_difference(state.result.out, reference.out) < 2e-6);
        CHECK(largest_difference(state.result.lse, reference.lse) < 2e-6);
      }
      const ForwardState state = run_backend("exact", p.problem);
      const AttentionGradients seen = backend_named("exact").backward(p.problem, {}, state, p.dout.view());
      const DoubleGradients expected = attention_gradients_in_double(p.problem, reference, p.dout.view());
      CHECK(largest_difference(seen.dkey, expected.dkey) < 2e-5 * (1 + largest_entry(expected.dkey)));
      CHECK(largest_difference(seen.dvalue, expected.dvalue) < 2e-5 * (1 + largest_entry(expected.dvalue)));
      for (const char* backend : {"lsh", "hyper", "coreset", "thinned"}) {
        Settings settings;
        if (std::string(backend) == "hyper") settings.emplace_back("sample_size", int64_t{3});
        if (std::string(backend) == "coreset") settings.emplace_back("coreset_size", int64_t{3});
        const Call call = call_for(backend, settings);
        CHECK_THAT(backend_named(backend).check(p.problem, call.parameters), Catch::Contains("window"));
      }
    }
}

TEST_CASE("scores of a million and more: gradients and transposed products stay those of a naive softmax") {
  for (const double size : {160.0, 500.0, 1600.0, 5000.0}) {
    RandomProblem p({60, 75, 16, 8}, 3, size);
    for (int64_t i = 0; i < p.key.shape().size(); ++i) p.key.data()[i] *= static_cast<float>(size);
    const DoubleResult exact = attention_in_double(p.problem);
    const DoubleGradients expected = attention_gradients_in_double(p.problem, exact, p.dout.view());
    const ForwardState state = run_backend("exact", p.problem);
    const AttentionGradients seen = backend_named("exact").backward(p.problem, {}, state, p.dout.view());
    const double largest = largest_entry(exact.lse);
    const double error = largest_difference(seen.dvalue, expected.dvalue) / largest_entry(expected.dvalue);
    // A naive softmax has its scores to rounding: a row whose best two are as near as that is not determined.
    double nearest = INFINITY;
    for (int64_t i = 0; i < 60; ++i) {
      std::vector<double> scores;
      for (int64_t j = 0; j < 75; ++j) {
        double dot = 0;
        for (int64_t c = 0; c < 16; ++c)
          dot += static_cast<double>(p.query.matrix(0).row(i)[c]) * p.key.matrix(0).row(j)[c];
        scores.push_back(dot * static_cast<double>(p.problem.scale));
      }
      std::sort(scores.rbegin(), scores.rend());
      nearest = std::min(nearest, scores[0] - scores[1]);
    }
    INFO("scores up to " << largest << ", nearest best scores differ by " << nearest << ", dv off by "
                         << error);
    REQUIRE(nearest > 20 * 1.2e-7 * largest);
    CHECK(error < 1e-4);

    const auto bound = backend_named("exact").bind(p.problem, {});
    const Tensor<float> product = backend_named("exact").engine().transposed(
        *bound, *state.planned.plan, state.result.sums, p.dout.view());
    CHECK(largest_difference(product, expected.dvalue) / largest_entry(expected.dvalue) < 1e-4);
  }
}

TEST_CASE("scores of a million and more: in every method a row's weights still add up to 1 in its gradient") {
  for (const bool causal : {false, true})
    for (const double size : {1.0, 500.0, 1600.0, 5000.0}) {
      RandomProblem p({60, 75, 16, 8, 1, 2, causal}, 3, size);
      for (int64_t i = 0; i < p.key.shape().size(); ++i) p.key.data()[i] *= static_cast<float>(size);
      for (const Variant& variant : variants()) {
        const Backend& backend = backend_named(variant.backend);
        const Call call = call_for(variant.backend, variant.settings);
        const bool own_denominators =
            call.parameters.has("estimator") && call.parameters.text("estimator") == "theory";
        if (!backend.no_gradient(call.parameters).empty() || own_denominators) continue;
        const ForwardState state = backend.forward(p.problem, call);
        const AttentionGradients seen = backend.backward(p.problem, call, state, p.dout.view());
        double worst = 0;
        for (int64_t head = 0; head < 2; ++head)
          for (int64_t c = 0; c < 8; ++c) {
            double missing = 0;
            for (int64_t i = 0; i < 60; ++i) missing += p.dout.matrix(head).row(i)[c];
            for (int64_t j = 0; j < 75; ++j) missing -= seen.dvalue.matrix(head).row(j)[c];
            worst = std::max(worst, std::abs(missing));
          }
        INFO(to_string(variant) << ", scores times " << size * size << (causal ? ", causal" : ""));
        CHECK(worst < 1e-3);
      }
    }
}

}  // namespace
}  // namespace hyperattn::testing
