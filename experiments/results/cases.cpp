#include "experiments/results/cases.h"

#include <cmath>
#include <map>
#include <set>

#include "experiments/results/text_table.h"

namespace hyperattn {

std::string value_text(const RowValues& row, const ColumnSpec& column) {
  if (column.kind == ColumnKind::text) return row.text(column.name);
  if (column.kind == ColumnKind::number) return figure_text(row.number(column.name), 6);
  const int64_t value = row.integer(column.name);
  return value == -1 ? "" : std::to_string(value);
}

bool is_language_model(const ResultsFile& results) {
  for (const TrialRecord& record : results.trials)
    if (record.row.integer("replaced") < 0) return false;
  return true;
}

namespace {

/// Whether the column tells cases apart: it has several values among the rows it applies to, or among those
/// of one backend. That `exact` has no block size tells nothing that its name does not.
bool tells_apart(const ResultsFile& results, const ColumnSpec& column) {
  std::set<std::string> applicable;
  std::map<std::string, std::string> first_of_backend;
  for (const TrialRecord& record : results.trials) {
    const std::string value = value_text(record.row, column);
    if (!value.empty()) applicable.insert(value);
    if (applicable.size() > 1) return true;
    if (first_of_backend.try_emplace(record.row.text("backend"), value).first->second != value) return true;
  }
  return false;
}

/// Whether the name of the inputs says the column's value, so that it tells nothing apart besides it.
bool follows_from_label(const ResultsFile& results, const ColumnSpec& column) {
  std::map<std::string, std::string> value_of_label;
  for (const TrialRecord& record : results.trials) {
    const std::string value = value_text(record.row, column);
    const auto known = value_of_label.try_emplace(record.row.text("input_label"), value).first;
    if (known->second != value) return false;
  }
  return true;
}

bool is_of_inputs(const ColumnSpec& column) {
  for (const char* name : {"source", "heads", "batch", "head_dim", "value_dim"})
    if (column.name == name) return true;
  return false;
}

/// As many keys as queries in every row.
bool is_square(const ResultsFile& results) {
  for (const TrialRecord& record : results.trials)
    if (record.row.integer("key_len") != record.row.integer("seq_len")) return false;
  return true;
}

}  // namespace

std::vector<ColumnSpec> varying_parameters(const ResultsFile& results) {
  std::vector<ColumnSpec> varying;
  for (const ColumnSpec& column : trial_columns()) {
    if (column.role != ColumnRole::parameter) continue;
    if (column.name == "key_len" && is_square(results)) continue;
    if (is_of_inputs(column) && follows_from_label(results, column)) continue;
    // There, `replace` and `replaced` say it.
    if (column.name == "layers" && is_language_model(results)) continue;
    if (column.name == "backend" || tells_apart(results, column)) varying.push_back(column);
  }
  return varying;
}

std::string label_of(const RowValues& row, const std::vector<ColumnSpec>& columns) {
  std::string label;
  for (const ColumnSpec& column : columns) {
    const std::string value = value_text(row, column);
    if (value.empty()) continue;
    label += (label.empty() ? "" : " ") + (column.name == "backend" ? value : column.name + "=" + value);
  }
  return printable(label);
}

int64_t CaseTrials::ok_count() const {
  int64_t count = 0;
  for (const TrialRecord* record : trials) count += record->ok() ? 1 : 0;
  return count;
}

std::vector<double> CaseTrials::values(const std::string& column) const {
  std::vector<double> values;
  for (const TrialRecord* record : trials)
    if (record->ok() && !std::isnan(record->row.number(column))) values.push_back(record->row.number(column));
  return values;
}

std::vector<double> CaseTrials::repeats() const {
  std::vector<double> seconds;
  for (const TrialRecord* record : trials) {
    if (!record->ok()) continue;
    for (const TimingRow& timing : record->timings)
      if (timing.stage == kTotalStage && !std::isnan(timing.seconds)) seconds.push_back(timing.seconds);
  }
  return seconds;
}

std::vector<CaseTrials> trials_by_case(const ResultsFile& results) {
  std::vector<CaseTrials> all;
  std::map<std::string, size_t> places;
  for (const CaseEntry& entry : results.cases) {
    places.emplace(entry.case_id, all.size());
    all.push_back({entry.case_id, {}});
  }
  for (const TrialRecord& record : results.trials)
    if (const auto place = places.find(record.row.text("case_id")); place != places.end())
      all[place->second].trials.push_back(&record);
  std::vector<CaseTrials> present;
  for (CaseTrials& entry : all)
    if (!entry.trials.empty()) present.push_back(std::move(entry));
  return present;
}

}  // namespace hyperattn
