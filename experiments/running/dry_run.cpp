#include "experiments/running/dry_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <set>

#include "core/memory.h"
#include "core/text.h"
#include "experiments/running/progress.h"
#include "experiments/running/trials.h"

namespace hyperattn {
namespace {

/// What --resume would find in the output.
struct StoredTrials {
  std::set<TrialKey> done;  ///< trials with status `ok`
  std::string problem;      ///< why --resume would refuse it; `done` is empty then
};

/// Nothing where there is no such file, or where --force would replace it.
StoredTrials stored_trials(const std::string& output, const RunDescription& run, const RunOptions& options) {
  StoredTrials stored;
  if (options.force) return stored;
  const ResultsFile found = ResultStore::stored(output);
  if (found.cases.empty()) return stored;
  stored.problem = resume_problem(found, run);
  if (!stored.problem.empty()) return stored;
  for (const TrialRecord& record : found.trials)
    if (record.ok()) stored.done.insert(record.key());
  return stored;
}

/// What `where:` dropped, and what axes of parameters without an effect would have repeated.
void print_left_out(const Grid& grid) {
  for (const Dropped& dropped : grid.dropped) {
    std::printf("dropped %ld by where '%s', such as\n", static_cast<long>(dropped.count),
                dropped.predicate.c_str());
    for (const std::string& example : dropped.examples) std::printf("    %s\n", example.c_str());
  }
  for (const Collapsed& collapsed : grid.collapsed)
    std::printf("collapsed %ld that differ only in %s, which %s; such as\n    %s\n",
                static_cast<long>(collapsed.count), collapsed.parameter.c_str(), collapsed.why.c_str(),
                collapsed.example.c_str());
}

/// Of all cases of the shard.
struct Totals {
  int64_t cases = 0;
  int64_t trials = 0;
  int64_t trials_done = 0;
  double seconds = 0;  ///< of what is not done
  double most_bytes = 0;
};

void print_heading(const char* flops_of, bool with_memory) {
  const std::string work = std::string("work/") + flops_of;
  std::printf("%-16s  %5s  %12s  ", "case", "done", work.c_str());
  if (with_memory) std::printf("%10s  ", "memory");
  std::printf("%12s  %s\n", "time", "what");
}

void print_case(Experiment& experiment, size_t index, const RunCase& one, const StoredTrials& stored,
                Totals& totals) {
  const int64_t trials = experiment.config().trials;
  const CaseCost cost = experiment.cost(index);
  int64_t finished = 0;
  for (int64_t trial = 0; trial < trials; ++trial) finished += stored.done.count({one.id, trial}) != 0;
  const double seconds = cost.seconds * static_cast<double>(trials - finished);
  const std::string share = std::to_string(finished) + "/" + std::to_string(trials);
  std::printf("%-16s  %5s  %12s  ", one.id.c_str(), share.c_str(), quantity_text(cost.flops, "FLOP").c_str());
  if (cost.bytes) std::printf("%10s  ", quantity_text(*cost.bytes, "B").c_str());
  std::printf("%12s  %s\n", duration_text(seconds).c_str(), experiment.describe(index).c_str());
  ++totals.cases;
  totals.trials += trials;
  totals.trials_done += finished;
  totals.seconds += seconds;
  totals.most_bytes = std::max(totals.most_bytes, cost.bytes.value_or(0));
}

}  // namespace

void print_dry_run(Experiment& experiment, const RunDescription& run, const RunOptions& options) {
  const std::string output = output_path(options, experiment.config());
  const StoredTrials stored = stored_trials(output, run, options);
  const std::vector<RunCase> cases = experiment.cases();
  print_heading(experiment.flops_of(), !cases.empty() && experiment.cost(0).bytes.has_value());
  Totals totals;
  for (size_t i = 0; i < cases.size(); ++i)
    if (in_shard(cases[i].point, options.shard)) print_case(experiment, i, cases[i], stored, totals);
  print_left_out(experiment.grid());
  std::printf("%ld cases, %ld trials, of which %ld are in '%s' already\n", static_cast<long>(totals.cases),
              static_cast<long>(totals.trials), static_cast<long>(totals.trials_done), output.c_str());
  if (!stored.problem.empty()) std::printf("note: %s\n", stored.problem.c_str());
  std::string memory;
  if (totals.most_bytes > 0)
    memory = fmt::format(", at most {} of memory ({} available)", quantity_text(totals.most_bytes, "B"),
                         quantity_text(static_cast<double>(available_memory_bytes()), "B"));
  std::printf("estimated: %s%s%s\n", duration_text(totals.seconds).c_str(), experiment.time_note(),
              memory.c_str());
}

}  // namespace hyperattn
