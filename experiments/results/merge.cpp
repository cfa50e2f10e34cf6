#include <fmt/core.h>

#include <map>

#include "core/error.h"
#include "experiments/files/journal.h"
#include "experiments/files/output_file.h"
#include "experiments/messages/log.h"
#include "experiments/results/reports.h"
#include "experiments/results/result_store.h"
#include "experiments/results/text_diff.h"

namespace hyperattn {
namespace {

void check_same_plan(const ResultsFile& first, const ResultsFile& other) {
  const std::string both = fmt::format("'{}' and '{}' can't be merged: ", first.path, other.path);
  if (first.config != other.config)
    fail_usage(fmt::format("{}their configurations differ (- in the first, + in the second):\n{}", both,
                           text_diff(first.config, other.config)));
  if (first.cases != other.cases || first.trials_per_case != other.trials_per_case)
    fail_usage(
        fmt::format("{}their configurations agree, but their cases differ, so versions of the program that "
                    "plan differently made them",
                    both));
  if (const std::string changed = differing_contents(first.files, other.files); !changed.empty())
    fail_usage(fmt::format("{}they were made of different contents of '{}'", both, changed));
}

/// An `ok` row stands; of others, any. Two `ok` rows must agree.
void add_trial(const TrialRecord& record, const std::string& path, std::map<TrialKey, size_t>& places,
               ResultsFile& merged) {
  const auto [place, is_new] = places.try_emplace(record.key(), merged.trials.size());
  if (is_new) {
    merged.trials.push_back(record);
    return;
  }
  TrialRecord& there = merged.trials[place->second];
  if (there.ok() && record.ok() && !there.same_as(record))
    fail_input(fmt::format(
        "'{}' holds another result for trial {} of case '{}' than the files before it; leave one of them out",
        path, record.key().trial, record.key().case_id));
  if (!there.ok()) there = record;
}

/// Adds the sessions that copies of the same run before this one did not have.
void add_sessions(const ResultsFile& results, std::map<std::string, size_t>& known, ResultsFile& merged) {
  size_t& count = known[results.run_id];
  for (; count < results.provenance.size(); ++count) merged.provenance.push_back(results.provenance[count]);
}

/// Writes the file and removes what a killed run left in the journal beside it, which would else be taken for
/// the younger one. A run that is writing there is not disturbed.
void write_alone(const std::string& path, const ResultsFile& results, bool replace) {
  const std::string place = output_place(path);
  Journal journal(journal_path(place), place);
  try {
    if (holds_trials(journal.records()) && !replace)
      fail_usage(
          fmt::format("a run that was killed left {} of its trials in the journal '{}'; continue it with "
                      "hyperattn run --resume, replace it with --force, or name another output",
                      journal.records().size() - 1, journal_path(place)));
    write_results(path, results);
  } catch (...) {
    if (!journal.existed()) journal.remove();
    throw;
  }
  journal.remove();
}

}  // namespace

ResultsFile merge_results(const std::string& path, const std::vector<std::string>& inputs, bool replace) {
  if (inputs.empty()) fail_usage("there is nothing to merge: name at least one results file");
  refuse_existing(path, replace, "replace it with --force, or name another");
  const ReadLog log;
  ResultsFile merged;
  std::map<TrialKey, size_t> places;
  std::map<std::string, size_t> known_sessions;  // by run_id
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ResultsFile results = read_with_journal(inputs[i]).results;
    if (i == 0) {
      merged = results;
      merged.trials.clear();
      merged.provenance.clear();
    }
    check_same_plan(merged, results);
    if (merged.files.empty() != results.files.empty())
      log_info(fmt::format(
          "one of '{}' and '{}' has no digests of the files it was made of, so whether these are the same is "
          "not known",
          inputs.front(), inputs[i]));
    merged.files = all_contents(merged.files, results.files);
    add_sessions(results, known_sessions, merged);
    merged.created = std::min(merged.created, results.created);
    merged.finished = std::max(merged.finished, results.finished);
    for (const TrialRecord& record : results.trials) add_trial(record, inputs[i], places, merged);
  }
  merged.path = path;
  merged.run_id = new_run_id();
  merged.shard.clear();
  merged.complete = merged.missing().empty();
  log.refuse_output(path);
  make_parent_folder(path);
  write_alone(path, merged, replace);
  return merged;
}

}  // namespace hyperattn
