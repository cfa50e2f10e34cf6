// The columns of the results file. They follow from the declarations of parameters and figures: schema.cpp
// fixes the order of those that version 0.1 had, and what was declared since follows by itself. The writer,
// the reader, `hyperattn show`, the scripts and docs/results-format.md read this list.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace hyperattn {

/// The stage of /timings that is the whole call.
inline constexpr const char* kTotalStage = "total";

enum class ColumnKind {
  integer,  ///< int64; −1 where it does not apply
  number,   ///< float64; NaN where it does not apply
  text,     ///< fixed-length UTF-8; empty where it does not apply
  seed,     ///< uint64; always applies
};

enum class ColumnRole {
  identity,   ///< which row this is
  parameter,  ///< what was asked for: two cases with equal parameters are the same problem and method
  setting,    ///< how it was measured: the same in all rows of a run
  outcome,    ///< what happened, and how long it took
  figure,     ///< what a measure found; also a column of /heads and /levels
};

struct ColumnSpec {
  std::string name;
  ColumnKind kind = ColumnKind::number;
  ColumnRole role = ColumnRole::figure;
  std::string meaning;  ///< one line
  std::string unit = {};
  bool is_headline = false;  ///< of a figure or outcome: shown unless all are asked for
  bool is_error = false;     ///< of a figure or outcome: smaller is better
};

/// The columns of /trials in the file's order.
[[nodiscard]] const std::vector<ColumnSpec>& trial_columns();
/// Its place in trial_columns(), or −1.
[[nodiscard]] int trial_column_index(const std::string& name);
/// The column of /trials of that name, or null.
[[nodiscard]] const ColumnSpec* find_trial_column(const std::string& name);
/// "- `seconds` (number): median wall time of one call, in s": an item of the list in docs/results-format.md,
/// in lines of at most 120 characters.
[[nodiscard]] std::string list_item(const ColumnSpec& column);

}  // namespace hyperattn
