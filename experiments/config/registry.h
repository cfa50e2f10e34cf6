// What a configuration can name. The reader takes it as an argument, so tests and the fuzz target run with
// sources and backends of their own.
#pragma once

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
