// Google Benchmark cases of the routing tree: a whole call, its planning, and running its plan.
#include "experiments/benchmarks/routing_tree.h"

#include <benchmark/benchmark.h>

#include "core/parallel.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

enum class Part { call, plan, run };

void tree(benchmark::State& state, const TreeCase& of, Part part) {
  set_thread_count(static_cast<int>(state.range(0)));
  const OneHead head(of.rows, 64, of.causal);
  const Backend& backend = *find_backend("tree");
  const Call call = tree_context(of);
  const auto bound = backend.bind(head.problem, call.parameters);
  const PlannedCall ready = backend.method().plan(*bound, call);
  for (auto _ : state) {
    const Stopwatch watch;
    const PlannedCall planned = part == Part::run ? ready : backend.method().plan(*bound, call);
    if (part != Part::plan) {
      const ForwardState done = run_planned(backend.engine(), *bound, planned);
      benchmark::DoNotOptimize(done.result.out.data());
    }
    state.SetIterationTime(watch.seconds());
  }
}

}  // namespace

const std::vector<TreeCase>& tree_cases() {
  static const std::vector<TreeCase> cases = [] {
    std::vector<TreeCase> all;
    for (const char* tail : {"corrected", "plain"}) {
      const std::string prefix = std::string("tree_") + tail;
      all.push_back({prefix + "_16384", 16384, false, tail, {8, 16, 16}, 2048});
      all.push_back({prefix + "_causal_32768", 32768, true, tail, {8, 16, 16}, 2048});
      all.push_back({prefix + "_causal_32768_leaf_512", 32768, true, tail, {8, 8, 8}, 512});
    }
    return all;
  }();
  return cases;
}

Call tree_context(const TreeCase& of) {
  Call context = headline_context(*find_backend("tree"));
  context.parameters.set("tail", of.tail);
  context.parameters.set("beams", of.beams);
  context.parameters.set("min_seq_len", of.leaf);
  return context;
}

void register_tree_benchmarks() {
  for (const TreeCase& of : tree_cases())
    for (const auto& [name, part] :
         {std::pair("call", Part::call), std::pair("plan", Part::plan), std::pair("run", Part::run)})
      benchmark::RegisterBenchmark((of.name + "/" + name).c_str(), tree, of, part)
          ->ArgNames({"threads"})
          ->ArgsProduct({{1, 2}})
          ->UseManualTime()
          ->Unit(benchmark::kMillisecond);
}

}  // namespace hyperattn
