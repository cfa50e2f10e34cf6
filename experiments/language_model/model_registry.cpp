#include "experiments/language_model/model_registry.h"

#include <fmt/core.h>

#include <limits>
#include <stdexcept>

#include "algorithms/backend.h"
#include "core/error.h"
#include "experiments/inputs/input_source.h"
#include "experiments/language_model/model_config.h"
#include "experiments/language_model/text.h"

namespace hyperattn {
namespace {

constexpr double kMaxRows = std::numeric_limits<int32_t>::max();

std::vector<ParameterSpec> window_parameters() {
  std::vector<ParameterSpec> specs = model_and_text_parameters();
  specs.push_back(
      integer_parameter("seq_len", "tokens that a window predicts").between(1, kMaxRows).by_default(4096));
  specs.push_back(
      integer_parameter("windows", "windows of the text, from its start").between(1, kMaxRows).by_default(1));
  specs.push_back(
      choice_parameter("replace", {"last", "first", "even", "odd"}, "which layers are replaced first"));
  specs.push_back(
      integer_list_parameter("replaced", "numbers of replaced layers; default 0, 1, ... up to all")
          .at_least(0)
          .or_absent());
  return specs;
}

/// Stands for the model and its windows where a sweep has a source, so that `lm` has the sweep's grammar.
class WindowSource final : public InputSource {
 public:
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] const std::string& meaning() const override { return meaning_; }
  [[nodiscard]] const std::vector<ParameterSpec>& parameters() const override { return parameters_; }

  /// Of one layer's attention.
  [[nodiscard]] InputShapes shapes(const Parameters& parameters) const override {
    const ModelConfig config = read_model_config(parameters.text("model"));
    const int64_t rows = parameters.integer("seq_len");
    const std::string refusal = why_not_length(config, rows);
    if (!refusal.empty()) fail_usage("seq_len: " + refusal);
    if (parameters.has("replaced"))
      for (const int64_t count : parameters.integers("replaced"))
        if (count > config.num_hidden_layers)
          fail_usage(fmt::format("replaced must be at most {} (the model's layers), but is {}",
                                 config.num_hidden_layers, count));
    const TensorShape queries{1, config.num_attention_heads, rows, config.head_dim};
    const TensorShape keys{1, config.num_key_value_heads, rows, config.head_dim};
    return {queries, keys, keys};
  }

  [[nodiscard]] AttentionInputs make(const Parameters&, uint64_t, uint32_t) const override {
    throw std::logic_error("the windows of `hyperattn lm` are no inputs of a single call");
  }

 private:
  std::string name_ = "language_model";
  std::string meaning_ = "windows of a text, predicted by a language model";
  std::vector<ParameterSpec> parameters_ = window_parameters();
};

Registry make_model_registry(bool reads_stored) {
  static const WindowSource source;
  Registry registry;
  registry.sources = {&source};
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
