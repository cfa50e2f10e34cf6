// Google Benchmark cases: every backend over lengths, head dimensions and masks, forward and backward.
#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "algorithms/registry.h"
#include "core/machine.h"
#include "core/parallel.h"
#include "experiments/benchmarks/one_head.h"

namespace hyperattn {
namespace {

void attention(benchmark::State& state, const Backend& backend, const std::string& precision, bool causal,
               bool backward) {
  set_thread_count(static_cast<int>(state.range(2)));
  const OneHead head(state.range(0), state.range(1), causal);
  Call context = headline_context(backend);
  if (!precision.empty()) context.parameters.set("precision", precision);
  for (auto _ : state) state.SetIterationTime(time_call(backend, context, head, backward).both());
  state.SetItemsProcessed(state.iterations() * head.problem.query_count());
}

std::vector<int64_t> thread_counts() {
  std::vector<int64_t> counts = {1, 2};
  const auto cores = static_cast<int64_t>(allowed_processors().size());
  if (cores > 2) counts.push_back(cores);
  return counts;
}

/// `precision`: empty, or one that is not the default and part of the name, as in `exact_bf16`.
void add(const Backend& backend, const std::string& precision, bool causal, bool backward, int64_t longest) {
  const std::string name = backend.name() + (precision.empty() ? "" : "_" + precision) +
                           (causal ? "/causal" : "/full") + (backward ? "/forward_backward" : "/forward");
  benchmark::RegisterBenchmark(name.c_str(), attention, std::cref(backend), precision, causal, backward)
      ->ArgNames({"n", "d", "threads"})
      ->ArgsProduct({benchmark::CreateRange(4096, longest, 4), {64, 128}, thread_counts()})
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

void register_backend_benchmarks() {
  for (const Backend* backend : all_backends()) {
    if (!backend->engine().is_fast()) continue;  // the specification: its speed means nothing
    const int64_t longest_forward = backend->name() == "dense" ? 16384 : 131072;
    const int64_t longest_backward = backend->method().capabilities().approximate ? 131072 : 16384;
    for (const bool causal : {false, true}) {
      add(*backend, "", causal, false, longest_forward);
      if (&backend->engine() == &default_engine()) add(*backend, "bf16", causal, false, longest_forward);
      if (backend->engine().no_gradient().empty()) add(*backend, "", causal, true, longest_backward);
    }
  }
}

}  // namespace hyperattn
