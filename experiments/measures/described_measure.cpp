#include "experiments/measures/described_measure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace hyperattn {
namespace {

bool ends_in(const std::string& text, const std::string& ending) {
  return text.size() >= ending.size() &&
         text.compare(text.size() - ending.size(), ending.size(), ending) == 0;
}

double over_heads(const std::string& name, const std::vector<FigureRow>& heads) {
  double sum = 0;
  double smallest = INFINITY;
  double largest = -INFINITY;
  for (const FigureRow& row : heads) {
    const double value = row.figures.at(name);
    if (std::isnan(value)) return value;
    sum += value;
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
  }
  if (ends_in(name, "_mean")) return sum / static_cast<double>(heads.size());
  return ends_in(name, "_min") ? smallest : largest;
}

int badness(const std::string& status) {
  static const std::array<NormStatus, 3> order = {NormStatus::converged, NormStatus::not_converged,
                                                  NormStatus::not_finite};
  for (size_t i = 0; i < order.size(); ++i)
    if (status == norm_status_name(order[i])) return static_cast<int>(i);
  return -1;
}

}  // namespace

std::vector<FigureRow> with_trial_row(std::vector<FigureRow> heads) {
  FigureRow trial;
  for (const auto& [name, value] : heads.front().figures) trial.figures[name] = over_heads(name, heads);
  for (const FigureRow& row : heads)
    for (const auto& [name, text] : row.texts)
      if (badness(text) > badness(trial.texts[name])) trial.texts[name] = text;
  heads.insert(heads.begin(), std::move(trial));
  return heads;
}

std::vector<FigureRow> rows_of_heads(MeasureContext& context,
                                     const std::function<void(int64_t head, FigureRow& row)>& head_row) {
  std::vector<FigureRow> rows;
  for (int64_t head = 0; head < context.problem().heads(); ++head) {
    FigureRow row;
    row.head = head;
    head_row(head, row);
    rows.push_back(std::move(row));
  }
  return with_trial_row(std::move(rows));
}

double larger(double a, double b) {
  return std::isnan(a) || b < a ? a : b;
}

void LevelRows::note(int level, const std::string& figure, double value) {
  if (level == 0) return;
  FigureRow& row = rows_[level];
  row.level = level;
  const auto [place, is_new] = row.figures.emplace(figure, value);
  if (!is_new) place->second = larger(place->second, value);
}

void LevelRows::append_to(std::vector<FigureRow>& rows) const {
  for (const auto& [level, row] : rows_) rows.push_back(row);
}

double smallest_factor(double value, double scale) {
  return value == 0 && scale == 0 ? 0 : value / scale;
}

void set_norm_figures(MeasureContext& context, int64_t head, FigureRow& row) {
  const OperatorNorm& worst = context.worst_norm(head);
  row.texts["norm_status"] = norm_status_name(worst.status);
  row.figures["norm_residual"] = worst.residual;
}

}  // namespace hyperattn
