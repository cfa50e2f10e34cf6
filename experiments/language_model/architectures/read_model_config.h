// A model's config.json, read as its architecture says.
#pragma once

#include <string>

#include "experiments/language_model/config/model_config.h"

namespace hyperattn {

/// Reads FOLDER/config.json. Error(input) that names file, key, value and what is allowed: a missing or
/// wrongly typed field, sizes that do not fit together, an architecture that is not built, a GGUF file, a
/// quantised model, and every other setting that changes the computation and is not honoured.
[[nodiscard]] ModelConfig read_model_config(const std::string& folder);

/// The same for the text of such a file; `name` stands for it in messages.
[[nodiscard]] ModelConfig parse_model_config(const std::string& text, const std::string& name);

}  // namespace hyperattn
