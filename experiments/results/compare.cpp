#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/text.h"
#include "experiments/results/cases.h"
#include "experiments/results/rank_test.h"
#include "experiments/results/repeat_statistics.h"
#include "experiments/results/reports.h"
#include "experiments/results/text_table.h"

namespace hyperattn {
namespace {

constexpr double kLevel = 0.01;
constexpr size_t kMaxRows = 60;
struct Pair {
  const CaseTrials* a = nullptr;
  const CaseTrials* b = nullptr;
  std::string label;
};

struct Matching {
  std::vector<Pair> pairs;
  size_t only_a = 0;
  size_t only_b = 0;
  bool by_parameters = false;  ///< some pairs have different case_ids
};

/// The figures that say how wrong a result is, the ones that most readers want first.
std::vector<std::string> error_figures() {
  std::vector<std::string> figures;
  for (const bool headline : {true, false})
    for (const ColumnSpec& column : trial_columns())
      if (column.is_error && column.is_headline == headline) figures.push_back(column.name);
  return figures;
}

/// Cases by the text of all their parameters; where two share one, neither can be matched by it.
std::map<std::string, const CaseTrials*> by_parameters(const Cases& cases) {
  std::map<std::string, const CaseTrials*> map;
  for (const CaseTrials& entry : cases) {
    const auto [place, is_new] = map.emplace(all_parameters(entry), &entry);
    if (!is_new) place->second = nullptr;
  }
  return map;
}

Matching match(const Cases& a, const Cases& b, const CaseNames& names) {
  std::map<std::string, const CaseTrials*> b_ids;
  for (const CaseTrials& entry : b) b_ids[entry.case_id] = &entry;
  const auto a_parameters = by_parameters(a);
  const auto b_parameters = by_parameters(b);
  Matching matching;
  std::set<const CaseTrials*> taken;
  for (const CaseTrials& entry : a) {
    const CaseTrials* partner = nullptr;
    const std::string parameters = all_parameters(entry);
    if (const auto found = b_ids.find(entry.case_id); found != b_ids.end()) {
      partner = found->second;
    } else if (a_parameters.at(parameters) != nullptr && b_parameters.count(parameters) != 0) {
      partner = b_parameters.at(parameters);
      matching.by_parameters = matching.by_parameters || partner != nullptr;
    }
    if (partner == nullptr || !taken.insert(partner).second) {
      ++matching.only_a;
      continue;
    }
    matching.pairs.push_back({&entry, partner, names.label(entry)});
  }
  matching.only_b = b.size() - matching.pairs.size();
  return matching;
}

/// What was measured otherwise: "repeats 3 in A, 5 in B".
void print_settings(const Cases& a, const Cases& b, std::ostream& out) {
  if (a.empty() || b.empty()) return;
  for (const ColumnSpec& column : trial_columns()) {
    if (column.role != ColumnRole::setting) continue;
    const RowValues& in_a = a.front().first();
    const RowValues& in_b = b.front().first();
    // A file of an earlier version has no such columns.
    if (!in_a.has(column.name) || !in_b.has(column.name)) continue;
    const std::string value_a = value_text(in_a, column);
    const std::string value_b = value_text(in_b, column);
    if (value_a != value_b)
      out << "measured otherwise: " << column.name << ' ' << value_a << " in A, " << value_b << " in B\n";
  }
}

struct Verdicts {
  size_t better = 0;
  size_t worse = 0;
  size_t same = 0;
  size_t too_few = 0;
};

/// Tests b against a, where smaller values are better, and counts and words the outcome.
std::string verdict(const std::vector<double>& a, const std::vector<double>& b, const char* better,
                    const char* worse, Verdicts& counts, double& p) {
  p = rank_test(a, b);
  if (smallest_p_value(a.size(), b.size()) >= kLevel) {
    ++counts.too_few;
    return "too few to tell";
  }
  if (p >= kLevel) {
    ++counts.same;
    return "no significant difference";
  }
  const bool is_better = median(b) < median(a);
  ++(is_better ? counts.better : counts.worse);
  return is_better ? better : worse;
}

std::string ratio_text(double b, double a) {
  return figure_text(b / a, 3);
}

void print_verdicts(const Verdicts& counts, const char* better, const char* worse, std::ostream& out) {
  const size_t tested = counts.better + counts.worse + counts.same;
  out << "\nSignificant at 1 %: " << counts.better << ' ' << better << ", " << counts.worse << ' ' << worse
      << "; " << counts.same << " without a significant difference";
  if (counts.too_few > 0)
    out << "; " << counts.too_few << " with too few values for any verdict (5 on each side are enough)";
  out << ".\n";
  if (tested >= 20)
    out << "Of " << tested << " tests, about "
        << figure_text(std::round(static_cast<double>(tested) * kLevel * 10) / 10)
        << " would be significant by chance alone.\n";
}

TextTable comparison_table(bool with_figure) {
  using Align = TextTable::Align;
  TextTable table;
  table.add_key_column("case", Align::left);
  if (with_figure) table.add_column("figure", Align::left);
  for (const std::string title : {"values", "A", "B", "B/A", "p"}) table.add_column(title, Align::right);
  table.add_column("verdict", Align::left);
  return table;
}

std::string count_text(const std::vector<double>& a, const std::vector<double>& b) {
  return std::to_string(a.size()) + "/" + std::to_string(b.size());
}

void compare_speed(const Matching& matching, std::ostream& out, size_t width) {
  out << "\nSpeed: medians of the raw repeats of all trials (Mann-Whitney, two-sided)\n\n";
  TextTable table = comparison_table(false);
  Verdicts counts;
  size_t rows = 0;
  for (const Pair& pair : matching.pairs) {
    const std::vector<double> a = pair.a->repeats();
    const std::vector<double> b = pair.b->repeats();
    if (a.empty() || b.empty()) continue;
    double p = 1;
    const std::string word = verdict(a, b, "faster", "SLOWER", counts, p);
    if (++rows > kMaxRows) continue;
    table.add_row({pair.label, count_text(a, b), seconds_text(median(a)), seconds_text(median(b)),
                   ratio_text(median(b), median(a)), figure_text(p, 2), word});
  }
  if (rows == 0) {
    out << "no timings in common\n";
    return;
  }
  table.print(out, width);
  if (rows > kMaxRows) out << "… and " << rows - kMaxRows << " more cases, counted below\n";
  print_verdicts(counts, "faster", "slower", out);
}

void compare_errors(const Matching& matching, std::ostream& out, size_t width) {
  out << "\nError: medians over the trials, where any trial differs (Mann-Whitney, two-sided)\n\n";
  const std::vector<std::string> errors = error_figures();
  TextTable table = comparison_table(true);
  Verdicts counts;
  size_t rows = 0;
  size_t equal = 0;
  for (const Pair& pair : matching.pairs)
    for (const std::string& figure : errors) {
      const std::vector<double> a = pair.a->values(figure);
      const std::vector<double> b = pair.b->values(figure);
      if (a.empty() || b.empty()) continue;
      if (a == b) {
        ++equal;
        continue;
      }
      double p = 1;
      const std::string word = verdict(a, b, "smaller", "LARGER", counts, p);
      if (++rows > kMaxRows) continue;
      table.add_row({pair.label, figure, count_text(a, b), figure_text(median(a)), figure_text(median(b)),
                     ratio_text(median(b), median(a)), figure_text(p, 2), word});
    }
  if (rows + equal == 0) {
    out << "no errors in common\n";
    return;
  }
  if (!table.empty()) table.print(out, width);
  if (rows > kMaxRows) out << "… and " << rows - kMaxRows << " more, counted below\n";
  if (equal > 0) out << (rows > 0 ? "\n" : "") << equal << " error figures are equal to the last bit.\n";
  if (rows > 0) print_verdicts(counts, "smaller", "larger", out);
}

void compare_failures(const Matching& matching, std::ostream& out) {
  for (const Pair& pair : matching.pairs) {
    const int64_t a = pair.a->ok_count();
    const int64_t b = pair.b->ok_count();
    if (a == b) continue;
    out << (a > b ? "\nFEWER RESULTS" : "\nmore results") << " in B: " << pair.label << ": " << a
        << " trials ok in A, " << b << " in B\n";
  }
}

void print_file(const char* letter, const ResultsFile& results, std::ostream& out) {
  out << letter << ": " << results.path << " (" << one_line(results.name) << ", "
      << one_line(results.created);
  for (const std::string name : {"version", "commit", "processor"}) {
    const auto found = results.provenance.front().find(name);
    if (found == results.provenance.front().end()) continue;
    if (const auto* text = std::get_if<std::string>(&found->second)) out << ", " << one_line(*text);
  }
  out << ")\n";
}

}  // namespace

void compare_results(const ResultsFile& a, const ResultsFile& b, std::ostream& out, size_t width) {
  print_file("A", a, out);
  print_file("B", b, out);
  const Cases a_cases = trials_by_case(a);
  const Cases b_cases = trials_by_case(b);
  const CaseNames names({&a_cases, &b_cases});
  const Matching matching = match(a_cases, b_cases, names);
  print_settings(a_cases, b_cases, out);
  out << '\n' << matching.pairs.size() << " cases in common";
  if (matching.by_parameters)
    out << " (some matched by their parameters, since their seeds or versions differ)";
  out << ", " << matching.only_a << " only in A, " << matching.only_b << " only in B\n";
  for (const auto& [text, whole] : names.shortened())
    out << "  " << one_line(fmt::format("{} is {}", text, whole)) << '\n';
  if (matching.pairs.empty()) return;
  compare_speed(matching, out, width);
  compare_errors(matching, out, width);
  compare_failures(matching, out);
}

}  // namespace hyperattn
