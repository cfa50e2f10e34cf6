#include "experiments/language_model/config/model_config.h"

#include <fmt/core.h>

#include <set>

#include "experiments/messages/log.h"

namespace hyperattn {

std::string why_not_length(const ModelConfig& config, int64_t n) {
  const std::string tokens = std::to_string(n) + " tokens";
  if (!config.names.positions.empty() && n > config.max_position_embeddings)
    return fmt::format(
        "the model has learned positions for {} tokens only (max_position_embeddings), but the sequence has "
        "{}",
        config.max_position_embeddings, tokens);
  return {};
}

int64_t window_within(const LayerConfig& layer, int64_t n) {
  return layer.window < n ? layer.window : 0;
}

std::string describe_window(const ModelConfig& config, int64_t layer) {
  return fmt::format("layer {} of the model sees a sliding window of {} tokens (sliding_window)", layer,
                     config.layers[static_cast<size_t>(layer)].window);
}

void warn_beyond_trained_length(const ModelConfig& config, const std::string& folder, int64_t n) {
  static std::set<std::string> warned;
  if (n <= config.max_position_embeddings || !warned.insert(folder).second) return;
  log_warning(fmt::format(
      "seq_len is {}, but the model '{}' was made for {} tokens (max_position_embeddings): what it "
      "predicts beyond them is extrapolation",
      n, folder, config.max_position_embeddings));
}

}  // namespace hyperattn
