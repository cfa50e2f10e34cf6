// What `inputs`, `backends` and `measures` have in common: a list of entries, each with the name of something
// registered and values for its declared parameters.
#pragma once

#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/config/registry.h"
#include "experiments/config/yaml_document.h"

namespace hyperattn {

struct Section {
  std::string key;       ///< "inputs"
  std::string name_key;  ///< "source": the key that holds the entry's name
  std::string what;      ///< "source": for messages
  std::vector<std::string> other_keys;
  std::vector<std::string> (*names)(const Registry& registry);
  /// Empty for an unknown name, too.
  std::vector<ParameterSpec> (*specs)(const Registry& registry, const std::string& name);

  [[nodiscard]] bool knows(const Registry& registry, const std::string& name) const;
};

[[nodiscard]] const Section& inputs_section();
[[nodiscard]] const Section& backends_section();
[[nodiscard]] const Section& measures_section();
/// The three, in this order.
[[nodiscard]] const std::vector<const Section*>& all_sections();

/// The short forms written out: `backends: exact` and `backends: [exact]` as a list of maps. What is neither
/// a word nor a map nor a list of such stays as it is, for the reader to refuse.
void write_out_entries(YamlNode& root, const Section& section);

/// The name of an entry, empty if it has none.
[[nodiscard]] std::string entry_name(const YamlNode& entry, const Section& section);

}  // namespace hyperattn
