// What every command that fills a results file has in common: the provenance of the session, and the answer
// at its end.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "experiments/files/hdf5_file.h"
#include "experiments/results/result_store.h"
#include "experiments/running/run_options.h"

namespace hyperattn {

/// Machine, build, threads, measured peak, command line and warnings about noise (which are logged, too).
[[nodiscard]] AttributeMap describe_session(const RunOptions& options);

/// What engines compute on besides the host: the device's name, and its card, driver and clocks or why there
/// is none.
[[nodiscard]] std::vector<std::pair<std::string, std::string>> describe_devices();

/// Logs a warning about the timings and adds it to those of the session; nothing for an empty one.
void add_warning(const std::string& warning, ResultStore& store);

/// --resume, --force, or neither.
[[nodiscard]] Existing what_if_existing(const RunOptions& options);

struct Outcome {
  int64_t stored = 0;
  std::vector<std::string> failures;
  bool interrupted = false;
  bool stopped = false;  ///< by --fail-fast
  std::string warning;   ///< about the timings, or nothing
};

/// Prints what was stored, what failed and how to go on; returns the exit code.
[[nodiscard]] int report_outcome(const RunOptions& options, const std::string& output,
                                 const Outcome& outcome);

}  // namespace hyperattn
