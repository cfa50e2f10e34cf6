// Assignments to a configuration that has been parsed but not read yet: KEY=VALUE arguments and the entries
// of a group. Both have the YAML's own paths:
//
//   trials, seed, name, output      timing.repeats      sweep.seq_len, sweep.zip, sweep.where
//   inputs.heads                    every entry of inputs whose source has the parameter
//   inputs[0].heads                 the first entry
//   hyper.block_size                every entry named hyper
//   inputs, backends, measures      a list, or one entry, replaces all of them
#pragma once

#include <string>
#include <vector>

#include "experiments/config/problems.h"
#include "experiments/config/registry.h"
#include "experiments/config/yaml_document.h"

namespace hyperattn {

/// A path "head[index].rest"; parts that are absent are empty or −1.
struct ConfigPath {
  std::string head;
  int64_t index = -1;
  std::string rest;
  bool well_formed = true;
};
[[nodiscard]] ConfigPath parse_path(const std::string& path);

/// KEY and VALUE of one argument; a problem (and an empty key) if it is not of that form.
struct Assignment {
  std::string path;
  YamlNode value;
};
[[nodiscard]] Assignment parse_assignment(const std::string& argument, Problems& problems);

/// Sets the value at the path. A path that leads nowhere becomes a problem at the value's origin.
void assign(YamlNode& root, const Assignment& assignment, const Registry& registry, Problems& problems);

/// Assigns all entries of group `name`.
void apply_group(YamlNode& root, const std::string& name, const Registry& registry, Problems& problems);

}  // namespace hyperattn
