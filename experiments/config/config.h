// An experiment as its YAML file states it (docs/configuration.md has the grammar), checked and with every
// name looked up. `expand_grid` (grid.h) turns it into cases.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/parameters.h"
#include "experiments/config/registry.h"
#include "experiments/config/where_expression.h"
#include "experiments/config/yaml_document.h"

namespace hyperattn {

enum class PassKind { forward, forward_backward };
[[nodiscard]] const char* pass_name(PassKind pass);

struct TimingConfig {
  int64_t warmup = 1;         ///< calls before the first one that counts
  bool adaptive = false;      ///< `repeats: auto`: repeat until the median's relative error is small enough
  int64_t repeats = 3;        ///< unless adaptive
  double relative_error = 0;  ///< adaptive: stop when the median's is at most this
  int64_t min_repeats = 0;    ///< adaptive
  int64_t max_repeats = 0;    ///< adaptive
  PassKind pass = PassKind::forward;
  Parameters parameters;  ///< all of the above as they are declared
};

/// One entry of `inputs`. Axes of the sweep are not applied yet.
struct InputEntry {
  const InputSource* source = nullptr;
  Parameters parameters;  ///< defaults and the entry's own values: the source's and the problem's parameters
  std::string label;      ///< the source's name unless the entry has a `label`
};

struct BackendEntry {
  const Backend* backend = nullptr;
  Parameters parameters;  ///< defaults and the entry's own values
};

struct MeasureEntry {
  const Measure* measure = nullptr;
  Parameters parameters;
};

/// One swept parameter and the entries to which it applies (positions in `inputs` or in `backends`).
struct Axis {
  std::string path;  ///< as written: "seq_len", "inputs.heads", "hyper.block_size", "backends[1].block_size"
  std::string parameter;
  bool of_inputs = false;       ///< else of backends
  std::vector<size_t> entries;  ///< never empty
  std::vector<ParameterValue> values;
  Layer layer = Layer::file;  ///< where it was written
};

/// One factor of the product of the sweep: one axis, or several of equal length that go in step (`zip`).
struct SweepDimension {
  std::vector<Axis> axes;
  [[nodiscard]] size_t size() const { return axes.front().values.size(); }
};

struct ExperimentConfig {
  std::string file;  ///< where it was read from, for messages
  std::string name;
  uint64_t seed = 0;
  int64_t trials = 1;
  TimingConfig timing;
  std::vector<InputEntry> inputs;      ///< at least one
  std::vector<BackendEntry> backends;  ///< at least one
  std::vector<MeasureEntry> measures;
  std::vector<SweepDimension> sweep;  ///< in the order of the file; the last varies fastest
  std::vector<WhereExpression> where;
  std::string output;         ///< "results/<name>.h5" unless the file names one
  std::string group;          ///< the group in use; empty if none
  std::string resolved_yaml;  ///< canonical: group and overrides applied, generators expanded, defaults
                              ///< filled in; reading it gives the same experiment
};

/// Reads the file, applies the group (`base` by default, where there is one) and then the overrides, each
/// "path=value" with the YAML's own paths, such as "sweep.seq_len=[4096, 8192]" or "inputs.heads=4";
/// "group=NAME" chooses the group, too. Throws one Error(usage) that lists every problem, a line each, as
/// "FILE:LINE: what is wrong", also for a file that is missing. Runs nothing and opens no other file.
[[nodiscard]] ExperimentConfig read_config(const std::string& path,
                                           const std::vector<std::string>& overrides = {},
                                           const std::string& group = {},
                                           const Registry& registry = default_registry());

/// The same for a text; `file_name` stands in messages.
[[nodiscard]] ExperimentConfig read_config_text(const std::string& text, const std::string& file_name,
                                                const std::vector<std::string>& overrides = {},
                                                const std::string& group = {},
                                                const Registry& registry = default_registry());

}  // namespace hyperattn
