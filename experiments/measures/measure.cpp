#include "experiments/measures/measure.h"

#include "experiments/measures/measures.h"

namespace hyperattn {

FigureSpec FigureSpec::in_unit(const std::string& name_of_unit) const {
  FigureSpec figure = *this;
  figure.unit = name_of_unit;
  return figure;
}

FigureSpec FigureSpec::headline() const {
  FigureSpec figure = *this;
  figure.is_headline = true;
  return figure;
}

FigureSpec FigureSpec::error() const {
  FigureSpec figure = *this;
  figure.is_error = true;
  return figure;
}

FigureSpec FigureSpec::text() const {
  FigureSpec figure = *this;
  figure.is_text = true;
  return figure;
}

const std::vector<const Measure*>& all_measures() {
  static const std::vector<const Measure*> measures = {
      &timing_measure(),        &spectral_error_measure(), &diagonal_error_measure(),
      &product_error_measure(), &alpha_measure(),          &kappa_measure(),
      &mask_mass_measure(),     &bound_measure(),          &query_moves_measure()};
  return measures;
}

const Measure* find_measure(const std::string& name) {
  for (const Measure* measure : all_measures())
    if (measure->name() == name) return measure;
  return nullptr;
}

}  // namespace hyperattn
