// The measures, one file each.
#pragma once

#include "experiments/measures/measure.h"

namespace hyperattn {

[[nodiscard]] const Measure& timing_measure();  ///< filled in by the runner, which has the clock
[[nodiscard]] const Measure& spectral_error_measure();
[[nodiscard]] const Measure& diagonal_error_measure();
[[nodiscard]] const Measure& product_error_measure();
[[nodiscard]] const Measure& alpha_measure();
[[nodiscard]] const Measure& kappa_measure();
[[nodiscard]] const Measure& mask_mass_measure();
[[nodiscard]] const Measure& bound_measure();
[[nodiscard]] const Measure& query_moves_measure();

}  // namespace hyperattn
