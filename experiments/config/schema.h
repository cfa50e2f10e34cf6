// The JSON Schema of the configuration, made from the same declarations that the reader checks against.
#pragma once

#include <string>

#include "experiments/config/registry.h"

namespace hyperattn {

/// Draft 7, indented, for `hyperattn list --schema` and for editors.
[[nodiscard]] std::string config_json_schema(const std::string& title,
                                             const Registry& registry = default_registry());

}  // namespace hyperattn
