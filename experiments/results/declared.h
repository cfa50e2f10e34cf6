// Every parameter that anything declares, with its owner: what the columns of results and /declarations are
// made from.
#pragma once

#include <string>
#include <vector>

#include "core/parameters.h"

namespace hyperattn {

struct DeclaredParameter {
  std::string of;     ///< "problem", "inputs", "backends", "timing" or "measures"
  std::string owner;  ///< the source, backend or measure; empty for the problem and for timing
  ParameterSpec spec;
};

/// Parameters of a case: the problem's, those of all sources (those of `hyperattn lm`, too) and backends.
[[nodiscard]] const std::vector<DeclaredParameter>& case_parameters();
/// Parameters of the measurement: those of timing and of measures.
[[nodiscard]] const std::vector<DeclaredParameter>& run_settings();

/// The column of /trials that holds the parameter.
[[nodiscard]] const std::string& column_of(const ParameterSpec& spec);

/// All declarations as JSON, as /declarations of a results file has them (docs/results-format.md).
[[nodiscard]] const std::string& declarations_json();

}  // namespace hyperattn
