// Reads the entries of `inputs`, `backends` and `measures`, and other maps of declared parameters.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/config/problems.h"
#include "experiments/config/sections.h"

namespace hyperattn {

/// Of one section.
inline constexpr size_t kMaximumEntries = 1000;

/// A map of declared parameters as read; what is missing is found later, because an axis may supply it.
struct EntryDraft {
  std::string path;  ///< "inputs[0]"
  std::string name;  ///< "gaussian"
  std::vector<ParameterSpec> specs;
  Parameters parameters;              ///< own values, and defaults that depend on no other
  std::map<std::string, Origin> own;  ///< the parameters that the map itself sets
  Origin origin;
  const Registry* registry = nullptr;  ///< that was read with, for what it refuses
};

/// Reads the values that `map` has for `draft.specs` and refuses keys that are neither those nor
/// `other_keys`.
void read_parameters(const YamlNode& map, const std::vector<std::string>& other_keys, EntryDraft& draft,
                     Problems& problems);

/// All entries of a section. One of an unknown name is reported and keeps its place, without parameters.
[[nodiscard]] std::vector<EntryDraft> read_section(const YamlNode& root, const Section& section,
                                                   const Registry& registry, Problems& problems);

/// A problem for each parameter that has to be given and is neither in `draft` nor in `supplied`.
void require_parameters(const EntryDraft& draft, const std::vector<std::string>& supplied,
                        Problems& problems);

}  // namespace hyperattn
