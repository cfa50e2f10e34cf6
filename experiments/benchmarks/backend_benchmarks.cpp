// Google Benchmark cases: every backend over lengths, head dimensions and masks, forward and backward.
#include <benchmark/benchmark.h>

#include <string>

#include "core/parallel.h"
#include "experiments/benchmarks/one_head.h"

namespace hyperattn {
namespace {

void report(benchmark::State& state, const std::string& backend, const OneHead& head, bool backward) {
  for (auto _ : state) {
    const CallSeconds seconds = time_call(backend, head, backward);
    state.SetIterationTime(seconds.both());
  }
  state.SetItemsProcessed(state.iterations() * head.problem.query_count());
}

void attention(benchmark::State& state, const std::string& backend, bool causal, bool backward) {
  set_thread_count(static_cast<int>(state.range(2)));
  const OneHead head(state.range(0), state.range(1), causal);
  report(state, backend, head, backward);
}

void add(const std::string& backend, bool causal, bool backward, int64_t longest) {
  const std::string name =
      backend + (causal ? "/causal" : "/full") + (backward ? "/forward_backward" : "/forward");
  benchmark::RegisterBenchmark(name.c_str(), attention, backend, causal, backward)
      ->ArgNames({"n", "d", "threads"})
      ->ArgsProduct({benchmark::CreateRange(4096, longest, 4), {64, 128}, {1, 2}})
      ->UseManualTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

void register_backend_benchmarks() {
  for (const Backend* backend : all_backends()) {
    if (backend->name() == "reference") continue;  // the specification: its speed means nothing
    const int64_t longest = backend->capabilities().approximate ? 262144 : 16384;
    for (const bool causal : {false, true}) {
      if (causal && !backend->capabilities().causal) continue;
      add(backend->name(), causal, false, longest);
      if (backend->capabilities().backward) add(backend->name(), causal, true, longest);
    }
  }
}

}  // namespace hyperattn
