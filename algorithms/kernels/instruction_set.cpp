// Which kernel table is in use: the best the processor can run, or the one that HYPERATTN_SIMD or a test asks
// for.
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>

#include "algorithms/kernels/instruction_set.h"
#include "algorithms/kernels/pairs.h"
#include "algorithms/kernels/routing.h"
#include "algorithms/kernels/tile.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/text.h"
#include "core/timing.h"

namespace hyperattn {
namespace {

struct Level {
  std::string name;
  const TileKernels* kernels;
  const RoutingKernels* routing;
  const PairKernels* pairs;  // null: none
};

// Highway's names, and ours for users.
std::string friendly_name(const std::string& target) {
  static const std::map<std::string, std::string> names = {
      {"AVX3", "avx512"}, {"AVX2", "avx2"}, {"SSE4", "sse4"}, {"EMU128", "portable"}, {"SCALAR", "portable"}};
  const auto found = names.find(target);
  if (found != names.end()) return found->second;
  std::string lower;
  for (char c : target) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return lower;
}

// Whether vectors of pairs of bfloat16 are faster than fp32. Those of Intel are not: on a Xeon (family 6
// model 207) they had 0.61 of its speed.
bool has_fast_pairs() {
#if defined(__x86_64__)
  return __builtin_cpu_is("intel") == 0;
#else
  return false;
#endif
}

const std::vector<Level>& levels() {
  static const std::vector<Level> all = [] {
    std::vector<Level> result;
    for (int64_t target : usable_levels()) {
      const TileKernels& kernels = kernels_of_level(target);
      const RoutingKernels& routing = routing_kernels_of_level(target);
      const std::string name = friendly_name(kernels.name);
      const auto add = [&](const PairKernels* pairs) {
        if (pairs != nullptr) result.push_back({pairs->name, &kernels, &routing, pairs});
      };
      const bool is_avx512 = name == "avx512";
      if (is_avx512) add(amx_pair_kernels());
      if (is_avx512 && has_fast_pairs()) add(avx512_pair_kernels());
      result.push_back({name, &kernels, &routing, nullptr});
      if (is_avx512 && !has_fast_pairs()) add(avx512_pair_kernels());
    }
    return result;
  }();
  return all;
}

std::string joined_names() {
  return join_of(levels(), [](const Level& level) { return level.name; });
}

const Level& find_level(const std::string& name, const std::string& asked_by) {
  for (const Level& level : levels())
    if (level.name == name) return level;
  fail_usage(asked_by + " asks for the instruction set '" + name + "', but this processor and build offer " +
             joined_names());
}

const Level& default_level() {
  const char* wanted = std::getenv("HYPERATTN_SIMD");
  if (wanted == nullptr || *wanted == '\0') return levels().front();
  return find_level(wanted, "HYPERATTN_SIMD");
}

const Level*& current_level() {
  static const Level* level = &default_level();
  return level;
}

const PairKernels*& forced_pairs() {
  static const PairKernels* pairs = nullptr;
  return pairs;
}

}  // namespace

std::vector<std::string> usable_instruction_sets() {
  std::vector<std::string> names;
  for (const Level& level : levels()) names.push_back(level.name);
  return names;
}

const std::string& instruction_set() {
  return current_level()->name;
}

void force_instruction_set(const std::string& name) {
  current_level() = name.empty() ? &default_level() : &find_level(name, "force_instruction_set");
}

const TileKernels& tile_kernels() {
  return *current_level()->kernels;
}

const PairKernels* pair_kernels() {
  return forced_pairs() != nullptr ? forced_pairs() : current_level()->pairs;
}

void force_pair_kernels(const PairKernels* kernels) {
  forced_pairs() = kernels;
}

const RoutingKernels& routing_kernels() {
  return *current_level()->routing;
}

double measure_fma_peak_gflops(int threads) {
  constexpr int64_t kIterations = 4'000'000;
  constexpr int kRounds = 5;
  const TileKernels& kernels = tile_kernels();
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    const Stopwatch watch;
    double flops = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : flops)
    for (int t = 0; t < threads; ++t) flops += kernels.fma_loop(kIterations);
    best = std::max(best, flops / watch.seconds() * 1e-9);
  }
  return best;
}

}  // namespace hyperattn
