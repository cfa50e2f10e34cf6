// Each ratio compares times taken one after the other in this process, on one head of Gaussian inputs with
// d = 64: seconds differ between machines and days, ratios less so.
#include "experiments/benchmarks/headline.h"

#include <algorithm>
#include <functional>
#include <ostream>
#include <utility>

#include "algorithms/engines/cpu/traffic.h"
#include "algorithms/kernels/instruction_set.h"
#include "algorithms/kernels/packing.h"
#include "algorithms/registry.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/timing.h"
#include "experiments/benchmarks/one_head.h"
#include "experiments/benchmarks/routing_tree.h"
#include "experiments/measures/context.h"
#include "experiments/messages/log.h"

namespace hyperattn {
namespace {

constexpr int64_t kDim = 64;
constexpr int64_t kLong = 131072;
constexpr double kArithmeticLimit = static_cast<double>(kLong) / (256 + 256);  // n/(b + m)

using Lines = std::vector<std::pair<std::string, Measured>>;

/// FLOP/s of `exact` on one thread over the FMA peak, in forward FLOPs 4·n²·d times `factor`: the median over
/// rounds, each with a peak of its own, since the processor's frequency wanders.
Measured share_of_peak(const OneHead& head, bool backward, double factor, int rounds) {
  set_thread_count(1);
  const auto rows = static_cast<double>(head.problem.query_count());
  const double gflops = factor * 4e-9 * rows * rows * static_cast<double>(kDim);
  static_cast<void>(time_call("exact", head, backward));
  const auto share = [&] {
    const double seconds = time_call("exact", head, backward).both();
    return gflops / seconds / measure_fma_peak_gflops(1);
  };
  return measure(share, rounds);
}

Lines fma_peak() {
  return {{"fma_peak_gflops", measure([] { return measure_fma_peak_gflops(1); }, 3)}};
}

Lines exact_forward() {
  return {{"exact_vs_fma_peak", share_of_peak(OneHead(8192, kDim, false), false, 1, 15)}};
}

Lines exact_threads() {
  const OneHead head(16384, kDim, false);
  set_thread_count(1);
  const Measured one = measure_calls("exact", head, false, 3).forward;
  set_thread_count(2);
  const Measured two = measure_calls("exact", head, false, 5).forward;
  return {{"exact_thread_efficiency", 0.5 * (one / two)}};
}

Lines exact_causal() {
  return {{"exact_causal_vs_fma_peak", share_of_peak(OneHead(16384, kDim, true), false, 0.5, 9)}};
}

Lines exact_backward() {
  return {{"exact_backward_vs_fma_peak", share_of_peak(OneHead(8192, kDim, false), true, 14.0 / 4, 7)}};
}

Lines hyper_full() {
  set_thread_count(2);
  const OneHead head(kLong, kDim, false);
  const MeasuredCalls exact = measure_calls("exact", head, true, 2);
  const Measured ratio = exact.forward / measure_calls("hyper", head, false, 9).forward;
  return {{"hyper_vs_exact_131072", ratio},
          {"hyper_vs_limit_131072", 1 / kArithmeticLimit * ratio},
          {"hyper_backward_vs_exact_131072", exact.both / measure_calls("hyper", head, true, 7).both}};
}

/// Bytes that a call of `hyper` moves for a token, of which part, and the least that any call must move.
Lines hyper_bytes() {
  const OneHead head(kLong, kDim, false);
  const Backend& hyper = *find_backend("hyper");
  const Call call = headline_context(hyper);
  const PlannedCall planned = hyper.method().plan(*hyper.bind(head.problem, call.parameters), call);
  const ForwardTraffic traffic = count_forward_traffic(head.problem, *planned.plan);
  const auto per_token = [](int64_t bytes) {
    return Measured{static_cast<double>(bytes) / static_cast<double>(kLong), 0, 1};
  };
  return {{"hyper_bytes_per_token_131072", per_token(traffic.total())},
          {"hyper_bytes_per_token_131072_least", per_token(least_forward_bytes(head.problem))},
          {"hyper_bytes_per_token_131072_hash_sort", per_token(traffic.planning())},
          {"hyper_bytes_per_token_131072_queries_out", per_token(traffic.queries + traffic.results)},
          {"hyper_bytes_per_token_131072_gathers", per_token(traffic.gathers + traffic.orders)},
          {"hyper_bytes_per_token_131072_packed", per_token(traffic.packing + traffic.tiles)}};
}

/// The same call in bf16: how many times faster than in fp32, in alternating rounds.
Lines bf16_over_fp32(const std::string& backend_name, int64_t rows, int threads, const std::string& line) {
  set_thread_count(threads);
  const OneHead head(rows, kDim, false);
  if (TileLayout(head.problem, true, true).pairs == nullptr) {
    log_warning(line + " is left out: the processor does not multiply pairs of bfloat16");
    return {};
  }
  const Backend& backend = *find_backend(backend_name);
  const Call single = headline_context(backend);
  Call half = single;
  half.parameters.set("precision", std::string("bf16"));
  const auto ratio = [&] {
    const double seconds = time_call(backend, single, head, false).forward;
    return seconds / time_call(backend, half, head, false).forward;
  };
  static_cast<void>(ratio());
  return {{line, measure(ratio, 9)}};
}

Lines hyper_causal() {
  set_thread_count(2);
  const OneHead head(kLong, kDim, true);
  const MeasuredCalls exact = measure_calls("exact", head, true, 2);
  return {{"hyper_causal_vs_exact_131072", exact.forward / measure_calls("hyper", head, false, 5).forward},
          {"hyper_causal_backward_vs_exact_131072", exact.both / measure_calls("hyper", head, true, 3).both}};
}

Lines hyper_growth() {
  set_thread_count(2);
  const auto seconds_per_token = [](int64_t rows) {
    const OneHead head(rows, kDim, false);
    return 1 / static_cast<double>(rows) * measure_calls("hyper", head, false, 5).forward;
  };
  const Measured at_long = seconds_per_token(kLong);
  return {{"hyper_growth_131072_to_1048576", seconds_per_token(8 * kLong) / at_long}};
}

Lines softmax_norm() {
  set_thread_count(2);
  const OneHead head(16384, kDim, false);
  const Measured pass = measure_calls("exact", head, false, 5).forward;
  const auto norm = [&] {
    ExactQuantities exact(head.problem, default_engine(), 2024, 0);
    const Stopwatch watch;
    if (exact.softmax_norm(0).status != NormStatus::converged)
      fail_environment("the norm of the softmax matrix did not converge");
    return watch.seconds();
  };
  return {{"softmax_norm_in_exact_passes", measure(norm, 3) / pass}};
}

/// Time of a case of `tree` over that of `hyper`, the median over rounds of one call each.
Lines tree_over_hyper(const TreeCase& of) {
  set_thread_count(2);
  const OneHead head(of.rows, kDim, of.causal);
  const Backend& tree = *find_backend("tree");
  const Call context = tree_context(of);
  const auto ratio = [&] {
    const double hyper = time_call("hyper", head, false).forward;
    return time_call(tree, context, head, false).forward / hyper;
  };
  static_cast<void>(ratio());
  return {{of.name + "_vs_hyper", measure(ratio, 15)}};
}

struct Measurement {
  std::vector<std::string> names;
  std::function<Lines()> run;
};

const std::vector<Measurement>& measurements() {
  static const std::vector<Measurement> all = [] {
    std::vector<Measurement> each = {
        {{"fma_peak_gflops"}, fma_peak},
        {{"exact_vs_fma_peak"}, exact_forward},
        {{"exact_thread_efficiency"}, exact_threads},
        {{"exact_causal_vs_fma_peak"}, exact_causal},
        {{"exact_backward_vs_fma_peak"}, exact_backward},
        {{"hyper_vs_exact_131072", "hyper_vs_limit_131072", "hyper_backward_vs_exact_131072"}, hyper_full},
        {{"hyper_bytes_per_token_131072", "hyper_bytes_per_token_131072_least",
          "hyper_bytes_per_token_131072_hash_sort", "hyper_bytes_per_token_131072_queries_out",
          "hyper_bytes_per_token_131072_gathers", "hyper_bytes_per_token_131072_packed"},
         hyper_bytes},
        {{"exact_bf16_vs_fp32_8192"},
         [] { return bf16_over_fp32("exact", 8192, 1, "exact_bf16_vs_fp32_8192"); }},
        {{"hyper_bf16_vs_fp32_131072"},
         [] { return bf16_over_fp32("hyper", kLong, 2, "hyper_bf16_vs_fp32_131072"); }},
        {{"hyper_causal_vs_exact_131072", "hyper_causal_backward_vs_exact_131072"}, hyper_causal},
        {{"hyper_growth_131072_to_1048576"}, hyper_growth},
        {{"softmax_norm_in_exact_passes"}, softmax_norm},
    };
    for (const TreeCase& of : tree_cases())
      each.push_back({{of.name + "_vs_hyper"}, [&of] { return tree_over_hyper(of); }});
    return each;
  }();
  return all;
}

bool holds(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void check_names(const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const Measurement& each : measurements())
    known.insert(known.end(), each.names.begin(), each.names.end());
  for (const std::string& name : names)
    if (!holds(known, name))
      fail_usage("there is no headline benchmark '" + name + "'; the nearest name is '" +
                 nearest_name(name, known) + "'");
}

void print(std::ostream& out, const std::string& name, const Measured& figure) {
  out << name << ' ' << figure.value << std::endl;
  if (!figure.is_certain()) log_warning(name + ": " + figure.uncertainty());
}

}  // namespace

void run_headline(std::ostream& out, const std::vector<std::string>& names) {
  check_names(names);
  for (const Measurement& each : measurements()) {
    const bool wanted = names.empty() || std::any_of(each.names.begin(), each.names.end(),
                                                     [&](const auto& name) { return holds(names, name); });
    if (!wanted) continue;
    for (const auto& [name, value] : each.run())
      if (names.empty() || holds(names, name)) print(out, name, value);
  }
}

}  // namespace hyperattn
