// `hyperattn show` and `hyperattn merge`: what is done with results files after a run.
#include <fmt/core.h>
#include <unistd.h>

#include <iostream>
#include <set>

#include "core/error.h"
#include "core/text.h"
#include "experiments/cli/commands.h"
#include "experiments/results/reports.h"
#include "experiments/results/result_store.h"
#include "experiments/running/exit_codes.h"
#include "experiments/running/terminal.h"

namespace hyperattn {
namespace {

constexpr size_t kMissingNamed = 10;

int compare_command(const std::vector<std::string>& files) {
  if (files.size() != 2)
    fail_usage(fmt::format("show --compare takes two results files, A and B, but {}{}", files.size(),
                           files.size() == 1 ? " is given" : " are given"));
  compare_results(read_with_journal(files[0]).results, read_with_journal(files[1]).results, std::cout,
                  terminal_width(STDOUT_FILENO, kReportWidth));
  return exit_code::kDone;
}

/// The parameters of each case that lacks trials, as the file has them: what has to be run again.
void print_missing(const ResultsFile& merged, const std::vector<TrialKey>& missing) {
  std::set<std::string> cases;
  for (const TrialKey& key : missing) cases.insert(key.case_id);
  std::cerr << counted(missing.size(), "trial") << " of " << counted(cases.size(), "case")
            << " are missing or failed:\n";
  size_t named = 0;
  for (const CaseEntry& entry : merged.cases)
    if (cases.count(entry.case_id) != 0 && named++ < kMissingNamed)
      std::cerr << "  " << entry.case_id << " " << entry.parameters << "\n";
  if (named > kMissingNamed) std::cerr << "  and " << named - kMissingNamed << " more\n";
}

}  // namespace

int show_command(const std::vector<std::string>& files, bool compare, bool all) {
  if (compare) return compare_command(files);
  for (size_t i = 0; i < files.size(); ++i) {
    if (i > 0) std::cout << "\n";
    const StoredResults stored = read_with_journal(files[i]);
    show_results(stored.results, std::cout, {terminal_width(STDOUT_FILENO, kReportWidth), all});
    if (stored.from_journal > 0)
      std::cout
          << "note: " << counted(stored.from_journal, "trial") << (stored.from_journal == 1 ? " is" : " are")
          << " from the journal beside the file: the run was killed (go on with --resume), or is running\n";
  }
  return exit_code::kDone;
}

int merge_command(const std::string& output, const std::vector<std::string>& inputs, bool force) {
  const ResultsFile merged = merge_results(output, inputs, force);
  std::cout << counted(merged.trials.size(), "trial") << " of " << counted(inputs.size(), "file")
            << " stored in " << output << "\n";
  const std::vector<TrialKey> missing = merged.missing();
  if (missing.empty()) return exit_code::kDone;
  print_missing(merged, missing);
  return exit_code::kSomeFailed;
}

}  // namespace hyperattn
