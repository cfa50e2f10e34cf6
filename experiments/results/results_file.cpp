#include "experiments/results/results_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <set>

#include "core/error.h"
#include "experiments/config/grid.h"
#include "experiments/files/json_file.h"
#include "experiments/files/output_file.h"
#include "experiments/results/declared.h"

namespace hyperattn {
namespace {

using Json = nlohmann::json;

// ------------------------------------------------------------------------------------------- writing

/// Columns that are filled row by row.
class TableBuilder {
 public:
  void integers(const std::string& name) { columns_.push_back({name, std::vector<int64_t>{}}); }
  void numbers(const std::string& name) { columns_.push_back({name, std::vector<double>{}}); }
  void texts(const std::string& name) { columns_.push_back({name, std::vector<std::string>{}}); }
  void seeds(const std::string& name) { columns_.push_back({name, std::vector<uint64_t>{}}); }
  void column(const ColumnSpec& spec) {
    if (spec.kind == ColumnKind::integer) integers(spec.name);
    if (spec.kind == ColumnKind::number) numbers(spec.name);
    if (spec.kind == ColumnKind::text) texts(spec.name);
    if (spec.kind == ColumnKind::seed) seeds(spec.name);
  }

  void begin_row() { next_ = 0; }
  void add(int64_t value) { std::get<std::vector<int64_t>>(columns_[next_++].values).push_back(value); }
  void add(double value) { std::get<std::vector<double>>(columns_[next_++].values).push_back(value); }
  void add(const std::string& value) {
    std::get<std::vector<std::string>>(columns_[next_++].values).push_back(value);
  }
  void add(const RowValues& row, const ColumnSpec& spec) {
    if (spec.kind == ColumnKind::integer) add(row.integer(spec.name));
    if (spec.kind == ColumnKind::number) add(row.number(spec.name));
    if (spec.kind == ColumnKind::text) add(row.text(spec.name));
    if (spec.kind == ColumnKind::seed)
      std::get<std::vector<uint64_t>>(columns_[next_++].values).push_back(row.seed(spec.name));
  }
  [[nodiscard]] Table take() { return {std::move(columns_)}; }

 private:
  std::vector<TableColumn> columns_;
  size_t next_ = 0;
};

std::vector<ColumnSpec> figure_columns() {
  std::vector<ColumnSpec> figures;
  for (const ColumnSpec& column : trial_columns())
    if (column.role == ColumnRole::figure) figures.push_back(column);
  return figures;
}

std::map<std::string, int64_t> case_places(const std::vector<CaseEntry>& cases) {
  std::map<std::string, int64_t> places;
  for (const CaseEntry& entry : cases) places.emplace(entry.case_id, static_cast<int64_t>(places.size()));
  return places;
}

using Records = std::vector<const TrialRecord*>;

/// The trials by case in the plan's order, then by trial.
Records in_order(const ResultsFile& results) {
  const std::map<std::string, int64_t> places = case_places(results.cases);
  std::vector<std::pair<std::pair<int64_t, int64_t>, const TrialRecord*>> keyed;
  for (const TrialRecord& record : results.trials)
    keyed.push_back({{places.at(record.row.text("case_id")), record.row.integer("trial")}, &record});
  std::sort(keyed.begin(), keyed.end());
  Records records;
  for (const auto& entry : keyed) records.push_back(entry.second);
  return records;
}

Table cases_table(const std::vector<CaseEntry>& cases) {
  TableBuilder table;
  table.texts("case_id");
  table.texts("parameters");
  for (const CaseEntry& entry : cases) {
    table.begin_row();
    table.add(entry.case_id);
    table.add(entry.parameters);
  }
  return table.take();
}

Table files_table(const std::vector<ReadDigest>& files) {
  TableBuilder table;
  table.texts("path");
  table.texts("sha256");
  for (const ReadDigest& file : files) {
    table.begin_row();
    table.add(file.path);
    table.add(file.sha256);
  }
  return table.take();
}

Table trials_table(const Records& records) {
  TableBuilder table;
  for (const ColumnSpec& column : trial_columns()) table.column(column);
  for (const TrialRecord* record : records) {
    table.begin_row();
    for (const ColumnSpec& column : trial_columns()) table.add(record->row, column);
  }
  return table.take();
}

/// /heads or /levels.
Table details_table(const Records& records, bool levels) {
  const std::vector<ColumnSpec> figures = figure_columns();
  TableBuilder table;
  table.texts("case_id");
  table.integers("trial");
  table.integers("head");
  if (levels) table.integers("level");
  for (const ColumnSpec& column : figures) table.column(column);
  for (const TrialRecord* record : records)
    for (const DetailRow& detail : record->details) {
      if ((detail.level >= 0) != levels) continue;
      table.begin_row();
      table.add(record->row.text("case_id"));
      table.add(record->row.integer("trial"));
      table.add(detail.head);
      if (levels) table.add(detail.level);
      for (const ColumnSpec& column : figures) table.add(detail.values, column);
    }
  return table.take();
}

Table timings_table(const Records& records) {
  TableBuilder table;
  table.texts("case_id");
  table.integers("trial");
  table.texts("stage");
  table.integers("repeat");
  table.numbers("seconds");
  for (const TrialRecord* record : records)
    for (const TimingRow& timing : record->timings) {
      table.begin_row();
      table.add(record->row.text("case_id"));
      table.add(record->row.integer("trial"));
      table.add(timing.stage);
      table.add(timing.repeat);
      table.add(timing.seconds);
    }
  return table.take();
}

void write_provenance(Hdf5File& file, const std::vector<AttributeMap>& sessions) {
  file.make_group("/provenance");
  for (size_t i = 0; i < sessions.size(); ++i) {
    const std::string group = i == 0 ? "/provenance" : "/provenance/" + std::to_string(i + 1);
    file.make_group(group);
    for (const auto& [name, value] : sessions[i]) file.write_attribute(group, name, value);
  }
}

/// `path` stands in messages.
std::string results_image(const std::string& path, const ResultsFile& results) {
  Hdf5File file = Hdf5File::create_in_memory(path);
  file.write_attribute("/", "schema", results.schema);
  file.write_attribute("/", "run_id", results.run_id);
  file.write_attribute("/", "name", results.name);
  file.write_attribute("/", "created", results.created);
  file.write_attribute("/", "finished", results.finished);
  file.write_attribute("/", "complete", results.complete);
  file.write_attribute("/", "trials_per_case", results.trials_per_case);
  file.write_attribute("/", "shard", results.shard);
  file.write_text("/config", results.config);
  file.write_text("/declarations", declarations_json());
  write_provenance(file, results.provenance);
  const Records records = in_order(results);
  file.write_table("/files", files_table(results.files));
  file.write_table("/cases", cases_table(results.cases));
  file.write_table("/trials", trials_table(records));
  file.write_table("/heads", details_table(records, false));
  file.write_table("/levels", details_table(records, true));
  file.write_table("/timings", timings_table(records));
  return file.image();
}

// ------------------------------------------------------------------------------------------- reading

/// Reads rows of a table by column name, checking kinds; the table must outlive it.
class TableReader {
 public:
  TableReader(const Hdf5File& file, const std::string& name)
      : place_(fmt::format("'{}': '{}'", file.path(), name)), table_(file.read_table(name)) {}

  [[nodiscard]] int64_t rows() const { return table_.rows(); }
  [[nodiscard]] const std::vector<int64_t>& integers(const std::string& name) const {
    return values<int64_t>(name, "integers");
  }
  [[nodiscard]] const std::vector<double>& numbers(const std::string& name) const {
    return values<double>(name, "floating-point numbers");
  }
  [[nodiscard]] const std::vector<std::string>& texts(const std::string& name) const {
    return values<std::string>(name, "texts");
  }
  /// Of signed numbers, as version 0.1 wrote them, the bits.
  [[nodiscard]] std::vector<uint64_t> seeds(const std::string& name) const {
    const TableColumn* column = table_.find(name);
    if (column != nullptr)
      if (const auto* bits = std::get_if<std::vector<uint64_t>>(&column->values)) return *bits;
    const std::vector<int64_t>& bits = integers(name);
    return {bits.begin(), bits.end()};
  }
  [[nodiscard]] bool has(const std::string& name) const { return table_.find(name) != nullptr; }
  [[nodiscard]] std::set<std::string> names() const {
    std::set<std::string> all;
    for (const TableColumn& column : table_.columns) all.insert(column.name);
    return all;
  }
  [[noreturn]] void fail(const std::string& what) const { fail_input(place_ + " " + what); }

  /// Fills those columns of `rows` that the table has (a file of an older version lacks some), where they
  /// apply.
  void fill(const std::vector<ColumnSpec>& columns, std::vector<RowValues>& rows) const {
    for (const ColumnSpec& column : columns)
      if (has(column.name)) fill_column(column, rows);
  }

 private:
  template <class T>
  [[nodiscard]] const std::vector<T>& values(const std::string& name, const char* kind) const {
    const TableColumn* column = table_.find(name);
    if (column == nullptr) fail(fmt::format("has no column '{}'", name));
    const auto* vector = std::get_if<std::vector<T>>(&column->values);
    if (vector == nullptr) fail(fmt::format("must hold {} in column '{}', but does not", kind, name));
    return *vector;
  }

  void fill_column(const ColumnSpec& column, std::vector<RowValues>& rows) const {
    const std::string& name = column.name;
    if (column.kind == ColumnKind::seed) {
      const std::vector<uint64_t> column_values = seeds(name);
      for (size_t i = 0; i < rows.size(); ++i) rows[i].set_seed(name, column_values[i]);
    } else if (column.kind == ColumnKind::integer) {
      const std::vector<int64_t>& column_values = integers(name);
      for (size_t i = 0; i < rows.size(); ++i)
        if (column_values[i] != -1) rows[i].set_integer(name, column_values[i]);
    } else if (column.kind == ColumnKind::number) {
      const std::vector<double>& column_values = numbers(name);
      for (size_t i = 0; i < rows.size(); ++i)
        if (!std::isnan(column_values[i])) rows[i].set_number(name, column_values[i]);
    } else {
      const std::vector<std::string>& column_values = texts(name);
      for (size_t i = 0; i < rows.size(); ++i)
        if (!column_values[i].empty()) rows[i].set_text(name, column_values[i]);
    }
  }

  std::string place_;
  Table table_;
};

std::vector<CaseEntry> read_cases(const Hdf5File& file) {
  const TableReader table(file, "/cases");
  std::vector<CaseEntry> cases;
  std::set<std::string> seen;
  for (size_t i = 0; i < static_cast<size_t>(table.rows()); ++i) {
    cases.push_back({table.texts("case_id")[i], table.texts("parameters")[i]});
    if (cases.back().case_id.empty()) table.fail("has a case without case_id in row " + std::to_string(i));
    if (!seen.insert(cases.back().case_id).second)
      table.fail(fmt::format("holds case '{}' twice", cases.back().case_id));
  }
  return cases;
}

/// None in a file of version 0.1.
std::vector<ReadDigest> read_files(const Hdf5File& file) {
  std::vector<ReadDigest> files;
  if (!file.exists("/files")) return files;
  const TableReader table(file, "/files");
  for (size_t i = 0; i < static_cast<size_t>(table.rows()); ++i)
    files.push_back({table.texts("path")[i], table.texts("sha256")[i]});
  return files;
}

void check_trial(const TableReader& table, const RowValues& row, size_t i,
                 const std::map<std::string, int64_t>& places) {
  const std::string where = " in row " + std::to_string(i);
  if (places.count(row.text("case_id")) == 0)
    table.fail(fmt::format("names case '{}', which is not in '/cases',{}", row.text("case_id"), where));
  if (row.integer("trial") < 0)
    table.fail(fmt::format("has trial {}{}; it must be 0 or more", row.integer("trial"), where));
  if (const std::string& status = row.text("status"); !is_status(status))
    table.fail(fmt::format("has status '{}'{}; it must be ok or failed", status, where));
}

/// The value that a column holds for a parameter of /cases, which has JSON of any shape.
std::optional<ParameterValue> value_of(const Json& json, ColumnKind kind) {
  if (json.is_boolean()) return json.get<bool>();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_number() && kind == ColumnKind::number) return json.get<double>();
  if (json.is_number_integer() && !json.is_number_unsigned()) return json.get<int64_t>();
  if (json.is_number_unsigned() && json.get<uint64_t>() <= std::numeric_limits<int64_t>::max())
    return json.get<int64_t>();
  if (!json.is_array()) return {};
  IntegerList list;
  for (const Json& item : json) {
    if (!item.is_number_integer()) return {};
    list.push_back(item.get<int64_t>());
  }
  return list;
}

/// The default of a parameter of a case whose JSON has these of its backend.
std::optional<ParameterValue> default_in_case(const DeclaredParameter& declared, const Json& of_backend) {
  Parameters others;
  for (const OtherDefault& other : declared.spec.other_defaults)
    for (const DeclaredParameter& each : case_parameters()) {
      if (each.owner != declared.owner || each.spec.name != other.parameter) continue;
      const auto found = of_backend.find(other.parameter);
      if (found != of_backend.end() && found->is_string())
        others.set(other.parameter, found->get<std::string>());
      else if (each.spec.default_value)
        others.set(other.parameter, *each.spec.default_value);
    }
  return default_of(declared.spec, others);
}

/// Null for text that is no JSON.
Json parsed(const std::string& text) {
  try {
    return parse_json(text);
  } catch (const Json::exception&) {
    return {};
  }
}

/// The parameters of a case that a file of an earlier version has no columns of, from its JSON and, where
/// they were declared since, at their defaults. And those whose default depends on others: an earlier version
/// may have written another one, which had no effect.
std::vector<std::pair<ParameterSpec, ParameterValue>> lacking_parameters(
    const std::string& json_text, const std::set<std::string>& columns) {
  std::vector<std::pair<ParameterSpec, ParameterValue>> lacking;
  const Json json = parsed(json_text);
  if (!json.is_object()) return lacking;
  const auto word = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const auto inner = [&](const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_object() ? *found : Json::object();
  };
  const Json of_problem = json;
  const Json of_inputs = inner("inputs");
  const Json of_backend = inner("parameters");
  for (const DeclaredParameter& declared : case_parameters()) {
    const bool is_input = declared.of == "inputs" && declared.owner == word("source");
    const bool is_backend = declared.of == "backends" && declared.owner == word("backend");
    const ColumnSpec* column = find_trial_column(column_of(declared.spec));
    if (!is_input && !is_backend && declared.of != "problem") continue;
    if (columns.count(column->name) != 0 && declared.spec.other_defaults.empty()) continue;
    const Json& values = is_input ? of_inputs : is_backend ? of_backend : of_problem;
    const auto found = values.find(declared.spec.name);
    std::optional<ParameterValue> value = default_in_case(declared, of_backend);
    if (found != values.end()) value = value_of(*found, column->kind);
    if (value && check_parameter(declared.spec, *value).empty()) lacking.emplace_back(declared.spec, *value);
  }
  return lacking;
}

/// Fills what the row lacks because the file lacks its column, and corrects what it has of other defaults.
void complete_row(const std::set<std::string>& columns, RowValues more, RowValues& row) {
  std::set<std::string> dependent;
  for (const DeclaredParameter& declared : case_parameters())
    if (!declared.spec.other_defaults.empty()) dependent.insert(column_of(declared.spec));
  for (const std::string& column : dependent)
    if (columns.count(column) != 0 && more.has(column)) (row.has(column) ? row : more).clear(column);
  row.fill_from(more);
}

/// Nothing vanishes from `show` and `--compare` because the file is older than a column.
void complete_parameters(const std::set<std::string>& columns, const std::vector<CaseEntry>& cases,
                         std::vector<TrialRecord>& trials) {
  const auto complete = [&](const DeclaredParameter& declared) {
    return columns.count(column_of(declared.spec)) != 0 && declared.spec.other_defaults.empty();
  };
  if (std::all_of(case_parameters().begin(), case_parameters().end(), complete)) return;
  std::map<std::string, TrialRecord> additions;
  for (const CaseEntry& entry : cases)
    for (const auto& [spec, value] : lacking_parameters(entry.parameters, columns)) {
      Parameters one;
      one.set(spec.name, value);
      additions[entry.case_id].set_parameters({spec}, one);
    }
  for (TrialRecord& record : trials)
    if (const auto found = additions.find(record.key().case_id); found != additions.end())
      complete_row(columns, found->second.row, record.row);
}

std::vector<TrialRecord> read_trials(const Hdf5File& file, const std::vector<CaseEntry>& cases) {
  const TableReader table(file, "/trials");
  for (const std::string name : {"case_id", "status"}) (void)table.texts(name);
  (void)table.integers("trial");
  std::vector<RowValues> rows(static_cast<size_t>(table.rows()));
  table.fill(trial_columns(), rows);
  const std::map<std::string, int64_t> places = case_places(cases);
  std::set<TrialKey> seen;
  std::vector<TrialRecord> trials;
  for (size_t i = 0; i < rows.size(); ++i) {
    check_trial(table, rows[i], i, places);
    TrialRecord record;
    record.row = std::move(rows[i]);
    if (!seen.insert(record.key()).second)
      table.fail(fmt::format("holds trial {} of case '{}' twice", record.key().trial, record.key().case_id));
    trials.push_back(std::move(record));
  }
  complete_parameters(table.names(), cases, trials);
  return trials;
}

/// Finds the trial that a row of another table belongs to.
class TrialFinder {
 public:
  explicit TrialFinder(std::vector<TrialRecord>& trials) {
    for (TrialRecord& record : trials) records_[record.key()] = &record;
  }
  TrialRecord& find(const TableReader& table, size_t i) const {
    const TrialKey key{table.texts("case_id")[i], table.integers("trial")[i]};
    const auto found = records_.find(key);
    if (found == records_.end())
      table.fail(fmt::format("has a row for trial {} of case '{}', which is not in '/trials'", key.trial,
                             key.case_id));
    return *found->second;
  }

 private:
  std::map<TrialKey, TrialRecord*> records_;
};

void read_details(const Hdf5File& file, bool levels, const TrialFinder& finder) {
  const TableReader table(file, levels ? "/levels" : "/heads");
  std::vector<RowValues> rows(static_cast<size_t>(table.rows()));
  table.fill(figure_columns(), rows);
  for (size_t i = 0; i < rows.size(); ++i) {
    DetailRow detail;
    detail.head = table.integers("head")[i];
    if (levels) detail.level = table.integers("level")[i];
    detail.values = std::move(rows[i]);
    if (levels ? detail.level < 0 : detail.head < 0)
      table.fail("has a negative number of its head or level in row " + std::to_string(i));
    finder.find(table, i).details.push_back(std::move(detail));
  }
}

void read_timings(const Hdf5File& file, const TrialFinder& finder) {
  const TableReader table(file, "/timings");
  for (size_t i = 0; i < static_cast<size_t>(table.rows()); ++i)
    finder.find(table, i).add_timing(table.texts("stage")[i], table.integers("repeat")[i],
                                     table.numbers("seconds")[i]);
}

std::vector<AttributeMap> read_provenance(const Hdf5File& file) {
  std::vector<AttributeMap> sessions{file.attributes("/provenance")};
  for (int i = 2; file.exists("/provenance/" + std::to_string(i)); ++i)
    sessions.push_back(file.attributes("/provenance/" + std::to_string(i)));
  return sessions;
}

void check_schema(const ResultsFile& results, const std::string& place) {
  if (results.schema != kResultsSchema)
    fail_input(fmt::format("{} has schema '{}', but this program reads '{}'", place, results.schema,
                           kResultsSchema));
}

ResultsFile read_from(const Hdf5File& file) {
  ResultsFile results;
  results.path = file.path();
  if (!file.has_attribute("/", "schema"))
    fail_input(fmt::format("'{}' is an HDF5 file, but not a results file: it has no attribute 'schema'",
                           file.path()));
  results.schema = file.text_attribute("/", "schema");
  check_schema(results, "'" + file.path() + "'");
  results.run_id = file.text_attribute("/", "run_id");
  results.name = file.text_attribute("/", "name");
  results.created = file.text_attribute("/", "created");
  results.finished = file.text_attribute("/", "finished");
  results.complete = file.boolean_attribute("/", "complete");
  results.trials_per_case = file.integer_attribute("/", "trials_per_case");
  results.shard = file.text_attribute("/", "shard");
  results.config = file.read_text("/config");
  results.provenance = read_provenance(file);
  results.files = read_files(file);
  results.cases = read_cases(file);
  check_plan(results, "'" + file.path() + "': '/'");
  results.trials = read_trials(file, results.cases);
  const TrialFinder finder(results.trials);
  read_details(file, false, finder);
  read_details(file, true, finder);
  read_timings(file, finder);
  return results;
}

}  // namespace

std::vector<TrialKey> ResultsFile::missing() const {
  std::set<TrialKey> done;
  for (const TrialRecord& record : trials)
    if (record.ok()) done.insert(record.key());
  std::vector<TrialKey> keys;
  for (const CaseEntry& entry : cases)
    for (int64_t trial = 0; trial < trials_per_case; ++trial)
      if (done.count({entry.case_id, trial}) == 0) keys.push_back({entry.case_id, trial});
  return keys;
}

void check_plan(const ResultsFile& results, const std::string& place) {
  check_schema(results, place);
  const auto cases = std::max<int64_t>(1, static_cast<int64_t>(results.cases.size()));
  if (results.trials_per_case < 1 || results.trials_per_case > kMaximumTrials / cases)
    fail_input(fmt::format("{} has trials_per_case {}, but with {} cases it must be between 1 and {}", place,
                           results.trials_per_case, results.cases.size(), kMaximumTrials / cases));
}

ResultsFile read_results(const std::string& path) {
  return read_from(Hdf5File::open(path));
}

ResultsFile read_results_image(const std::string& bytes, const std::string& name) {
  return read_from(Hdf5File::open_image(bytes, name));
}

void write_results(const std::string& path, const ResultsFile& results) {
  write_file_durably(path, results_image(path, results));
}

std::string new_run_id() {
  std::random_device device;
  static const char* const kDigits = "0123456789abcdef";
  std::string id;
  for (int i = 0; i < 16; ++i) id += kDigits[device() % 16];
  return id;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace hyperattn
