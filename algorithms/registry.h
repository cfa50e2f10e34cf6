// What there is: methods, masks, residuals and engines, and the pairs of method and engine that a
// configuration calls backends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "algorithms/engine.h"
#include "algorithms/masks/mask.h"
#include "algorithms/method.h"
#include "algorithms/residuals/residual.h"

namespace hyperattn {

class Backend;

[[nodiscard]] const std::vector<const Method*>& all_methods();
[[nodiscard]] const std::vector<const Mask*>& all_masks();
[[nodiscard]] const std::vector<const Residual*>& all_residuals();
[[nodiscard]] const std::vector<const Engine*>& all_engines();

/// The one of that name, or null.
[[nodiscard]] const Method* find_method(const std::string& name);
[[nodiscard]] const Mask* find_mask(const std::string& name);
[[nodiscard]] const Residual* find_residual(const std::string& name);
[[nodiscard]] const Engine* find_engine(const std::string& name);

/// The mask that computes nothing exactly, and the residual that leaves all other keys out.
[[nodiscard]] const Mask& mask_none();
[[nodiscard]] const Residual& residual_none();

/// The engine that methods run on unless another is asked for.
[[nodiscard]] const Engine& default_engine();
/// Exact attention on that engine: what approximate attention is compared with, and what is computed where
/// nothing is approximated.
[[nodiscard]] const Backend& exact_backend();

}  // namespace hyperattn
