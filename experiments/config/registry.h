// What a configuration can name. The reader takes it as an argument, so tests and the fuzz target run with
// sources and backends of their own.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/parameters.h"

namespace hyperattn {

class Backend;
class InputSource;
class Measure;

struct Registry {
  std::vector<const InputSource*> sources;
  std::vector<const Backend*> backends;
  std::vector<const Measure*> measures;
  /// What the grammar has and this command would ignore, each with the reason: parameters of inputs and of
  /// backends, "timing". Refused by name wherever it stands: in an entry, an axis, a group, an argument.
  std::map<std::string, std::string> without = {};
  /// Choices of parameters likewise.
  std::map<std::string, std::vector<std::string>> without_choices = {};
  /// Passes over what is in `without` instead: for configurations that an earlier version stored.
  bool reads_stored = false;

  /// For a command that has no file with masks of its problems: takes the parameter that names one out of
  /// what can be set, and the choices with which alone it has an effect.
  void refuse_mask_files(const std::string& reason);

  /// The declarations without what this command ignores.
  [[nodiscard]] std::vector<ParameterSpec> offered(std::vector<ParameterSpec> specs) const;
  /// "can't be set here: …", or nothing for a name that is not in `without`.
  [[nodiscard]] std::string reason_against(const std::string& name) const;
  /// Null if there is none of that name.
  [[nodiscard]] const InputSource* find_source(const std::string& name) const;
  [[nodiscard]] const Backend* find_backend(const std::string& name) const;
  [[nodiscard]] const Measure* find_measure(const std::string& name) const;
};

/// Everything that this build has.
[[nodiscard]] const Registry& default_registry();

/// `causal` and `scale`: parameters of the problem, which an entry of `inputs` takes beside those of its
/// source.
[[nodiscard]] const std::vector<ParameterSpec>& problem_parameters();
/// The keys of `timing`.
[[nodiscard]] const std::vector<ParameterSpec>& timing_parameters();
/// The scalar keys at the top of a configuration: trials (seed, name and output have rules of their own).
[[nodiscard]] const std::vector<ParameterSpec>& run_parameters();

}  // namespace hyperattn
