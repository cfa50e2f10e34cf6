#include "experiments/lm/model_registry.h"

#include "algorithms/backend.h"
#include "experiments/inputs/windows.h"

namespace hyperattn {
namespace {

Registry make_model_registry(bool reads_stored) {
  Registry registry;
  registry.sources = {&windows_source()};
  registry.backends = all_backends();
  registry.without = {{"causal", "a language model is causal"},
                      {"scale", "a language model has its own"},
                      {"timing", "hyperattn lm calls the model once for each window, forward"},
                      {"measures", "hyperattn lm measures the loss and the times of the model"}};
  registry.refuse_mask_files("a language model's layers have no mask file");
  registry.reads_stored = reads_stored;
  return registry;
}

}  // namespace

const Registry& model_registry() {
  static const Registry registry = make_model_registry(false);
  return registry;
}

ExperimentConfig read_model_experiment(const RunOptions& options, const std::string& fallback) {
  ExperimentConfig config =
      options.config.empty()
          ? read_config_text(fallback, "lm", options.overrides, options.group, model_registry())
          : read_config(options.config, options.overrides, options.group, model_registry());
  for (InputEntry& input : config.inputs) input.parameters.set("causal", true);
  return config;
}

std::string resolve_model_experiment(const std::string& stored) {
  static const Registry registry = make_model_registry(true);
  return read_config_text(stored, "the stored configuration", {}, {}, registry).resolved_yaml;
}

}  // namespace hyperattn
