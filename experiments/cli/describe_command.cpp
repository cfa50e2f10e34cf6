// `hyperattn describe`: the machine, the build and the instruction-set levels, as a run's provenance has
// them.
#include <fmt/core.h>

#include <cstdio>
#include <iostream>

#include "algorithms/kernels/instruction_set.h"
#include "core/machine.h"
#include "core/memory.h"
#include "core/parallel.h"
#include "core/text.h"
#include "experiments/cli/commands.h"
#include "experiments/running/session.h"

namespace hyperattn {
namespace {

void print(const std::string& name, const std::string& value) {
  std::printf("%-24s %s\n", name.c_str(), value.c_str());
}

std::string with_unit(double value, const char* unit) {
  return fmt::format("{:.1f} {}", value, unit);
}

}  // namespace

int describe_command(int threads) {
  const MachineInfo machine = describe_machine();
  for (const auto& [name, value] : provenance_of(machine, build_info())) print(name, value);
  print("instruction_sets", join(usable_instruction_sets()));
  print("instruction_set", instruction_set() + " (in use; the environment variable HYPERATTN_SIMD chooses)");
  for (const auto& [device, text] : describe_devices()) print(device, text);
  print("threads", std::to_string(threads));
  print("available_memory", with_unit(static_cast<double>(available_memory_bytes()) / (1 << 30), "GiB"));
  print("fma_peak_1_thread", with_unit(measure_fma_peak_gflops(1), "GFLOP/s (measured)"));
  if (threads > 1)
    print("fma_peak_" + std::to_string(threads) + "_threads",
          with_unit(measure_fma_peak_gflops(threads), "GFLOP/s (measured)"));
  for (const std::string& warning : noise_warnings(machine, build_info(), threads))
    std::cout << "warning: " << warning << "\n";
  return 0;
}

}  // namespace hyperattn
