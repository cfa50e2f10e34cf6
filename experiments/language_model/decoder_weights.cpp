#include "experiments/language_model/decoder_weights.h"

#include <fmt/core.h>

#include <cstring>
#include <set>

#include "core/error.h"
#include "experiments/language_model/safetensors.h"

namespace hyperattn {
namespace {

using Shape = std::vector<int64_t>;

// Joined in their order; in float32 where their types differ.
StoredValues join(const std::vector<StoredValues>& parts) {
  int64_t size = 0;
  StoredType type = parts.front().type();
  for (const StoredValues& part : parts) {
    size += part.size();
    if (part.type() != type) type = StoredType::f32;
  }
  StoredValues joined(type, size);
  int64_t at = 0;
  for (const StoredValues& part : parts) {
    joined.copy(at, part, 0, part.size());
    at += part.size();
  }
  return joined;
}

StoredValues transpose(const StoredValues& values, int64_t rows, int64_t cols) {
  StoredValues transposed(values.type(), values.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) transposed.copy(j * rows + i, values, i * cols + j, 1);
  return transposed;
}

// From query, key and value of head 0, of head 1, … to all queries, all keys, all values. `block` numbers
// belong to one head's query (or key, or value).
StoredValues gather_heads(const StoredValues& by_head, int64_t heads, int64_t block) {
  StoredValues in_turn(by_head.type(), by_head.size());
  for (int64_t part = 0; part < 3; ++part)
    for (int64_t h = 0; h < heads; ++h)
      in_turn.copy((part * heads + h) * block, by_head, (h * 3 + part) * block, block);
  return in_turn;
}

Buffer<float> widened(const StoredValues& values) {
  Buffer<float> wide(values.size());
  values.widen(0, values.size(), wide.data());
  return wide;
}

/// Reads tensors by their names, and knows which were read.
class WeightReader {
 public:
  WeightReader(const std::string& folder, const ModelConfig& config)
      : config_(config), archive_(TensorArchive::open(folder)) {
    const std::string embedding = config.names.embedding + ".weight";
    const bool bare = archive_.find(config.names.prefix + embedding) == nullptr && archive_.find(embedding);
    if (!bare) prefix_ = config.names.prefix;
  }

  DecoderWeights read() {
    DecoderWeights weights;
    const TensorNames& names = config_.names;
    for (int64_t l = 0; l < config_.num_hidden_layers; ++l) weights.layers.push_back(layer(l));
    weights.final_norm = norm(prefix_ + names.final_norm, config_.norm, {config_.hidden_size});
    if (!names.positions.empty())
      weights.positions = widened(take(prefix_ + names.positions + ".weight",
                                       {config_.max_position_embeddings, config_.hidden_size}));
    read_embedding_and_head(weights);
    require_all_used();
    weights.parameter_count = parameters_;
    return weights;
  }

 private:
  DecoderLayer layer(int64_t index) {
    const TensorNames& names = config_.names;
    layer_ = prefix_ + names.layer + std::to_string(index) + ".";
    const int64_t width = config_.hidden_size;
    const int64_t query_width = config_.num_attention_heads * config_.head_dim;
    const int64_t inner = config_.intermediate_size;
    DecoderLayer layer;
    layer.attention_norm = hidden_norm(names.attention_norm);
    layer.attention_out_norm = hidden_norm(names.attention_out_norm);
    layer.qkv = read_qkv();
    layer.query_norm = head_norm(names.query_norm, config_.num_attention_heads);
    layer.key_norm = head_norm(names.key_norm, config_.num_key_value_heads);
    layer.output = joined({names.output}, {width}, query_width, config_.output_bias);
    layer.mlp_norm = hidden_norm(names.mlp_norm);
    layer.mlp_out_norm = hidden_norm(names.mlp_out_norm);
    if (!config_.gated)
      layer.up = joined({names.up}, {inner}, width, config_.mlp_bias);
    else if (names.fused_gate.empty())
      layer.up = joined({names.gate, names.up}, {inner, inner}, width, config_.mlp_bias);
    else
      layer.up = joined({names.fused_gate}, {2 * inner}, width, config_.mlp_bias);
    layer.down = joined({names.down}, {width}, inner, config_.mlp_bias);
    return layer;
  }

  Linear read_qkv() {
    const TensorNames& names = config_.names;
    const int64_t query = config_.num_attention_heads * config_.head_dim;
    const int64_t key = config_.num_key_value_heads * config_.head_dim;
    if (config_.fused_order == FusedOrder::separate)
      return joined({names.query, names.key, names.value}, {query, key, key}, config_.hidden_size,
                    config_.qkv_bias);
    Linear fused = joined({names.fused}, {query + 2 * key}, config_.hidden_size, config_.qkv_bias);
    if (config_.fused_order == FusedOrder::by_head) {
      const int64_t heads = config_.num_attention_heads;
      fused.weight = std::make_shared<StoredValues>(
          gather_heads(*fused.weight, heads, config_.head_dim * config_.hidden_size));
      if (config_.qkv_bias) fused.bias = widened(gather_heads(bias_, heads, config_.head_dim));
    }
    return fused;
  }

  // The outputs of several matrices, one after the other.
  Linear joined(const std::vector<std::string>& names, const std::vector<int64_t>& outputs, int64_t inputs,
                bool has_bias) {
    std::vector<StoredValues> weights;
    std::vector<StoredValues> biases;
    Linear linear;
    linear.inputs = inputs;
    for (size_t i = 0; i < names.size(); ++i) {
      weights.push_back(matrix(layer_ + names[i] + ".weight", outputs[i], inputs));
      if (has_bias) biases.push_back(take(layer_ + names[i] + ".bias", {outputs[i]}));
      linear.outputs += outputs[i];
    }
    linear.weight =
        std::make_shared<StoredValues>(weights.size() == 1 ? std::move(weights.front()) : join(weights));
    if (has_bias) bias_ = join(biases);
    if (has_bias) linear.bias = widened(bias_);
    return linear;
  }

  StoredValues matrix(const std::string& name, int64_t outputs, int64_t inputs) {
    if (config_.transposed) return transpose(take(name, {inputs, outputs}), inputs, outputs);
    return take(name, {outputs, inputs});
  }

  Norm hidden_norm(const std::string& name) {
    return name.empty() ? Norm() : norm(layer_ + name, config_.norm, {config_.hidden_size});
  }

  Norm head_norm(const std::string& name, int64_t heads) {
    const NormConfig& kind = config_.head_norm_config;
    switch (config_.head_norm) {
      case HeadNorm::none:
        return {};
      case HeadNorm::shared:
        return norm(layer_ + name, kind, {config_.head_dim});
      case HeadNorm::own:
        return norm(layer_ + name, kind, {heads, config_.head_dim});
      case HeadNorm::whole:
        return norm(layer_ + name, kind, {heads * config_.head_dim});
      case HeadNorm::own_apart:
        break;
    }
    std::vector<StoredValues> weights;
    for (int64_t h = 0; h < heads; ++h)
      weights.push_back(take(layer_ + name + std::to_string(h) + ".weight", {config_.head_dim}));
    return {kind, widened(join(weights)), {}};
  }

  Norm norm(const std::string& name, const NormConfig& kind, const Shape& shape) {
    Norm norm{kind, {}, {}};
    if (kind.weight) norm.weight = widened(take(name + ".weight", shape));
    if (kind.bias) norm.bias = widened(take(name + ".bias", shape));
    for (float& weight : norm.weight) weight += static_cast<float>(kind.weight_offset);
    return norm;
  }

  // A tied head is the embedding, under either name; a file that has both must have them equal.
  void read_embedding_and_head(DecoderWeights& weights) {
    const std::string embedding = prefix_ + config_.names.embedding + ".weight";
    const std::string head = config_.names.head + ".weight";
    const Shape shape = {config_.vocab_size, config_.hidden_size};
    const bool has_embedding = archive_.find(embedding) != nullptr;
    const bool has_head = archive_.find(head) != nullptr;
    const bool tied = config_.tie_word_embeddings;
    weights.embedding = {config_.vocab_size, config_.hidden_size, nullptr, {}};
    weights.embedding.weight =
        std::make_shared<StoredValues>(take(tied && !has_embedding && has_head ? head : embedding, shape));
    weights.head = {config_.vocab_size, config_.hidden_size, weights.embedding.weight, {}};
    if (!tied) weights.head.weight = std::make_shared<StoredValues>(take(head, shape));
    if (tied && has_embedding && has_head) {
      used_.insert(head);
      if (!(archive_.read_stored(head, shape) == *weights.embedding.weight))
        fail_input(fmt::format(
            "{}: tensors '{}' and '{}' differ, but config.json says that they are one (tie_word_embeddings, "
            "by default true for some architectures); set it to false if the file is right",
            archive_.find(head)->file, head, embedding));
    }
    if (config_.head_bias)
      weights.head.bias = widened(take(config_.names.head + ".bias", {config_.vocab_size}));
  }

  StoredValues take(const std::string& name, const Shape& shape) {
    StoredValues values = archive_.read_stored(name, shape);
    parameters_ += values.size();
    used_.insert(name);
    return values;
  }

  /// A tensor that no formula here uses (a bias that the configuration does not mention, a norm of the
  /// queries, a further layer) means that the file's model computes something else.
  void require_all_used() const {
    for (const std::string& name : archive_.names())
      if (used_.count(name) == 0 && !is_redundant(name))
        fail_input(fmt::format("{}: tensor '{}' is no part of a {} with this config.json ({} layers)",
                               archive_.find(name)->file, name, config_.architecture,
                               config_.num_hidden_layers));
  }

  // The rotary frequencies, which older files hold, follow from config.json, as does what the architecture
  // names.
  [[nodiscard]] bool is_redundant(const std::string& name) const {
    for (const std::string& ending : config_.names.redundant_endings)
      if (name.ends_with(ending)) return true;
    return name.ends_with("rotary_emb.inv_freq");
  }

  const ModelConfig& config_;
  TensorArchive archive_;
  std::string prefix_;
  std::string layer_;  ///< what the names of the layer that is being read begin with
  StoredValues bias_;  ///< of the matrix that was read last
  std::set<std::string> used_;
  int64_t parameters_ = 0;
};

}  // namespace

DecoderWeights read_decoder_weights(const std::string& folder, const ModelConfig& config) {
  return WeightReader(folder, config).read();
}

}  // namespace hyperattn
