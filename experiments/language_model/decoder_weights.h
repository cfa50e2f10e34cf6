// The weights of a decoder, brought from the names and orders of its files into one form.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/language_model/config/model_config.h"
#include "experiments/language_model/layers.h"

namespace hyperattn {

/// Norms that the architecture does not have are left empty and never asked for.
struct DecoderLayer {
  Norm attention_norm, attention_out_norm;
  Linear qkv;  ///< outputs: all query heads, all key heads, all value heads
  Norm query_norm, key_norm;
  Linear output;
  Norm mlp_norm, mlp_out_norm;
  Linear up;  ///< outputs: the gate, where there is one, then up
  Linear down;
};

struct DecoderWeights {
  Linear embedding;         ///< (vocab_size, hidden_size): a row for each id
  Buffer<float> positions;  ///< (max_position_embeddings, hidden_size), where positions are learned
  std::vector<DecoderLayer> layers;
  Norm final_norm;
  Linear head;                  ///< shares the embedding's weight where tied
  int64_t parameter_count = 0;  ///< a tied head counts once
};

/// Reads the tensors of a model folder, in the type that they are stored in. Error(input) for one that is
/// missing, misshapen, not finite, of another type than float32, float16 and bfloat16, or no part of such a
/// model; Error(environment) if they do not fit into memory.
[[nodiscard]] DecoderWeights read_decoder_weights(const std::string& folder, const ModelConfig& config);

}  // namespace hyperattn
