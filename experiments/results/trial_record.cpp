#include "experiments/results/trial_record.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/utf8.h"
#include "experiments/results/declared.h"

namespace hyperattn {
namespace {

constexpr size_t kMaxText = 1000;
constexpr const char* kOk = "ok";
constexpr const char* kFailed = "failed";
constexpr const char* kSkipped = "skipped";

int index_of(const std::string& column, ColumnKind kind) {
  const int index = trial_column_index(column);
  if (index < 0) throw std::logic_error(fmt::format("results column '{}' is not in the schema", column));
  if (trial_columns()[static_cast<size_t>(index)].kind != kind)
    throw std::logic_error(fmt::format("results column '{}' is of another kind", column));
  return index;
}

template <class T>
auto place_of(T& values, int index) {
  return std::lower_bound(values.begin(), values.end(), index,
                          [](const auto& entry, int i) { return entry.first < i; });
}

template <class T>
void put(std::vector<std::pair<int, T>>& values, int index, T value) {
  const auto place = place_of(values, index);
  if (place != values.end() && place->first == index)
    place->second = std::move(value);
  else
    values.emplace(place, index, std::move(value));
}

/// The value of a column, or null.
template <class T>
const T* get(const std::vector<std::pair<int, T>>& values, int index) {
  const auto place = place_of(values, index);
  return place != values.end() && place->first == index ? &place->second : nullptr;
}

bool same_number(double a, double b) {
  return a == b || (std::isnan(a) && std::isnan(b));
}

}  // namespace

void RowValues::set_integer(const std::string& column, int64_t value) {
  put(integers_, index_of(column, ColumnKind::integer), value);
}

void RowValues::set_number(const std::string& column, double value) {
  put(numbers_, index_of(column, ColumnKind::number), value);
}

void RowValues::set_text(const std::string& column, const std::string& value) {
  put(texts_, index_of(column, ColumnKind::text), cut_utf8(value, kMaxText));
}

void RowValues::set_seed(const std::string& column, uint64_t value) {
  put(integers_, index_of(column, ColumnKind::seed), static_cast<int64_t>(value));
}

uint64_t RowValues::seed(const std::string& column) const {
  const int64_t* value = get(integers_, index_of(column, ColumnKind::seed));
  return value == nullptr ? 0 : static_cast<uint64_t>(*value);
}

int64_t RowValues::integer(const std::string& column) const {
  const int64_t* value = get(integers_, index_of(column, ColumnKind::integer));
  return value == nullptr ? -1 : *value;
}

double RowValues::number(const std::string& column) const {
  const double* value = get(numbers_, index_of(column, ColumnKind::number));
  return value == nullptr ? std::numeric_limits<double>::quiet_NaN() : *value;
}

const std::string& RowValues::text(const std::string& column) const {
  static const std::string kAbsent;
  const std::string* value = get(texts_, index_of(column, ColumnKind::text));
  return value == nullptr ? kAbsent : *value;
}

void RowValues::fill_from(const RowValues& other) {
  const auto fill = [](auto& mine, const auto& others) {
    for (const auto& [index, value] : others)
      if (get(mine, index) == nullptr) put(mine, index, value);
  };
  fill(integers_, other.integers_);
  fill(numbers_, other.numbers_);
  fill(texts_, other.texts_);
}

void RowValues::clear(const std::string& column) {
  const int index = trial_column_index(column);
  const auto is_there = [index](const auto& entry) { return entry.first == index; };
  std::erase_if(integers_, is_there);
  std::erase_if(numbers_, is_there);
  std::erase_if(texts_, is_there);
}

bool RowValues::has(const std::string& column) const {
  const int index = trial_column_index(column);
  return get(integers_, index) != nullptr || get(numbers_, index) != nullptr || get(texts_, index) != nullptr;
}

bool RowValues::same_as(const RowValues& other) const {
  for (const ColumnSpec& column : trial_columns()) {
    if (column.kind == ColumnKind::integer && integer(column.name) != other.integer(column.name))
      return false;
    if (column.kind == ColumnKind::number && !same_number(number(column.name), other.number(column.name)))
      return false;
    if (column.kind == ColumnKind::text && text(column.name) != other.text(column.name)) return false;
    if (column.kind == ColumnKind::seed && seed(column.name) != other.seed(column.name)) return false;
  }
  return true;
}

bool is_status(const std::string& text) {
  return text == kOk || text == kFailed || text == kSkipped;
}

bool TrialRecord::ok() const {
  return row.text("status") == kOk;
}

void TrialRecord::succeed() {
  row.set_text("status", kOk);
}

void TrialRecord::fail(const std::string& message) {
  row.set_text("status", kFailed);
  row.set_text("message", message);
}

void TrialRecord::set_parameters(const std::vector<ParameterSpec>& specs, const Parameters& parameters) {
  for (const ParameterSpec& spec : specs) {
    if (!parameters.has(spec.name)) continue;
    const ParameterValue& value = parameters.all().at(spec.name);
    const std::string& name = column_of(spec);
    const ColumnSpec* column = find_trial_column(name);
    if (column == nullptr) continue;  // of a registry of tests
    if (column->kind == ColumnKind::text) row.set_text(name, to_string(value));
    if (column->kind == ColumnKind::integer) {
      if (const auto* integer = std::get_if<int64_t>(&value)) row.set_integer(name, *integer);
      if (const auto* truth = std::get_if<bool>(&value)) row.set_integer(name, *truth ? 1 : 0);
    }
    if (column->kind == ColumnKind::number && !parameters.is_text(spec.name))
      row.set_number(name, parameters.number(spec.name));
  }
}

void TrialRecord::add(const FigureRow& figures) {
  RowValues* values = &row;
  if (figures.head >= 0 || figures.level >= 0) {
    values = nullptr;
    for (DetailRow& detail : details)
      if (detail.head == figures.head && detail.level == figures.level) values = &detail.values;
    if (values == nullptr) {
      details.push_back({figures.head, figures.level, {}});
      values = &details.back().values;
    }
  }
  for (const auto& [name, value] : figures.figures) values->set_number(name, value);
  for (const auto& [name, value] : figures.texts) values->set_text(name, value);
}

bool TrialRecord::same_as(const TrialRecord& other) const {
  if (!row.same_as(other.row) || details.size() != other.details.size() ||
      timings.size() != other.timings.size())
    return false;
  for (size_t i = 0; i < details.size(); ++i) {
    const DetailRow& a = details[i];
    const DetailRow& b = other.details[i];
    if (a.head != b.head || a.level != b.level || !a.values.same_as(b.values)) return false;
  }
  for (size_t i = 0; i < timings.size(); ++i) {
    const TimingRow& a = timings[i];
    const TimingRow& b = other.timings[i];
    if (a.stage != b.stage || a.repeat != b.repeat || !same_number(a.seconds, b.seconds)) return false;
  }
  return true;
}

}  // namespace hyperattn
