// A whole results file in memory, and its way from and to disk. docs/results-format.md describes the file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/config/case_identity.h"
#include "experiments/files/hdf5_file.h"
#include "experiments/files/read_log.h"
#include "experiments/results/trial_record.h"

namespace hyperattn {

/// A case of the plan.
struct CaseEntry {
  std::string case_id;
  std::string parameters;  ///< all resolved parameters, as JSON

  bool operator==(const CaseEntry&) const = default;
};

struct ResultsFile {
  std::string path;
  std::string schema = kResultsSchema;
  std::string run_id;  ///< random; ties a journal to its file
  std::string name;
  std::string created;   ///< UTC, "2024-05-01T12:00:00Z"
  std::string finished;  ///< empty while the run goes on
  bool complete = false;
  int64_t trials_per_case = 1;
  std::string shard;   ///< "2/4", or empty
  std::string config;  ///< the resolved YAML
  /// One for each session that wrote to the file: the first run, then every resumption (or merged file).
  std::vector<AttributeMap> provenance{{}};
  std::vector<ReadDigest> files;    ///< what the run read; empty in files of version 0.1 as well
  std::vector<CaseEntry> cases;     ///< the whole plan's, also in a shard
  std::vector<TrialRecord> trials;  ///< in any order; the file has them in the plan's

  /// (case_id, trial) of the plan that have no row with status `ok`.
  [[nodiscard]] std::vector<TrialKey> missing() const;
};

/// Reads and checks everything; the file is untrusted. Error(input): not a results file, of an unknown
/// schema, a table or column of the wrong kind, a row that belongs to no case, two rows for one trial.
[[nodiscard]] ResultsFile read_results(const std::string& path);
/// The same from the bytes of a file.
[[nodiscard]] ResultsFile read_results_image(const std::string& bytes, const std::string& name);

/// Refuses a schema that this version does not know, and a plan that no run could have (what is missing is
/// counted trial by trial). Error(input) that names `place`.
void check_plan(const ResultsFile& results, const std::string& place);

/// Writes under a temporary name beside `path`, syncs, renames, syncs the folder: at any moment `path` is the
/// old file or the new one, whole. Error(environment) leaves the old one. Cost is linear in the rows.
void write_results(const std::string& path, const ResultsFile& results);

/// 16 random hexadecimal digits.
[[nodiscard]] std::string new_run_id();
/// Now in UTC, as `created` and `finished` have it.
[[nodiscard]] std::string utc_now();

}  // namespace hyperattn
