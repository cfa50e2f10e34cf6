#include "experiments/inputs/windows.h"

#include <fmt/core.h>

#include <limits>
#include <stdexcept>

#include "core/error.h"
#include "experiments/inputs/described_source.h"
#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/config/model_config.h"
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

class WindowSource final : public DescribedSource {
 public:
  WindowSource()
      : DescribedSource(
            {"language_model", "windows of a text, predicted by a language model", window_parameters()}) {}

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
};

}  // namespace

const InputSource& windows_source() {
  static const WindowSource source;
  return source;
}

}  // namespace hyperattn
