// Gemma 2: norms before and after, windows in every other layer, capped logits.
#include "experiments/language_model/architectures/architecture.h"

namespace hyperattn {
namespace {

void describe(const ConfigFields& fields, ModelConfig& config) {
  constexpr double kScoreCap = 50;
  constexpr double kLogitCap = 30;
  constexpr int64_t kWindow = 4096;
  read_gemma_base(fields, config);
  read_gemma_sandwich(fields, kScoreCap, kLogitCap, config);
  read_rotary_of_all_layers(fields, rotary_rules(config), config);
  read_alternating_windows(fields, 2, kWindow, config);
}

}  // namespace

const Architecture& gemma2_architecture() {
  static const Architecture architecture{"Gemma2ForCausalLM", "gemma2", describe};
  return architecture;
}

}  // namespace hyperattn
