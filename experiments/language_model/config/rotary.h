// Rotary positions: pair j of a head turns by the angle position · f_j. What config.json says of them, in all
// the places and kinds that Hugging Face files have, and the frequencies f_j that follow.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "experiments/language_model/config/config_fields.h"

namespace hyperattn {

enum class RotaryKind { plain, linear, dynamic, llama3, yarn, longrope };

/// Fields carry the names of config.json. Only those of its kind have a meaning.
struct RotaryConfig {
  RotaryKind kind = RotaryKind::plain;
  double rope_theta = 10000;
  int64_t dim = 0;           ///< the first `dim` numbers of a head turn; odd: one more, as the pairs need it
  bool interleaved = false;  ///< pairs are (2j, 2j + 1) instead of (j, j + pairs)
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;
  double original_max_position_embeddings = 0;
  double max_position_embeddings = 0;
  double attention_factor = 1;  ///< multiplies sines and cosines
  double beta_fast = 32, beta_slow = 1;
  bool truncate = true;
  std::vector<double> short_factor, long_factor;

  [[nodiscard]] int64_t pairs() const { return (dim + 1) / 2; }
};

/// What differs between architectures in how they state rotary positions.
struct RotaryRules {
  int64_t head_dim = 0;
  double max_position_embeddings = 0;
  double default_theta = 10000;
  double default_original_length = 0;  ///< original_max_position_embeddings; 0: max_position_embeddings
  double default_partial = 1;          ///< share of a head that turns, where no key says it
  bool partial = false;                ///< whether the architecture can turn a part of a head
  bool odd = false;                    ///< whether it rounds an odd part up
  bool interleaved = false;
  bool longrope_only = false;            ///< no other kind but the default one; older files call it "su"
  const char* theta_key = "rope_theta";  ///< outside the rope object
  const char* partial_key = "partial_rotary_factor";  ///< outside the rope object
};

/// Reads `rope_parameters` or `rope_scaling` and the keys beside them. Error(input) for a kind that is not
/// built, a key that its kind does not have, a key that it lacks, and two places that disagree.
[[nodiscard]] RotaryConfig read_rotary(const ConfigFields& fields, const RotaryRules& rules);

/// The same for a given rope object, such as one of those by layer type; `fields` are the model's.
[[nodiscard]] RotaryConfig read_rope_object(const nlohmann::json& object, const ConfigFields& fields,
                                            const RotaryRules& rules);

/// f_j for j = 0 … pairs − 1, of a sequence of n tokens (dynamic and longrope depend on it), with the
/// roundings to float32 that models were trained with: at position 32767 they turn a pair by up to a
/// milliradian more or less than the formula.
[[nodiscard]] std::vector<float> rotary_frequencies(const RotaryConfig& config, int64_t n);

}  // namespace hyperattn
