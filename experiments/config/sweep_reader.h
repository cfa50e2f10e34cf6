// Reads `sweep`: which axis applies to which entries, and who wins where an axis and an entry, or two axes,
// set the same parameter.
#pragma once

#include <string>
#include <vector>

#include "experiments/config/config.h"
#include "experiments/config/entry_reader.h"

namespace hyperattn {

struct SweepDraft {
  std::vector<SweepDimension> dimensions;
  std::vector<WhereExpression> where;
  std::vector<std::string> refused;  ///< parameters of axes that were refused: not to be called missing, too
};

/// The layer decides between two that set the same parameter of an entry: the command line goes before the
/// group, the group before the file. Two of one layer are a problem.
[[nodiscard]] SweepDraft read_sweep(const YamlNode& root, const std::vector<EntryDraft>& inputs,
                                    const std::vector<EntryDraft>& backends, const Registry& registry,
                                    Problems& problems);

/// The entries that the path of an axis reaches. `wrong` says why it reaches none.
struct AxisTarget {
  std::string parameter;
  bool of_inputs = false;
  std::vector<size_t> entries;
  std::string wrong;
};
[[nodiscard]] AxisTarget find_axis_target(const std::string& path, const std::vector<EntryDraft>& inputs,
                                          const std::vector<EntryDraft>& backends, const Registry& registry);

}  // namespace hyperattn
