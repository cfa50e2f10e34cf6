#include "experiments/results/record_text.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "core/error.h"
#include "experiments/files/json_file.h"

namespace hyperattn {
namespace {

using Json = nlohmann::json;

/// JSON has no words for what is not finite.
Json number_json(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

double number_of(const Json& json) {
  if (json.is_number()) return json.get<double>();
  const auto& word = json.get_ref<const std::string&>();
  if (word == "nan") return std::numeric_limits<double>::quiet_NaN();
  if (word == "inf") return std::numeric_limits<double>::infinity();
  if (word == "-inf") return -std::numeric_limits<double>::infinity();
  throw std::invalid_argument(fmt::format("'{}' is not a number", word));
}

/// The library would convert 1e88 without a word.
int64_t integer_of(const Json& json) {
  const bool fits = json.is_number_integer() &&
                    (!json.is_number_unsigned() ||
                     json.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  if (!fits) throw std::invalid_argument(fmt::format("'{}' is not a 64-bit integer", json_line(json)));
  return json.get<int64_t>();
}

/// A journal of version 0.1 has the same bits as a signed number.
uint64_t seed_of(const Json& json) {
  if (!json.is_number_integer())
    throw std::invalid_argument(fmt::format("'{}' is not a seed", json_line(json)));
  return json.is_number_unsigned() ? json.get<uint64_t>() : static_cast<uint64_t>(json.get<int64_t>());
}

Json row_json(const RowValues& row) {
  Json json = Json::object();
  for (const ColumnSpec& column : trial_columns()) {
    const std::string& name = column.name;
    if (!row.has(name)) continue;
    if (column.kind == ColumnKind::integer) json[name] = row.integer(name);
    if (column.kind == ColumnKind::number) json[name] = number_json(row.number(name));
    if (column.kind == ColumnKind::text) json[name] = row.text(name);
    if (column.kind == ColumnKind::seed) json[name] = row.seed(name);
  }
  return json;
}

RowValues row_of(const Json& json) {
  RowValues row;
  for (const auto& [name, value] : json.get_ref<const Json::object_t&>()) {
    const ColumnSpec* column = find_trial_column(name);
    if (column == nullptr) throw std::invalid_argument(fmt::format("unknown column '{}'", name));
    if (column->kind == ColumnKind::integer) row.set_integer(name, integer_of(value));
    if (column->kind == ColumnKind::number) row.set_number(name, number_of(value));
    if (column->kind == ColumnKind::text) row.set_text(name, value.get<std::string>());
    if (column->kind == ColumnKind::seed) row.set_seed(name, seed_of(value));
  }
  return row;
}

Json attributes_json(const AttributeMap& attributes) {
  Json json = Json::object();
  for (const auto& [name, value] : attributes) {
    if (const auto* integer = std::get_if<int64_t>(&value)) json[name] = *integer;
    if (const auto* number = std::get_if<double>(&value)) json[name] = {{"number", number_json(*number)}};
    if (const auto* truth = std::get_if<bool>(&value)) json[name] = *truth;
    if (const auto* text = std::get_if<std::string>(&value)) json[name] = *text;
  }
  return json;
}

AttributeMap attributes_of(const Json& json) {
  AttributeMap attributes;
  for (const auto& [name, value] : json.get_ref<const Json::object_t&>()) {
    if (value.is_boolean())
      attributes[name] = value.get<bool>();
    else if (value.is_number_integer())
      attributes[name] = integer_of(value);
    else if (value.is_string())
      attributes[name] = value.get<std::string>();
    else
      attributes[name] = number_of(value.at("number"));
  }
  return attributes;
}

/// Runs `read` on the parsed text and gives every way in which that can fail its place.
template <class Read>
auto parse(const std::string& text, const std::string& place, const Read& read) {
  try {
    return read(parse_json(text));
  } catch (const Json::exception& error) {
    fail_input(fmt::format("{} is damaged: {}", place, error.what()));
  } catch (const std::invalid_argument& error) {
    fail_input(fmt::format("{} is damaged: {}", place, error.what()));
  }
}

}  // namespace

std::string encode_record(const TrialRecord& record) {
  Json json{{"row", row_json(record.row)}, {"details", Json::array()}, {"timings", Json::array()}};
  for (const DetailRow& detail : record.details)
    json["details"].push_back({detail.head, detail.level, row_json(detail.values)});
  for (const TimingRow& timing : record.timings)
    json["timings"].push_back({timing.stage, timing.repeat, number_json(timing.seconds)});
  return json_line(json);
}

TrialRecord decode_record(const std::string& text, const std::string& place) {
  return parse(text, place, [](const Json& json) {
    TrialRecord record;
    record.row = row_of(json.at("row"));
    for (const Json& detail : json.at("details"))
      record.details.push_back({integer_of(detail.at(0)), integer_of(detail.at(1)), row_of(detail.at(2))});
    for (const Json& timing : json.at("timings"))
      record.add_timing(timing.at(0).get<std::string>(), integer_of(timing.at(1)), number_of(timing.at(2)));
    return record;
  });
}

std::string encode_header(const ResultsFile& results) {
  Json json{{"schema", results.schema},
            {"run_id", results.run_id},
            {"name", results.name},
            {"created", results.created},
            {"trials_per_case", results.trials_per_case},
            {"shard", results.shard},
            {"config", results.config},
            {"provenance", Json::array()},
            {"files", Json::array()},
            {"cases", Json::array()}};
  for (const AttributeMap& session : results.provenance)
    json["provenance"].push_back(attributes_json(session));
  for (const ReadDigest& file : results.files) json["files"].push_back({file.path, file.sha256});
  for (const CaseEntry& entry : results.cases) json["cases"].push_back({entry.case_id, entry.parameters});
  return json_line(json);
}

ResultsFile decode_header(const std::string& text, const std::string& place) {
  return parse(text, place, [](const Json& json) {
    ResultsFile results;
    results.schema = json.at("schema").get<std::string>();
    results.run_id = json.at("run_id").get<std::string>();
    results.name = json.at("name").get<std::string>();
    results.created = json.at("created").get<std::string>();
    results.trials_per_case = integer_of(json.at("trials_per_case"));
    results.shard = json.at("shard").get<std::string>();
    results.config = json.at("config").get<std::string>();
    results.provenance.clear();
    for (const Json& session : json.at("provenance")) results.provenance.push_back(attributes_of(session));
    for (const Json& file : json.value("files", Json::array()))
      results.files.push_back({file.at(0).get<std::string>(), file.at(1).get<std::string>()});
    for (const Json& entry : json.at("cases"))
      results.cases.push_back({entry.at(0).get<std::string>(), entry.at(1).get<std::string>()});
    return results;
  });
}

}  // namespace hyperattn
