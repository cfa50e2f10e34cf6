// Mistral: a Llama that may have a sliding window, in all layers.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_sizes(fields, config);
  read_epsilon(fields, "rms_norm_eps", 1e-6, config);
  read_activation(fields, "hidden_act", "silu", config);
  read_tied(fields, false, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  constexpr int64_t kDefaultWindow = 4096;
  read_window_of_all_layers(fields, kDefaultWindow, config);
}

}  // namespace

const Architecture& mistral_architecture() {
  static const Architecture architecture{"MistralForCausalLM", "mistral", describe};
  return architecture;
}

}  // namespace hyperattn
