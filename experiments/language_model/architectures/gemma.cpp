// Gemma: a Llama with scaled embeddings and norms that multiply by 1 + w.
#include "experiments/language_model/architectures/architecture.h"

#include <fmt/core.h>

namespace hyperattn {
namespace {

// The first files say "gelu" and mean its approximation by tanh; later ones have a key of its own for it.
void read_gemma_activation(const ConfigFields& fields, ModelConfig& config) {
  const std::string approximated = "gelu_pytorch_tanh";
  const std::string stated = fields.text("hidden_act", approximated);
  const std::string name = stated == "gelu" ? approximated : stated;
  config.activation = activation_named(fields, "hidden_act", name);
  const std::string newer = fields.text("hidden_activation", name);
  if (activation_named(fields, "hidden_activation", newer) != config.activation)
    fields.refuse("hidden_activation", fmt::format("the same as hidden_act ({}), null or absent", name));
}

void describe(const ConfigFields& fields, ModelConfig& config) {
  read_gemma_base(fields, config);
  read_gemma_activation(fields, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  refuse_windows(fields, config);
}

}  // namespace

const Architecture& gemma_architecture() {
  static const Architecture architecture{"GemmaForCausalLM", "gemma", describe};
  return architecture;
}

}  // namespace hyperattn
