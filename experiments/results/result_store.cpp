#include "experiments/results/result_store.h"

#include <fmt/core.h>

#include <filesystem>
#include <map>
#include <stdexcept>

#include "core/error.h"
#include "core/timing.h"
#include "experiments/files/journal.h"
#include "experiments/files/output_file.h"
#include "experiments/messages/log.h"
#include "experiments/results/record_text.h"
#include "experiments/results/text_diff.h"

namespace hyperattn {
namespace {

namespace fs = std::filesystem;

// The file is rebuilt when this many times the duration of the last rebuild has gone by: at most about 5 % of
// the time goes into it, however large it grows.
constexpr double kRebuildSpacing = 20;

ResultsFile new_results(const std::string& path, const RunDescription& run) {
  ResultsFile results;
  results.path = path;
  results.run_id = new_run_id();
  results.name = run.name;
  results.created = utc_now();
  results.trials_per_case = run.trials_per_case;
  results.shard = run.shard;
  results.config = run.config;
  results.provenance = {run.provenance};
  results.files = run.files;
  results.cases = run.cases;
  return results;
}

}  // namespace

namespace {

bool same_configuration(const std::string& stored, const RunDescription& run) {
  if (stored == run.config) return true;
  if (!run.resolve_again) return false;
  try {
    return run.resolve_again(stored) == run.config;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

std::string resume_problem(const ResultsFile& found, const RunDescription& run) {
  const std::string where = fmt::format("'{}' can't be resumed: ", found.path);
  const std::string cure = "resume with the configuration it was made with, or choose another output with -o";
  if (!same_configuration(found.config, run))
    return fmt::format("{}its configuration is another; {} (- in the file, + now):\n{}", where, cure,
                       text_diff(found.config, run.config));
  if (found.shard != run.shard)
    return fmt::format("{}it holds shard '{}', but shard '{}' is asked for", where, found.shard, run.shard);
  if (found.cases != run.cases || found.trials_per_case != run.trials_per_case)
    return where +
           "the same configuration now gives other cases, so another version of the program made it; choose "
           "another output with -o, or replace it with --force";
  if (const std::string changed = differing_contents(found.files, run.files); !changed.empty())
    return fmt::format(
        "{}the contents of '{}' are others than those it was made of; put the old contents back, or choose "
        "another output with -o",
        where, changed);
  return {};
}

struct ResultStore::Impl {
  std::string path;
  std::unique_ptr<Journal> journal;
  ResultsFile results;
  std::map<TrialKey, size_t> places;  ///< of the trials in `results`
  std::set<std::string> case_ids;
  bool finished = false;
  double rebuild_seconds = 0;
  Stopwatch since_rebuild;

  void open(const RunDescription& run, Existing existing);
  void load(const std::vector<std::string>& records);
  void index();
  [[nodiscard]] std::string problem_of(const TrialRecord& record) const;
  [[nodiscard]] std::string refusal() const;
  void put(const TrialRecord& record);
  void rebuild();
};

/// Reads what an earlier run left: the file, and over it the journal's records if they belong to it. A
/// journal of another run than the file's is the younger one: it is begun before its first file is written.
void ResultStore::Impl::load(const std::vector<std::string>& records) {
  const std::string place = "'" + journal_path(path) + "'";
  const bool has_file = fs::exists(path);
  if (has_file) results = read_results(path);
  if (!records.empty()) {
    ResultsFile header = decode_header(records.front(), place + " record 1");
    check_plan(header, place);
    if (!has_file || header.run_id != results.run_id) results = std::move(header);
  }
  results.path = path;
  index();
  for (size_t i = 1; i < records.size(); ++i) {
    const std::string here = fmt::format("{} record {}", place, i + 1);
    const TrialRecord record = decode_record(records[i], here);
    if (const std::string problem = problem_of(record); !problem.empty()) fail_input(here + " " + problem);
    put(record);
  }
}

void ResultStore::Impl::index() {
  for (const CaseEntry& entry : results.cases) case_ids.insert(entry.case_id);
  for (size_t i = 0; i < results.trials.size(); ++i) places[results.trials[i].key()] = i;
}

/// What makes a record impossible in this run, or nothing.
std::string ResultStore::Impl::problem_of(const TrialRecord& record) const {
  if (case_ids.count(record.key().case_id) == 0)
    return fmt::format("belongs to case '{}', which is not in the plan", record.key().case_id);
  if (record.key().trial < 0) return "has no trial number";
  if (const std::string& status = record.row.text("status"); !is_status(status))
    return fmt::format("has status '{}'", status);
  return {};
}

void ResultStore::Impl::open(const RunDescription& run, Existing existing) {
  const bool exists = fs::exists(path) || holds_trials(journal->records());
  if (exists && existing == Existing::refuse) fail_usage(refusal());
  if (exists && existing == Existing::resume) {
    load(journal->records());
    if (const std::string problem = resume_problem(results, run); !problem.empty()) fail_usage(problem);
    if (results.files.empty() && !run.files.empty())
      log_info(fmt::format(
          "'{}' was made by a version that stored no digests of the files it read, so whether they have "
          "changed since is not known",
          path));
    results.config = run.config;
    results.files = all_contents(results.files, run.files);
    results.finished.clear();
    results.complete = false;
    results.provenance.push_back(run.provenance);
    rebuild();  // before the journal is emptied: at every moment one of them holds each record
    journal->clear();
    journal->append(encode_header(results));
    return;
  }
  results = new_results(path, run);
  index();
  journal->clear();
  journal->append(encode_header(results));
  rebuild();
}

/// Why a run that neither resumes nor replaces stops here.
std::string ResultStore::Impl::refusal() const {
  const std::string cure = "; continue it with --resume, replace it with --force, or choose another with -o";
  const size_t records = journal->records().size();
  if (!holds_trials(journal->records())) return fmt::format("the output '{}' exists{}", path, cure);
  const std::string trials = std::to_string(records - 1) + (records == 2 ? " trial" : " trials");
  return fmt::format("a run that was killed left {} in the journal '{}'{}{}", trials, journal_path(path),
                     fs::exists(path) ? fmt::format(" and its output '{}'", path)
                                      : fmt::format(", but no output '{}'", path),
                     cure);
}

void ResultStore::Impl::put(const TrialRecord& record) {
  const auto [place, is_new] = places.try_emplace(record.key(), results.trials.size());
  if (is_new)
    results.trials.push_back(record);
  else
    results.trials[place->second] = record;
}

void ResultStore::Impl::rebuild() {
  const Stopwatch watch;
  write_results(path, results);
  rebuild_seconds = watch.seconds();
  since_rebuild.restart();
}

ResultStore::ResultStore(const std::string& path, const RunDescription& run, Existing existing)
    : impl_(std::make_unique<Impl>()) {
  impl_->path = output_place(path);
  make_parent_folder(impl_->path);
  impl_->journal = std::make_unique<Journal>(journal_path(impl_->path), impl_->path);
  if (const std::string& problem = impl_->journal->lock_problem(); !problem.empty())
    log_warning(fmt::format(
        "'{}' can't be locked ({}), so nothing keeps another process from writing the same results: see that "
        "no other one does",
        journal_path(impl_->path), problem));
  try {
    impl_->open(run, existing);
  } catch (const Error&) {
    if (!impl_->journal->existed()) impl_->journal->remove();
    throw;
  }
}

StoredResults read_with_journal(const std::string& path) {
  std::error_code error;
  const fs::path target = fs::canonical(path, error);  // the journal lies where a link leads
  ResultStore::Impl impl;
  impl.path = error ? path : target.string();
  const std::vector<std::string> records = read_journal(journal_path(impl.path));
  if (records.empty()) return {read_results(path), 0};
  impl.load(records);
  impl.results.path = path;
  return {std::move(impl.results), static_cast<int64_t>(records.size()) - 1};
}

ResultsFile ResultStore::stored(const std::string& path) {
  Impl impl;
  impl.path = output_place(path);
  const std::vector<std::string> records = read_journal(journal_path(impl.path));
  if (!holds_trials(records) && !fs::exists(impl.path)) return {};
  impl.load(records);
  return std::move(impl.results);
}

ResultStore::ResultStore(ResultStore&&) noexcept = default;
ResultStore& ResultStore::operator=(ResultStore&&) noexcept = default;
ResultStore::~ResultStore() = default;

bool ResultStore::is_done(const TrialKey& key) const {
  const auto place = impl_->places.find(key);
  return place != impl_->places.end() && impl_->results.trials[place->second].ok();
}

void ResultStore::append(const TrialRecord& record) {
  if (impl_->finished) throw std::logic_error("a record was appended to results that are finished");
  if (const std::string problem = impl_->problem_of(record); !problem.empty())
    throw std::logic_error("a record " + problem);
  impl_->journal->append(encode_record(record));
  impl_->put(record);
  if (impl_->since_rebuild.seconds() >= kRebuildSpacing * impl_->rebuild_seconds) impl_->rebuild();
}

void ResultStore::set_provenance(const std::string& name, const AttributeValue& value) {
  impl_->results.provenance.back()[name] = value;
}

void ResultStore::finish(bool complete) {
  impl_->results.finished = utc_now();
  impl_->results.complete = complete;
  impl_->rebuild();
  impl_->journal->remove();
  impl_->finished = true;
}

const ResultsFile& ResultStore::results() const {
  return impl_->results;
}

}  // namespace hyperattn
