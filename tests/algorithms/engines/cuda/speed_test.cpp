// How long the engine takes on this machine's card: printed, not judged. Hidden; scripts/test_gpu.sh runs it.
#include <catch2/catch.hpp>
#include <iomanip>
#include <iostream>

#include "algorithms/check_plan.h"
#include "core/timing.h"
#include "tests/algorithms/plan_checks.h"

namespace hyperattn::testing {
namespace {

/// The least milliseconds of each stage.
void keep_least(const Diagnostics& diagnostics, std::map<std::string, double>& least) {
  for (const auto& [stage, seconds] : diagnostics.stage_seconds) {
    const auto [known, is_new] = least.try_emplace(stage, 1e3 * seconds);
    if (!is_new) known->second = std::min(known->second, 1e3 * seconds);
  }
}

/// The kernels by the card's clock; laying out the plan on the host; copying.
void print(const char* pass, std::map<std::string, double>& stages) {
  if (stages.empty()) return;
  std::cout << "  " << pass << " " << std::setw(9) << stages["exact"] + stages["backward"] << " ms (layout "
            << std::setw(8) << stages["gather"] << ", transfers " << std::setw(8) << stages["transfer"]
            << ")";
}

void time_plan(const std::string& what, const std::string& precision, const AttentionProblem& problem,
               const Plan& plan, TensorView<const float> dout, const std::string& name = "cuda") {
  const Engine& engine = *find_engine(name);
  if (!engine.available().empty()) {
    std::cout << what << ": engine " << name << " " << engine.available() << std::endl;
    return;
  }
  Parameters parameters;
  parameters.set("precision", precision);
  parameters.set("deterministic", false);  // of cudnn alone: at these lengths the other way has no room
  const auto bound = engine.bind(problem, parameters);
  std::map<std::string, double> forward;
  std::map<std::string, double> backward;
  for (int run = 0; run < 3; ++run) {
    const AttentionResult result = engine.forward(*bound, plan, {});
    keep_least(result.diagnostics, forward);
    if (dout.data == nullptr || run == 2) continue;
    keep_least(engine.backward(*bound, plan, result, dout).diagnostics, backward);
  }
  std::cout << std::left << std::setw(42) << what << std::setw(6) << precision << std::right << std::fixed
            << std::setprecision(2);
  print("forward", forward);
  print("backward", backward);
  std::cout << std::endl;
}

/// A method on inputs that lie on the card: every stage but copying, and planning by the clock on the wall.
void time_method(const std::string& what, const std::string& method, const Settings& settings,
                 const AttentionProblem& problem, TensorView<const float> dout) {
  const Backend& backend = *backend_on(*find_method(method), *find_engine("cuda"));
  Call call = call_for(method, settings);
  call.parameters.set("precision", std::string("bf16"));
  const auto bound = backend.bind(problem, call.parameters);
  std::map<std::string, double> least;
  for (int run = 0; run < 4; ++run) {
    const Stopwatch watch;
    const PlannedCall planned = backend.method().plan(*bound, call);
    const double planning = watch.seconds();
    const AttentionResult result = backend.engine().forward(*bound, *planned.plan, {});
    Diagnostics stages = backend.engine().backward(*bound, *planned.plan, result, dout).diagnostics;
    stages.stage_seconds["laying out the gradient"] = stages.stage_seconds["gather"];
    stages.stage_seconds.erase("gather");
    for (const auto& [stage, seconds] : planned.notes.stage_seconds) stages.stage_seconds[stage] = seconds;
    for (const auto& [stage, seconds] : result.diagnostics.stage_seconds)
      if (stage != "transfer") stages.stage_seconds[stage] = seconds;
    stages.stage_seconds["planning in all"] = planning;
    keep_least(stages, least);
  }
  std::cout << what << ", bf16:" << std::fixed << std::setprecision(2);
  for (const auto& [stage, milliseconds] : least) std::cout << "  " << stage << " " << milliseconds << " ms";
  std::cout << std::endl;
}

TEST_CASE("cuda: speed", "[.speed]") {
  if (!find_engine("cuda")->available().empty()) {
    std::cout << "SKIPPED: engine cuda " << find_engine("cuda")->available() << "\n";
    return;
  }
  std::cout << find_engine("cuda")->machine() << std::endl;
  set_plans_are_checked(false);
  for (const bool causal : {false, true}) {
    const RandomProblem p({16384, 16384, 64, 64, 1, 32, causal});
    for (const std::string precision : {"bf16", "fp16", "fp32"})
      time_plan(causal ? "exact causal, 32 heads, n 16384, d 64" : "exact, 32 heads, n 16384, d 64",
                precision, p.problem, exact_plan(p.problem), p.dout.view());
    time_plan(causal ? "exact causal by cuDNN, the same" : "exact by cuDNN, the same", "bf16", p.problem,
              exact_plan(p.problem), p.dout.view(), "cudnn");
    const PlannedCall tree = planned("tree", p.problem, {{"tail", std::string("plain")}});
    time_plan(causal ? "tree causal, plain tail, the same" : "tree, plain tail, the same", "bf16", p.problem,
              *tree.plan, p.dout.view());
  }
  for (const bool causal : {false, true}) {
    const RandomProblem p({131072, 131072, 64, 64, 1, 32, causal});
    const Settings settings = {{"block_size", int64_t{256}},
                               {"sample_size", int64_t{256}},
                               {"bucket_count", int64_t{128}},
                               {"min_seq_len", int64_t{2048}}};
    time_method(causal ? "hyper causal, 32 heads, n 131072, d 64" : "hyper, 32 heads, n 131072, d 64",
                "hyper", settings, p.problem, p.dout.view());
    if (!causal) time_plan("exact, 32 heads, n 131072, d 64", "bf16", p.problem, exact_plan(p.problem), {});
    time_plan(causal ? "exact causal by cuDNN, the same" : "exact by cuDNN, the same", "bf16", p.problem,
              exact_plan(p.problem), p.dout.view(), "cudnn");
  }
}

}  // namespace
}  // namespace hyperattn::testing
