#include "tests/experiments/language_model/fixture.h"

#include <Eigen/Core>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>

#include "algorithms/registry.h"
#include "core/eigen.h"
#include "experiments/cli/command_line.h"

namespace hyperattn::testing {
namespace {

using nlohmann::json;
using Rows = std::vector<std::vector<double>>;

const char* type_name(WeightType type) {
  switch (type) {
    case WeightType::f32:
      return "F32";
    case WeightType::f16:
      return "F16";
    case WeightType::bf16:
      return "BF16";
  }
  return "";
}

double rounded(double value, WeightType type) {
  const auto single = static_cast<float>(value);
  if (type == WeightType::f16) return static_cast<float>(Eigen::half(single));
  if (type == WeightType::bf16) return static_cast<float>(Eigen::bfloat16(single));
  return single;
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string encoded(const PlainTensor& tensor, WeightType type) {
  std::string bytes;
  for (double value : tensor.values) {
    const auto single = static_cast<float>(value);
    if (type == WeightType::f32) append(bytes, single);
    if (type == WeightType::f16) append(bytes, Eigen::half(single));
    if (type == WeightType::bf16) append(bytes, Eigen::bfloat16(single));
  }
  return bytes;
}

std::string file_of(const std::map<std::string, PlainTensor>& tensors, WeightType type) {
  json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    const std::string bytes = encoded(tensor, type);
    header[name] = {{"dtype", type_name(type)},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  return safetensors_bytes(header.dump(), data);
}

json config_of(const TinyModelOptions& o) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"hidden_size", o.hidden},
          {"intermediate_size", o.intermediate},
          {"num_hidden_layers", o.layers},
          {"num_attention_heads", o.heads},
          {"num_key_value_heads", o.key_heads},
          {"head_dim", o.head_dim},
          {"vocab_size", o.vocabulary},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 1000.0},
          {"rope_scaling", nullptr},
          {"max_position_embeddings", 512},
          {"tie_word_embeddings", o.tied},
          {"attention_bias", o.attention_bias},
          {"mlp_bias", o.mlp_bias},
          {"hidden_act", "silu"}};
}

class Generator {
 public:
  Generator(WeightType type, unsigned seed) : type_(type), engine_(seed) {}

  PlainTensor tensor(std::vector<int64_t> shape, double mean, double deviation) {
    std::normal_distribution<double> normal(mean, deviation);
    int64_t size = 1;
    for (int64_t extent : shape) size *= extent;
    PlainTensor tensor{std::move(shape), {}};
    for (int64_t i = 0; i < size; ++i) tensor.values.push_back(rounded(normal(engine_), type_));
    return tensor;
  }
  PlainTensor matrix(int64_t rows, int64_t cols) {
    return tensor({rows, cols}, 0.0, 1.5 / std::sqrt(static_cast<double>(cols)));
  }
  PlainTensor norm(int64_t size) { return tensor({size}, 1.0, 0.2); }
  PlainTensor bias(int64_t size) { return tensor({size}, 0.0, 0.3); }

 private:
  WeightType type_;
  std::mt19937 engine_;
};

Rows rms_norm(const Rows& x, const PlainTensor& weight) {
  Rows y = x;
  for (auto& row : y) {
    double squares = 0;
    for (double v : row) squares += v * v;
    const double root = std::sqrt(squares / static_cast<double>(row.size()) + 1e-5);
    for (size_t j = 0; j < row.size(); ++j) row[j] = row[j] / root * weight.values[j];
  }
  return y;
}

// x Wᵀ + b, with W and b looked up by name; b may be absent.
Rows linear(const Rows& x, const std::map<std::string, PlainTensor>& tensors, const std::string& name) {
  const PlainTensor& w = tensors.at(name + ".weight");
  const auto bias = tensors.find(name + ".bias");
  const auto outputs = static_cast<size_t>(w.shape[0]);
  const auto inputs = static_cast<size_t>(w.shape[1]);
  Rows y(x.size(), std::vector<double>(outputs, 0.0));
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t o = 0; o < outputs; ++o) {
      for (size_t j = 0; j < inputs; ++j) y[i][o] += x[i][j] * w.values[o * inputs + j];
      if (bias != tensors.end()) y[i][o] += bias->second.values[o];
    }
  return y;
}

void add(Rows& x, const Rows& y) {
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t j = 0; j < x[i].size(); ++j) x[i][j] += y[i][j];
}

// Rotates each head of each row by its position, as complex numbers (x_j, x_{j + d/2}).
void rotate(Rows& x, size_t head_dim, double theta) {
  const size_t half = head_dim / 2;
  for (size_t i = 0; i < x.size(); ++i)
    for (size_t h = 0; h < x[i].size(); h += head_dim)
      for (size_t j = 0; j < half; ++j) {
        const double angle = static_cast<double>(i) *
                             std::pow(theta, -2.0 * static_cast<double>(j) / static_cast<double>(head_dim));
        const double real = x[i][h + j];
        const double imaginary = x[i][h + j + half];
        x[i][h + j] = real * std::cos(angle) - imaginary * std::sin(angle);
        x[i][h + j + half] = real * std::sin(angle) + imaginary * std::cos(angle);
      }
}

// One query row of one head against keys 0 … i.
void attend_row(const Rows& q, const Rows& k, const Rows& v, size_t i, size_t query_column, size_t key_column,
                size_t head_dim, Rows& out) {
  std::vector<double> weight(i + 1);
  double sum = 0;
  for (size_t j = 0; j <= i; ++j) {
    double score = 0;
    for (size_t c = 0; c < head_dim; ++c) score += q[i][query_column + c] * k[j][key_column + c];
    weight[j] = std::exp(score / std::sqrt(static_cast<double>(head_dim)));
    sum += weight[j];
  }
  for (size_t c = 0; c < head_dim; ++c) {
    out[i][query_column + c] = 0;
    for (size_t j = 0; j <= i; ++j) out[i][query_column + c] += weight[j] / sum * v[j][key_column + c];
  }
}

std::string error_text(const std::function<void()>& call, Blame expected) {
  try {
    call();
  } catch (const Error& error) {
    return error.blame() == expected ? error.what() : std::string("another blame: ") + error.what();
  }
  return "no error";
}

}  // namespace

void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string safetensors_bytes(const std::string& header, const std::string& data) {
  std::string bytes;
  append(bytes, static_cast<uint64_t>(header.size()));
  return bytes + header + data;
}

TinyModel::TinyModel(const TinyModelOptions& model_options, WeightType weight_type, unsigned seed)
    : options(model_options), type(weight_type), config_json(config_of(model_options).dump()) {
  Generator random(type, seed);
  const TinyModelOptions& o = options;
  tensors["model.embed_tokens.weight"] = random.tensor({o.vocabulary, o.hidden}, 0.0, 1.0);
  tensors["model.norm.weight"] = random.norm(o.hidden);
  if (!o.tied) tensors["lm_head.weight"] = random.matrix(o.vocabulary, o.hidden);
  const auto add_linear = [&](const std::string& name, int64_t outputs, int64_t inputs, bool bias) {
    tensors[name + ".weight"] = random.matrix(outputs, inputs);
    if (bias) tensors[name + ".bias"] = random.bias(outputs);
  };
  for (int64_t l = 0; l < o.layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    tensors[prefix + "input_layernorm.weight"] = random.norm(o.hidden);
    tensors[prefix + "post_attention_layernorm.weight"] = random.norm(o.hidden);
    add_linear(prefix + "self_attn.q_proj", o.heads * o.head_dim, o.hidden, o.attention_bias);
    add_linear(prefix + "self_attn.k_proj", o.key_heads * o.head_dim, o.hidden, o.attention_bias);
    add_linear(prefix + "self_attn.v_proj", o.key_heads * o.head_dim, o.hidden, o.attention_bias);
    add_linear(prefix + "self_attn.o_proj", o.hidden, o.heads * o.head_dim, o.attention_bias);
    add_linear(prefix + "mlp.gate_proj", o.intermediate, o.hidden, o.mlp_bias);
    add_linear(prefix + "mlp.up_proj", o.intermediate, o.hidden, o.mlp_bias);
    add_linear(prefix + "mlp.down_proj", o.hidden, o.intermediate, o.mlp_bias);
  }
}

void TinyModel::write(const std::string& folder, int shards) const {
  write_file(folder + "/config.json", config_json);
  if (shards == 1) {
    write_file(folder + "/model.safetensors", file_of(tensors, type));
    return;
  }
  std::vector<std::map<std::string, PlainTensor>> parts(static_cast<size_t>(shards));
  json index = {{"metadata", json::object()}, {"weight_map", json::object()}};
  size_t next = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t part = next++ % parts.size();
    parts[part][name] = tensor;
    index["weight_map"][name] = "part-" + std::to_string(part) + ".safetensors";
  }
  for (size_t part = 0; part < parts.size(); ++part)
    write_file(folder + "/part-" + std::to_string(part) + ".safetensors", file_of(parts[part], type));
  write_file(folder + "/model.safetensors.index.json", index.dump());
}

std::vector<double> TinyModel::losses(const std::vector<int32_t>& ids) const {
  const TinyModelOptions& o = options;
  const auto head_dim = static_cast<size_t>(o.head_dim);
  const auto group = static_cast<size_t>(o.heads / o.key_heads);
  const PlainTensor& embedding = tensors.at("model.embed_tokens.weight");
  Rows x;
  for (size_t i = 0; i + 1 < ids.size(); ++i) {
    const auto begin = embedding.values.begin() + ids[i] * o.hidden;
    x.emplace_back(begin, begin + o.hidden);
  }
  for (int64_t l = 0; l < o.layers; ++l) {
    const std::string prefix = "model.layers." + std::to_string(l) + ".";
    const Rows normed = rms_norm(x, tensors.at(prefix + "input_layernorm.weight"));
    Rows q = linear(normed, tensors, prefix + "self_attn.q_proj");
    Rows k = linear(normed, tensors, prefix + "self_attn.k_proj");
    const Rows v = linear(normed, tensors, prefix + "self_attn.v_proj");
    rotate(q, head_dim, 1000.0);
    rotate(k, head_dim, 1000.0);
    Rows attended(x.size(), std::vector<double>(q[0].size()));
    for (size_t h = 0; h < static_cast<size_t>(o.heads); ++h)
      for (size_t i = 0; i < x.size(); ++i)
        attend_row(q, k, v, i, h * head_dim, h / group * head_dim, head_dim, attended);
    add(x, linear(attended, tensors, prefix + "self_attn.o_proj"));
    const Rows second = rms_norm(x, tensors.at(prefix + "post_attention_layernorm.weight"));
    Rows gate = linear(second, tensors, prefix + "mlp.gate_proj");
    const Rows up = linear(second, tensors, prefix + "mlp.up_proj");
    for (size_t i = 0; i < gate.size(); ++i)
      for (size_t j = 0; j < gate[i].size(); ++j) gate[i][j] *= up[i][j] / (1.0 + std::exp(-gate[i][j]));
    add(x, linear(gate, tensors, prefix + "mlp.down_proj"));
  }
  std::map<std::string, PlainTensor> head = {
      {"head.weight", o.tied ? embedding : tensors.at("lm_head.weight")}};
  const Rows logits = linear(rms_norm(x, tensors.at("model.norm.weight")), head, "head");
  std::vector<double> losses;
  for (size_t i = 0; i < logits.size(); ++i) {
    double sum = 0;
    for (double logit : logits[i]) sum += std::exp(logit);
    losses.push_back(std::log(sum) - logits[i][static_cast<size_t>(ids[i + 1])]);
  }
  return losses;
}

namespace {

/// Computes exact causal attention whatever the plan.
class PlainEngine final : public DescribedEngine {
 public:
  PlainEngine() : DescribedEngine({"plain", "plain loops in double", {}}) {}

  [[nodiscard]] double estimated_bytes(const AttentionProblem&, const Parameters&) const override {
    return 0;
  }

  [[nodiscard]] AttentionResult forward(const BoundProblem& bound, const Plan&,
                                        const EngineOptions&) const override {
    const AttentionProblem& problem = bound.problem();
    const TensorShape& shape = problem.query.shape;
    AttentionResult result;
    result.out = Tensor<float>(shape);
    result.lse = Tensor<float>(TensorShape{shape.batch, shape.heads, shape.rows, 1});
    for (int64_t h = 0; h < shape.matrices(); ++h)
      for (int64_t i = 0; i < shape.rows; ++i)
        result.lse.matrix(h).row(i)[0] =
            static_cast<float>(run_row(problem, h, i, result.out.matrix(h).row(i)));
    return result;
  }
  [[nodiscard]] AttentionGradients backward(const BoundProblem&, const Plan&, const AttentionResult&,
                                            TensorView<const float>) const override {
    throw std::logic_error("the plain engine runs forward only");
  }
  [[nodiscard]] Tensor<float> transposed(const BoundProblem&, const Plan&, const RowSums&,
                                         TensorView<const float>) const override {
    throw std::logic_error("the plain engine runs forward only");
  }

 private:
  /// Writes the row's output and returns the logarithm of its denominator.
  static double run_row(const AttentionProblem& problem, int64_t h, int64_t i, float* out) {
    const int64_t dim = problem.value_dim();
    std::vector<double> sums(static_cast<size_t>(dim), 0.0);
    double total = 0;
    for (int64_t j = 0; j <= i; ++j) {
      double score = 0;
      for (int64_t c = 0; c < problem.head_dim(); ++c)
        score += static_cast<double>(problem.query.matrix(h).row(i)[c]) *
                 static_cast<double>(problem.keys_of(h).row(j)[c]);
      const double weight = std::exp(score * static_cast<double>(problem.scale));
      total += weight;
      for (int64_t c = 0; c < dim; ++c)
        sums[static_cast<size_t>(c)] += weight * static_cast<double>(problem.values_of(h).row(j)[c]);
    }
    for (int64_t c = 0; c < dim; ++c) out[c] = static_cast<float>(sums[static_cast<size_t>(c)] / total);
    return std::log(total);
  }
};

}  // namespace

ModelWithIds::ModelWithIds() {
  model.write(folder.path());
  std::string text;
  for (int i = 0; i < 201; ++i) {
    ids.push_back((i * i + 3 * i) % 37);
    text += std::to_string(ids.back()) + (i % 10 == 9 ? "\n" : " ");
  }
  write_file(folder / "ids.txt", text);
}

std::vector<std::string> ModelWithIds::lm(std::vector<std::string> more) const {
  std::vector<std::string> arguments = {"lm", "inputs.model=" + folder.path(),
                                        "inputs.ids=" + folder / "ids.txt", "inputs.seq_len=50",
                                        "inputs.windows=4"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

int program(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "hyperattn");
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  return run_command_line(static_cast<int>(pointers.size()), pointers.data());
}

const Backend& plain_attention_backend() {
  static const PlainEngine engine;
  static const Backend backend("plain", engine.meaning(), *find_method("exact"), engine);
  return backend;
}

std::string input_error(const std::function<void()>& call) {
  return error_text(call, Blame::input);
}
std::string usage_error(const std::function<void()>& call) {
  return error_text(call, Blame::usage);
}

}  // namespace hyperattn::testing
