#include "experiments/results/cases.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "algorithms/backend.h"
#include "core/text.h"
#include "experiments/results/declared.h"
#include "experiments/results/text_table.h"

namespace hyperattn {
namespace {

/// The backend's parameters and `causal` as the row's columns have them; a word that a column of numbers has
/// no place for is the default.
Parameters parameters_of(const RowValues& row, const Backend& backend) {
  Parameters parameters;
  for (const ParameterSpec& spec : backend.parameters()) {
    const ColumnSpec* column = find_trial_column(column_of(spec));
    if (column == nullptr) continue;
    const std::string& name = column->name;
    const bool is_truth = spec.type == ParameterType::boolean;
    if (row.has(name)) {
      if (column->kind == ColumnKind::text) parameters.set(spec.name, row.text(name));
      if (column->kind == ColumnKind::number) parameters.set(spec.name, row.number(name));
      if (column->kind == ColumnKind::integer && is_truth) parameters.set(spec.name, row.integer(name) == 1);
      if (column->kind == ColumnKind::integer && !is_truth) parameters.set(spec.name, row.integer(name));
    } else if (const auto value = default_of(spec, parameters);
               value && std::holds_alternative<std::string>(*value)) {
      parameters.set(spec.name, *value);
    }
  }
  parameters.set("causal", row.integer("causal") == 1);
  return parameters;
}

void set_parameters(const RowValues& row, CaseTrials& entry) {
  std::map<std::string, std::string>& texts = entry.parameters;
  for (const ColumnSpec& column : trial_columns()) {
    if (column.role != ColumnRole::parameter) continue;
    if (std::string text = value_text(row, column); !text.empty()) texts[column.name] = std::move(text);
  }
  const Backend* backend = find_backend(row.text("backend"));
  if (backend == nullptr) return;
  // A backend with the name of an engine has no other, so its name says it.
  if (find_spec(backend->parameters(), kEngineParameter) == nullptr) texts.erase(kEngineParameter);
  const Parameters parameters = parameters_of(row, *backend);
  for (const ParameterSpec& spec : backend->parameters()) {
    const std::string& column = column_of(spec);
    if (!why_no_effect(spec, backend->parameters(), parameters).empty()) {
      texts.erase(column);
      entry.ineffective.insert(column);
    } else if (parameters.is_text(spec.name)) {
      texts[column] = parameters.text(spec.name);
    }
    if (parameters.has(spec.name) && default_of(spec, parameters) == parameters.all().at(spec.name))
      entry.at_default.insert(column);
  }
}

/// The parameter columns, in the file's order.
std::vector<std::string> parameter_columns() {
  std::vector<std::string> columns;
  for (const ColumnSpec& column : trial_columns())
    if (column.role == ColumnRole::parameter) columns.push_back(column.name);
  return columns;
}

/// Whether the column tells cases apart: it has several values among the cases it applies to, or among those
/// of one backend and source. That `exact` has no block size tells nothing that its name does not, that a
/// band has no buckets nothing that the mask does not, and that one source has no clusters nothing that its
/// name does not.
bool tells_apart(const Cases& all, const std::string& column) {
  std::set<std::string> applicable;
  std::map<std::pair<std::string, std::string>, std::string> first_of;
  for (const CaseTrials& entry : all) {
    const std::string& value = entry.parameter(column);
    if (!value.empty()) applicable.insert(value);
    if (applicable.size() > 1) return true;
    if (entry.ineffective.count(column) != 0) continue;
    const std::pair both(entry.parameter("backend"), entry.parameter("source"));
    if (first_of.try_emplace(both, value).first->second != value) return true;
  }
  return false;
}

/// Whether the other column says the column's value, so that it tells nothing apart besides it.
bool follows_from(const Cases& all, const std::string& column, const std::string& other) {
  std::map<std::string, std::string> value_of;
  for (const CaseTrials& entry : all) {
    const std::string& value = entry.parameter(column);
    if (value_of.try_emplace(entry.parameter(other), value).first->second != value) return false;
  }
  return true;
}

bool equal_everywhere(const Cases& all, const std::string& column, const std::string& other) {
  return std::all_of(all.begin(), all.end(), [&](const CaseTrials& entry) {
    return entry.parameter(column) == entry.parameter(other);
  });
}

/// Columns that say what the inputs are, apart from their length, which readers look for.
std::set<std::string> input_columns() {
  std::set<std::string> columns = {"source"};
  for (const DeclaredParameter& declared : case_parameters())
    if (declared.of == "inputs") columns.insert(column_of(declared.spec));
  for (const char* other : {"seq_len", "key_len", "replaced", "replace", "windows"}) columns.erase(other);
  return columns;
}

/// The default of a parameter as its column has it; empty where owners differ or there is none, or where it
/// depends on other parameters.
std::string default_text(const std::string& column) {
  if (column == "seq_len" || column == "head_dim") return {};  // a reader wants to know them in any case
  std::set<std::string> defaults;
  for (const DeclaredParameter& declared : case_parameters())
    if (column_of(declared.spec) == column) {
      const auto& value = declared.spec.default_value;
      const auto* truth = value ? std::get_if<bool>(&*value) : nullptr;
      defaults.insert(truth != nullptr ? (*truth ? "1" : "0") : value ? to_string(*value) : "");
    }
  return defaults.size() == 1 ? *defaults.begin() : "";
}

/// Whether every case that has a value of the column is at its own default, which depends on others.
bool at_other_default(const Cases& all, const std::string& column) {
  const auto& declared = case_parameters();
  const bool depends = std::any_of(declared.begin(), declared.end(), [&](const DeclaredParameter& each) {
    return column_of(each.spec) == column && !each.spec.other_defaults.empty();
  });
  return depends && std::all_of(all.begin(), all.end(), [&](const CaseTrials& entry) {
           return entry.parameter(column).empty() || entry.at_default.count(column) != 0;
         });
}

std::string part_of(const std::string& column, const std::string& value) {
  return column == "backend" ? value : column + "=" + value;
}

}  // namespace

std::string value_text(const RowValues& row, const ColumnSpec& column) {
  if (column.kind == ColumnKind::text) return row.text(column.name);
  if (column.kind == ColumnKind::number) {
    const double value = row.number(column.name);
    return std::isnan(value) ? "" : to_string(ParameterValue(value));
  }
  if (column.kind == ColumnKind::seed) return std::to_string(row.seed(column.name));
  const int64_t value = row.integer(column.name);
  return value == -1 ? "" : std::to_string(value);
}

bool is_language_model(const ResultsFile& results) {
  for (const TrialRecord& record : results.trials)
    if (record.row.integer("replaced") < 0) return false;
  return true;
}

int64_t CaseTrials::ok_count() const {
  int64_t count = 0;
  for (const TrialRecord* record : trials) count += record->ok() ? 1 : 0;
  return count;
}

const std::string& CaseTrials::parameter(const std::string& column) const {
  static const std::string kAbsent;
  if (column == CaseNames::kCase) return case_id;
  const auto found = parameters.find(column);
  return found == parameters.end() ? kAbsent : found->second;
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

Cases trials_by_case(const ResultsFile& results) {
  Cases all;
  std::map<std::string, size_t> places;
  for (const CaseEntry& entry : results.cases) {
    places.emplace(entry.case_id, all.size());
    all.push_back({entry.case_id, {}, {}, {}, {}});
  }
  for (const TrialRecord& record : results.trials)
    if (const auto place = places.find(record.row.text("case_id")); place != places.end())
      all[place->second].trials.push_back(&record);
  Cases present;
  for (CaseTrials& entry : all) {
    if (entry.trials.empty()) continue;
    set_parameters(entry.first(), entry);
    present.push_back(std::move(entry));
  }
  return present;
}

std::string all_parameters(const CaseTrials& entry) {
  std::string text;
  for (const auto& [column, value] : entry.parameters)
    text += (text.empty() ? "" : " ") + part_of(column, value);
  return text;
}

CaseNames::CaseNames(const std::vector<const Cases*>& files) {
  Cases all;
  for (const Cases* file : files) all.insert(all.end(), file->begin(), file->end());
  choose_columns(all);
  for (const Cases* file : files) {
    std::set<std::string> labels;
    for (const CaseTrials& entry : *file) {
      std::string label;
      for (const std::string& column : columns_) label += entry.parameter(column) + '\n';
      if (labels.insert(label).second) continue;
      columns_.emplace_back(kCase);
      break;
    }
    if (columns_.back() == kCase) break;
  }
  shorten(all);
  say_what_is_the_same(all);
}

void CaseNames::choose_columns(const Cases& all) {
  static const std::set<std::string> of_inputs = input_columns();
  const bool labels_differ = tells_apart(all, "input_label");
  const bool of_model = std::all_of(
      all.begin(), all.end(), [](const CaseTrials& entry) { return !entry.parameter("replaced").empty(); });
  for (const std::string& column : parameter_columns()) {
    if (column == "key_len" && equal_everywhere(all, "key_len", "seq_len")) continue;
    if (column == "value_dim" && equal_everywhere(all, "value_dim", "head_dim")) continue;
    if (column == "layers" && of_model) continue;  // there, `replace` and `replaced` say it
    if (column != "backend" && !tells_apart(all, column)) continue;
    if (labels_differ && of_inputs.count(column) != 0 && follows_from(all, column, "input_label"))
      follow_.push_back(column);
    else
      columns_.push_back(column);
  }
  say_what_labels_mean(all);
}

void CaseNames::say_what_labels_mean(const Cases& all) {
  std::set<std::string> said;
  for (const CaseTrials& entry : all) {
    const std::string& label = entry.parameter("input_label");
    if (!said.insert(label).second) continue;
    std::vector<std::string> values;
    for (const std::string& column : follow_)
      if (const std::string& value = entry.parameter(column); !value.empty() && value != label)
        values.push_back(column + "=" + value);
    if (!values.empty()) inputs_.emplace_back(label, join(values));
  }
}

void CaseNames::say_what_is_the_same(const Cases& all) {
  const auto told = [&](const std::string& column) {
    return std::find(columns_.begin(), columns_.end(), column) != columns_.end() ||
           std::find(follow_.begin(), follow_.end(), column) != follow_.end() ||
           (column == "key_len" && equal_everywhere(all, "key_len", "seq_len")) ||
           (column == "value_dim" && equal_everywhere(all, "value_dim", "head_dim"));
  };
  for (const std::string& column : parameter_columns()) {
    if (told(column)) continue;
    std::set<std::string> values;
    for (const CaseTrials& entry : all)
      if (const std::string& value = entry.parameter(column); !value.empty()) values.insert(value);
    if (values.size() == 1 && *values.begin() != default_text(column) && !at_other_default(all, column))
      same_.emplace_back(column, *values.begin());
  }
}

void CaseNames::shorten(const Cases& all) {
  std::map<std::string, std::string> short_of;
  std::set<std::string> taken;
  for (const std::string& column : columns_)
    for (const CaseTrials& entry : all) {
      const std::string& value = entry.parameter(column);
      if (text_width(value) <= kWidest || short_of.count(value) != 0) continue;
      std::string text = shortened_text(value, kWidest);
      for (int number = 2; !taken.insert(text).second; ++number)
        text = shortened_text(value, kWidest - 4) + " #" + std::to_string(number);
      short_of[value] = text;
      shortened_.emplace_back(text, value);
    }
}

std::string CaseNames::shown(const CaseTrials& entry, const std::string& column) const {
  const std::string& value = entry.parameter(column);
  for (const auto& [text, whole] : shortened_)
    if (whole == value) return text;
  return value;
}

std::string CaseNames::label(const CaseTrials& entry) const {
  std::string label;
  for (const std::string& column : columns_)
    if (const std::string value = shown(entry, column); !value.empty())
      label += (label.empty() ? "" : " ") + part_of(column, value);
  return one_line(label);
}

}  // namespace hyperattn
