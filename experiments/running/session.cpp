#include "experiments/running/session.h"

#include <fmt/core.h>

#include <iostream>

#include "algorithms/kernels/instruction_set.h"
#include "algorithms/registry.h"
#include "core/machine.h"
#include "core/parallel.h"
#include "core/text.h"
#include "experiments/messages/log.h"
#include "experiments/running/exit_codes.h"
#include "experiments/running/shell_command.h"

namespace hyperattn {
namespace {

constexpr size_t kFailuresShown = 10;

void print_failures(const std::vector<std::string>& failures) {
  std::cerr << counted(failures.size(), "trial") << " failed:\n";
  for (size_t i = 0; i < failures.size() && i < kFailuresShown; ++i) std::cerr << "  " << failures[i] << "\n";
  if (failures.size() > kFailuresShown)
    std::cerr << "  and " << failures.size() - kFailuresShown << " more (hyperattn show lists them)\n";
}

}  // namespace

AttributeMap describe_session(const RunOptions& options) {
  const MachineInfo machine = describe_machine();
  AttributeMap provenance;
  for (const auto& [name, text] : provenance_of(machine, build_info())) provenance[name] = text;
  provenance["instruction_set"] = instruction_set();
  provenance["threads"] = static_cast<int64_t>(thread_count());
  provenance["pinned"] = options.pin;
  provenance["fma_peak_gflops"] = measure_fma_peak_gflops(thread_count());
  for (const auto& [device, text] : describe_devices()) provenance[device] = text;
  provenance["command_line"] = shell_command(options.call);
  const std::vector<std::string> warnings = noise_warnings(machine, build_info(), thread_count());
  for (const std::string& warning : warnings) log_warning(warning);
  provenance["warnings"] = join(warnings, "\n");
  return provenance;
}

std::vector<std::pair<std::string, std::string>> describe_devices() {
  std::vector<std::pair<std::string, std::string>> devices;
  for (const Engine* engine : all_engines()) {
    if (engine->device() == default_engine().device()) continue;
    const std::string missing = engine->available();
    devices.emplace_back(engine->device(), missing.empty()
                                               ? engine->machine()
                                               : fmt::format("none: engine {} {}", engine->name(), missing));
  }
  return devices;
}

void add_warning(const std::string& warning, ResultStore& store) {
  if (warning.empty()) return;
  log_warning(warning);
  const AttributeMap& session = store.results().provenance.back();
  const auto found = session.find("warnings");
  const std::string before = found == session.end() ? "" : std::get<std::string>(found->second);
  store.set_provenance("warnings", before.empty() ? warning : before + "\n" + warning);
}

Existing what_if_existing(const RunOptions& options) {
  if (options.resume) return Existing::resume;
  return options.force ? Existing::replace : Existing::refuse;
}

int report_outcome(const RunOptions& options, const std::string& output, const Outcome& outcome) {
  std::cout << counted(outcome.stored, "trial") << " stored in " << output << "\n";
  if (!outcome.failures.empty()) print_failures(outcome.failures);
  if (outcome.interrupted || outcome.stopped)
    std::cerr << (outcome.interrupted ? "Interrupted" : "Stopped at the first failure (--fail-fast)")
              << "; go on with: " << shell_command(resumed_call(options.call)) << "\n";
  if (outcome.interrupted) return exit_code::kInterrupted;
  return outcome.failures.empty() ? exit_code::kDone : exit_code::kSomeFailed;
}

}  // namespace hyperattn
