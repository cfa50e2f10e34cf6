#include <fmt/core.h>

#include <algorithm>
#include <functional>
#include <map>
#include <sstream>

#include "core/text.h"
#include "experiments/results/cases.h"
#include "experiments/results/repeat_statistics.h"
#include "experiments/results/reports.h"
#include "experiments/results/text_table.h"

namespace hyperattn {
namespace {

constexpr size_t kMaxFailuresNamed = 20;

std::string attribute_text(const AttributeMap& attributes, const std::string& name) {
  const auto found = attributes.find(name);
  if (found == attributes.end()) return {};
  if (const auto* text = std::get_if<std::string>(&found->second)) return one_line(*text);
  if (const auto* integer = std::get_if<int64_t>(&found->second)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&found->second)) return figure_text(*number);
  return std::get<bool>(found->second) ? "true" : "false";
}

/// A line each.
std::vector<std::string> warnings_of(const AttributeMap& session) {
  const auto found = session.find("warnings");
  if (found == session.end() || !std::holds_alternative<std::string>(found->second)) return {};
  std::istringstream lines(std::get<std::string>(found->second));
  std::vector<std::string> warnings;
  for (std::string line; std::getline(lines, line);) warnings.push_back(one_line(line));
  return warnings;
}

void print_heading(const ResultsFile& results, std::ostream& out) {
  out << one_line(results.name) << "  (" << results.path << ")\n";
  out << "begun " << one_line(results.created);
  if (!results.finished.empty()) out << ", ended " << one_line(results.finished);
  if (!results.shard.empty()) out << ", shard " << one_line(results.shard);
  out << (results.complete ? ", complete\n" : ", NOT complete\n");
  const AttributeMap& run = results.provenance.front();
  std::vector<std::string> machine;
  for (const auto& [name, before, after] : {std::tuple{"processor", "", ""},
                                            {"threads", "", " threads"},
                                            {"instruction_set", "", ""},
                                            {"version", "hyperattn ", ""},
                                            {"commit", "commit ", ""},
                                            {"compiler", "", ""}})
    if (const std::string value = attribute_text(run, name); !value.empty())
      machine.push_back((before + value) + after);
  if (!machine.empty()) out << join(machine) << '\n';
  if (results.provenance.size() > 1)
    out << results.provenance.size() << " sessions or merged files wrote these results\n";
  for (const AttributeMap& session : results.provenance)
    for (const std::string& warning : warnings_of(session)) out << "warning: " << warning << '\n';
}

void print_counts(const ResultsFile& results, std::ostream& out) {
  std::map<std::string, int64_t> by_status;
  for (const TrialRecord& record : results.trials) ++by_status[record.row.text("status")];
  out << '\n' << results.cases.size() << " cases, " << results.trials.size() << " trials";
  for (const auto& [status, count] : by_status) out << ", " << count << ' ' << status;
  const size_t missing = results.missing().size();
  if (missing > 0) out << "; " << missing << " without a result";
  out << '\n';
}

/// Figures that some trial has, in the schema's order.
std::vector<ColumnSpec> present_figures(const Cases& cases) {
  std::vector<ColumnSpec> present;
  for (const ColumnSpec& column : trial_columns()) {
    if (column.role != ColumnRole::figure || column.kind != ColumnKind::number) continue;
    for (const CaseTrials& entry : cases)
      if (!entry.values(column.name).empty()) {
        present.push_back(column);
        break;
      }
  }
  return present;
}

double median_peak(const CaseTrials& entry) {
  std::vector<double> values;
  for (const TrialRecord* record : entry.trials)
    if (record->ok() && record->row.integer("peak_bytes") >= 0)
      values.push_back(static_cast<double>(record->row.integer("peak_bytes")));
  return values.empty() ? -1 : median(values);
}

/// A figure's column: its title, and its text for a case.
struct ShownColumn {
  std::string title;
  std::function<std::string(const CaseTrials&)> text;
};

ShownColumn figure_column(const std::string& column, const std::string& title, int digits) {
  return {title, [=](const CaseTrials& entry) { return figure_text(median(entry.values(column)), digits); }};
}

ShownColumn seconds_column(const std::string& column, const std::string& title) {
  return {title, [=](const CaseTrials& entry) { return seconds_text(median(entry.values(column))); }};
}

std::vector<ShownColumn> shown_columns(const Cases& cases, int64_t trials_per_case, bool all) {
  std::vector<ShownColumn> columns{{"ok",
                                    [=](const CaseTrials& entry) {
                                      return std::to_string(entry.ok_count()) + "/" +
                                             std::to_string(trials_per_case);
                                    }},
                                   seconds_column("seconds", "time"),
                                   seconds_column("seconds_mad", "± MAD"),
                                   figure_column("speedup", "speedup", 3),
                                   figure_column("bits_per_token", "bits/token", 4),
                                   figure_column("perplexity", "perplexity", 4),
                                   seconds_column("attention_seconds", "attention"),
                                   figure_column("attention_speedup", "att. speedup", 3)};
  for (const ColumnSpec& figure : present_figures(cases))
    if (all || figure.is_headline) columns.push_back(figure_column(figure.name, figure.name, 4));
  if (all) {
    columns.push_back(figure_column("gflops", "GFLOP/s", 3));
    columns.push_back({"peak", [](const CaseTrials& entry) { return bytes_text(median_peak(entry)); }});
  }
  return columns;
}

/// "  heads=4, head_dim=64", a line or several.
void print_words(const std::string& head, std::vector<std::string> words, size_t width, std::ostream& out) {
  if (words.empty()) return;
  for (std::string& word : words) word = one_line(word);
  words.front() = head + words.front();
  out << wrapped_list(words, "  ", width) << '\n';
}

/// What the table leaves out because it is the same in all rows, or follows from the name of the inputs.
void print_what_is_not_told(const CaseNames& names, size_t width, std::ostream& out) {
  for (const auto& [label, text] : names.inputs())
    print_words(fmt::format("input {}: ", label), {text}, width, out);
  std::vector<std::string> same;
  for (const auto& [column, value] : names.same()) same.push_back(column + "=" + value);
  print_words("the same in all: ", same, width, out);
  for (const auto& [text, whole] : names.shortened())
    out << "  " << one_line(fmt::format("{} is {}", text, whole)) << '\n';
}

bool is_number(const std::string& column) {
  const ColumnSpec* spec = find_trial_column(column);
  return spec != nullptr && spec->kind != ColumnKind::text;
}

void print_cases(const ResultsFile& results, const Cases& cases, const CaseNames& names, std::ostream& out,
                 const ShowOptions& options) {
  const std::vector<std::string>& keys = names.columns();
  const std::vector<ShownColumn> columns = shown_columns(cases, results.trials_per_case, options.all);
  using Align = TextTable::Align;
  TextTable table;
  for (const std::string& key : keys) table.add_key_column(key, is_number(key) ? Align::right : Align::left);
  for (const ShownColumn& column : columns) table.add_column(column.title, Align::right);
  for (const CaseTrials& entry : cases) {
    std::vector<std::string> cells;
    for (const std::string& key : keys) cells.push_back(names.shown(entry, key));
    for (const ShownColumn& column : columns) cells.push_back(column.text(entry));
    table.add_row(std::move(cells));
  }
  if (table.empty()) return;
  out << "\nMedians over the trials of each case; speedup is over "
      << (is_language_model(results) ? "no layer replaced" : "the fastest exact attention")
      << (options.all ? ".\n" : "; --all shows every figure.\n");
  print_what_is_not_told(names, options.width, out);
  out << '\n';
  table.print(out, options.width);
}

void print_norm_status(const ResultsFile& results, std::ostream& out) {
  std::map<std::string, int64_t> counts;
  for (const TrialRecord& record : results.trials)
    if (!record.row.text("norm_status").empty()) ++counts[record.row.text("norm_status")];
  if (counts.empty()) return;
  out << "\nnorms:";
  std::string separator = " ";
  for (const auto& [status, count] : counts) {
    out << separator << one_line(status) << " in " << count << " trials";
    separator = ", ";
  }
  out << '\n';
}

void print_failures(const ResultsFile& results, const Cases& cases, const CaseNames& names,
                    std::ostream& out) {
  std::map<std::string, std::string> labels;
  for (const CaseTrials& entry : cases) labels[entry.case_id] = names.label(entry);
  size_t named = 0;
  size_t all = 0;
  for (const TrialRecord& record : results.trials) {
    if (record.ok()) continue;
    if (all++ == 0) out << "\nWithout a result:\n";
    if (++named <= kMaxFailuresNamed)
      out << "  " << labels[record.key().case_id] << ", trial " << record.row.integer("trial") << ", "
          << record.row.text("status") << ": " << one_line(record.row.text("message")) << '\n';
  }
  if (all > kMaxFailuresNamed) out << "  … and " << all - kMaxFailuresNamed << " more\n";
}

}  // namespace

void show_results(const ResultsFile& results, std::ostream& out, const ShowOptions& options) {
  print_heading(results, out);
  print_counts(results, out);
  const Cases cases = trials_by_case(results);
  const CaseNames names({&cases});
  print_cases(results, cases, names, out, options);
  print_norm_status(results, out);
  print_failures(results, cases, names, out);
}

}  // namespace hyperattn
