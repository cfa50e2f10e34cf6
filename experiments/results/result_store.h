// Where a run keeps its results: nothing that was reported done is ever lost. Every record goes to an fsynced
// journal beside the HDF5 file (FILE.journal), from which the file is rebuilt under a temporary name and
// renamed, because HDF5 changed in place survives no kill.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "experiments/results/results_file.h"

namespace hyperattn {

struct RunDescription {
  std::string name;
  std::string config;  ///< resolved YAML; what a resumed run must agree with
  /// The resolved YAML that this version makes of one that an earlier version stored: where that is the same,
  /// the run goes on. May be empty, and may throw Error.
  std::function<std::string(const std::string&)> resolve_again;
  int64_t trials_per_case = 1;
  std::string shard;  ///< "2/4", or empty
  AttributeMap provenance;
  std::vector<ReadDigest> files;  ///< what it reads; contents that a resumed run must agree with
  std::vector<CaseEntry> cases;   ///< the whole plan's, also in a shard
};

/// What to do with an existing output.
enum class Existing { refuse, resume, replace };

/// Whether a killed run left trials in its journal: the first record only says what ran, and is nothing to
/// lose.
[[nodiscard]] inline bool holds_trials(const std::vector<std::string>& journal_records) {
  return journal_records.size() > 1;
}

/// What keeps this run from going on with those results, in a sentence; empty if nothing does.
[[nodiscard]] std::string resume_problem(const ResultsFile& found, const RunDescription& run);

/// What a results file holds, with what is in the journal beside it: of a run that was killed, or that goes
/// on.
struct StoredResults {
  ResultsFile results;
  int64_t from_journal = 0;  ///< trials that the journal holds, whether or not the file has them as well
};
/// For readers; changes nothing and takes no lock. The journal alone is enough. Error(input): there is
/// neither, or one is damaged.
[[nodiscard]] StoredResults read_with_journal(const std::string& path);

class ResultStore {
 public:
  /// Makes the folder if it is missing, locks the output against other processes and writes the file's first
  /// state. Error(usage): the output exists and `existing` is `refuse`, or its configuration is another (the
  /// message shows the lines that differ). Error(environment): not writable, in use by another process.
  /// Error(input): the existing file is damaged. `resume` without an existing output begins a new one.
  ResultStore(const std::string& path, const RunDescription& run, Existing existing);
  /// What `resume` would find there, the journal's records included; an empty plan where nothing is. Changes
  /// nothing. Error(input): the file or the journal is damaged.
  [[nodiscard]] static ResultsFile stored(const std::string& path);
  ResultStore(ResultStore&&) noexcept;
  ResultStore& operator=(ResultStore&&) noexcept;
  ResultStore(const ResultStore&) = delete;
  ResultStore& operator=(const ResultStore&) = delete;
  /// Without `finish`, the journal stays, as after a kill.
  ~ResultStore();

  /// Whether that trial is in the file with status `ok`: failed ones are to be run again.
  [[nodiscard]] bool is_done(const TrialKey& key) const;

  /// When this returns, the record survives a kill and a power loss; it replaces an earlier one of the same
  /// key. A record needs case_id (one of the plan's), trial and status. The HDF5 file follows within moments
  /// (rebuilding takes at most about a twentieth of the time). Error(environment): disk full, folder removed;
  /// everything reported before stays whole.
  void append(const TrialRecord& record);
  /// Adds to this session's provenance, such as what is known only after measuring; kept from the next
  /// rebuilding.
  void set_provenance(const std::string& name, const AttributeValue& value);

  /// Writes the file for good and removes the journal. `complete`: everything that was planned ran.
  void finish(bool complete);

  [[nodiscard]] const ResultsFile& results() const;

 private:
  friend StoredResults read_with_journal(const std::string& path);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hyperattn
