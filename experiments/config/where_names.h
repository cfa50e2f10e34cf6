// What the names in a predicate of `where:` stand for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/config/grid.h"
#include "experiments/config/where_expression.h"

namespace hyperattn {

/// All names that a predicate may use: those of every case (backend, source, label, pass, causal, scale and
/// the shapes), the parameters, and the parameters after "inputs." or "backends.".
[[nodiscard]] std::vector<std::string> where_names(const std::vector<std::string>& input_parameters,
                                                   const std::vector<std::string>& backend_parameters);

/// The type of one of those names, where `parameters` are the declarations that entries of inputs and of
/// backends have for it.
[[nodiscard]] WhereType where_type(const std::string& name, const Registry& registry,
                                   const std::vector<ParameterSpec>& parameters);

/// The value for one case; empty if the case has no such parameter or value. Throws Error(usage) for a list.
[[nodiscard]] std::optional<WhereValue> where_value(const InputPoint& input, const Case& grid_case,
                                                    const std::string& name);

}  // namespace hyperattn
