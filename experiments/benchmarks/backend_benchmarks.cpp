// Google Benchmark cases: every backend over lengths, head dimensions and masks, forward and backward.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "core/machine.h"
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

std::vector<int64_t> thread_counts() {
  std::vector<int64_t> counts = {1, 2};
  const auto cores = static_cast<int64_t>(allowed_processors().size());
  if (cores > 2) counts.push_back(cores);
  return counts;
}

void add(const std::string& backend, bool causal, bool backward, int64_t longest) {
  const std::string name =
      backend + (causal ? "/causal" : "/full") + (backward ? "/forward_backward" : "/forward");
  benchmark::RegisterBenchmark(name.c_str(), attention, backend, causal, backward)
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
      add(backend->name(), causal, false, longest_forward);
      if (backend->engine().no_gradient().empty()) add(backend->name(), causal, true, longest_backward);
    }
  }
}

}  // namespace hyperattn
