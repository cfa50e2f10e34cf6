// Every architecture against transformers: small random models with the logits that it computed
// (tests/experiments/language_model/models, made by scripts/compare_transformers.py --make), and what each
// refuses.
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/files/hdf5_file.h"
#include "experiments/language_model/architectures/architecture.h"
#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/decoder.h"
#include "tests/experiments/language_model/fixture.h"
#include "tests/paths.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

namespace fs = std::filesystem;

constexpr double kLogitsTolerance = 1e-4;  // of their standard deviation
constexpr double kNatsTolerance = 1e-5;

std::string models_folder() {
  return source_dir() + "/tests/experiments/language_model/models";
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(models_folder()))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

/// What transformers computed.
struct Expected {
  std::vector<int32_t> ids;
  DoubleArray logits;
  double deviation = 0;

  explicit Expected(const std::string& name) {
    const Hdf5File file = Hdf5File::open(models_folder() + "/" + name + "/expected.h5");
    for (const int64_t id : file.read_integers("/ids").values) ids.push_back(static_cast<int32_t>(id));
    logits = file.read_doubles("/logits");
    double sum = 0;
    double squares = 0;
    for (const double logit : logits.values) {
      sum += logit;
      squares += logit * logit;
    }
    const auto count = static_cast<double>(logits.values.size());
    deviation = std::sqrt(squares / count - sum / count * (sum / count));
  }

  [[nodiscard]] double logit(int64_t row, int64_t column) const {
    return logits.values[row * logits.shape[1] + column];
  }

  /// Of predicting ids[row + 1].
  [[nodiscard]] double loss(int64_t row) const {
    double sum = 0;
    for (int64_t j = 0; j < logits.shape[1]; ++j) sum += std::exp(logit(row, j));
    return std::log(sum) - logit(row, ids[static_cast<size_t>(row) + 1]);
  }
};

std::vector<LayerAttention> exact_attention(const Decoder& model) {
  const Backend* exact = find_backend("exact");
  return std::vector<LayerAttention>(static_cast<size_t>(model.config().num_hidden_layers),
                                     LayerAttention{exact, default_parameters(exact->parameters())});
}

nlohmann::json config_of(const std::string& name) {
  std::ifstream file(models_folder() + "/" + name + "/config.json");
  return nlohmann::json::parse(file);
}

std::string refusal_of(const nlohmann::json& config) {
  return input_error([&] { (void)parse_model_config(config.dump(), "config.json"); });
}

}  // namespace

TEST_CASE("architectures: logits and losses are those of transformers") {
  for (const std::string& name : model_names()) {
    DYNAMIC_SECTION(name) {
      const Expected expected(name);
      const Decoder model(models_folder() + "/" + name);
      const auto n = static_cast<int64_t>(expected.ids.size());
      REQUIRE(why_not_length(model.config(), n).empty());
      std::vector<int64_t> rows;
      for (int64_t i = 0; i < n; ++i) rows.push_back(i);
      double largest = 0;
      int64_t seen = 0;
      model.logits(expected.ids.data(), n, exact_attention(model), {}, rows,
                   [&](int64_t first, MatrixView<const float> logits) {
                     REQUIRE(logits.cols == expected.logits.shape[1]);
                     for (int64_t i = 0; i < logits.rows; ++i)
                       for (int64_t j = 0; j < logits.cols; ++j)
                         largest = std::max(largest, std::abs(static_cast<double>(logits.row(i)[j]) -
                                                              expected.logit(first + i, j)));
                     seen += logits.rows;
                   });
      CHECK(seen == n);
      CHECK(largest / expected.deviation < kLogitsTolerance);
      std::vector<int32_t> ids = expected.ids;
      ids.push_back(0);  // what comes after the last one is not compared
      const WindowResult result = model.evaluate(ids.data(), n, exact_attention(model), {});
      double ours = 0;
      double theirs = 0;
      for (int64_t i = 0; i + 1 < n; ++i) {
        ours += result.losses[static_cast<size_t>(i)];
        theirs += expected.loss(i);
      }
      const auto tokens = static_cast<double>(n - 1);
      CAPTURE(ours / tokens, theirs / tokens);
      CHECK(std::abs(ours - theirs) / tokens < kNatsTolerance);
    }
  }
}

TEST_CASE("architectures: each has a model among the tests, and a name and a type of its own") {
  std::set<std::string> tested;
  for (const std::string& name : model_names()) tested.insert(config_of(name)["architectures"][0]);
  std::set<std::string> types;
  for (const Architecture* architecture : all_architectures()) {
    CAPTURE(architecture->name);
    CHECK(tested.count(architecture->name) == 1);
    CHECK(types.insert(architecture->model_type).second);
  }
}

TEST_CASE("architectures: the type alone names one, and a type of another is refused") {
  nlohmann::json config = config_of("qwen3");
  config.erase("architectures");
  CHECK(refusal_of(config) == "no error");
  CHECK(parse_model_config(config.dump(), "c").architecture == "Qwen3ForCausalLM");
  config["model_type"] = "mamba";
  CHECK_THAT(refusal_of(config),
             Contains("'model_type'") && Contains("mamba") && Contains("LlamaForCausalLM"));
  config["architectures"] = {"Qwen3ForCausalLM"};
  CHECK_THAT(refusal_of(config), Contains("'model_type'") && Contains("qwen3"));
}

TEST_CASE("architectures: an absent rope_theta is the architecture's own") {
  const auto thetas = [](const std::string& name) {
    nlohmann::json config = config_of(name);
    config.erase("rope_parameters");
    std::vector<double> list;
    for (const RotaryConfig& rotary : parse_model_config(config.dump(), "c").rotary)
      list.push_back(rotary.rope_theta);
    return list;
  };
  CHECK(thetas("llama") == std::vector<double>{1e4});
  CHECK(thetas("cohere") == std::vector<double>{5e5});
  CHECK(thetas("ernie4_5") == std::vector<double>{5e5});
  CHECK(thetas("smollm3") == std::vector<double>{2e6});
  CHECK(thetas("helium") == std::vector<double>{1e5});
  CHECK(thetas("gemma3") == std::vector<double>{1e6, 1e4});
}

TEST_CASE("architectures: what first files said beside their keys is honoured or refused") {
  nlohmann::json config = config_of("starcoder2");
  config["mlp_type"] = "default";
  config["norm_type"] = "layer_norm";
  CHECK(refusal_of(config) == "no error");
  config["norm_type"] = "rms_norm";
  CHECK_THAT(refusal_of(config), Contains("'norm_type'") && Contains("rms_norm"));
  config = config_of("smollm3");
  config["max_window_layers"] = 28;
  CHECK(refusal_of(config) == "no error");
}

TEST_CASE("architectures: settings of other architectures are refused by name") {
  for (const std::string& name : model_names()) {
    CAPTURE(name);
    nlohmann::json config = config_of(name);
    CHECK(refusal_of(config) == "no error");
    config["some_new_scale"] = 0.5;
    CHECK_THAT(refusal_of(config), Contains("'some_new_scale' is 0.5") && Contains("not known"));
    config = config_of(name);
    config["quantization_config"] = {{"quant_method", "fp8"}};
    CHECK_THAT(refusal_of(config), Contains("'quantization_config'") && Contains("quantised"));
    config = config_of(name);
    config["is_causal"] = true;
    CHECK(refusal_of(config) == "no error");
    config["is_causal"] = false;
    CHECK_THAT(refusal_of(config), Contains("'is_causal' must be true or absent") && Contains("false"));
    config["is_causal"] = nullptr;
    CHECK_THAT(refusal_of(config), Contains("'is_causal' must be true or absent") && Contains("is null"));
    config = config_of(name);
    config["hidden_size"] = -3;
    config["n_embd"] = -3;
    CHECK_THAT(refusal_of(config), Contains("between 1"));
    config = config_of(name);
    config[name == "gpt2" ? "n_layer" : "num_hidden_layers"] = 1'000'000'000;
    CHECK_THAT(refusal_of(config), Contains("at most 10000 layers") && Contains("1000000000"));
  }
}

TEST_CASE("architectures: windows are read where they stand, layer by layer") {
  const auto windows = [](const nlohmann::json& config) {
    std::vector<int64_t> list;
    for (const LayerConfig& layer : parse_model_config(config.dump(), "c").layers)
      list.push_back(layer.window);
    return list;
  };
  using List = std::vector<int64_t>;
  nlohmann::json mistral = config_of("mistral");
  CHECK(windows(mistral) == List{40, 40});
  mistral["sliding_window"] = nullptr;
  CHECK(windows(mistral) == List{0, 0});
  mistral.erase("sliding_window");
  CHECK(windows(mistral) == List{4096, 4096});
  mistral["layer_types"] = {"full_attention", "sliding_attention"};
  CHECK_THAT(refusal_of(mistral), Contains("'layer_types'"));
  nlohmann::json qwen = config_of("qwen2");
  qwen.erase("layer_types");
  qwen["use_sliding_window"] = true;
  qwen["sliding_window"] = 30;
  qwen["max_window_layers"] = 1;
  CHECK(windows(qwen) == List{0, 30});
  qwen["max_window_layers"] = 0;
  CHECK(windows(qwen) == List{30, 30});
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  CHECK(windows(qwen) == List{30, 0});
  qwen["use_sliding_window"] = false;
  CHECK_THAT(refusal_of(qwen), Contains("'layer_types'") && Contains("use_sliding_window"));
  qwen.erase("layer_types");
  CHECK(windows(qwen) == List{0, 0});
  nlohmann::json gemma = config_of("gemma3");
  gemma["layer_types"] = {"sliding_attention", "full_attention"};
  gemma["sliding_window"] = 17;
  CHECK(windows(gemma) == List{17, 0});
  gemma.erase("layer_types");
  gemma["sliding_window_pattern"] = 2;
  CHECK(windows(gemma) == List{17, 0});
  nlohmann::json smol = config_of("smollm3");
  smol.erase("layer_types");
  smol["no_rope_layers"] = {1, 0};
  smol["use_sliding_window"] = true;
  smol["sliding_window"] = 9;
  CHECK(windows(smol) == List{0, 9});
}

TEST_CASE("architectures: a window hides keys of longer sequences only, and learned positions end") {
  const ModelConfig config = read_model_config(models_folder() + "/mistral");
  CHECK(window_within(config.layers[0], 40) == 0);
  CHECK(window_within(config.layers[0], 41) == 40);
  CHECK_THAT(why_not_length(read_model_config(models_folder() + "/gpt2"), 81),
             Contains("learned positions for 80") && Contains("81 tokens"));
  CHECK(why_not_length(read_model_config(models_folder() + "/llama"), 1'000'000).empty());
}

TEST_CASE(
    "architectures: capped scores are refused, also where the cap is a default; capped logits are not") {
  nlohmann::json config = config_of("gemma2");
  CHECK(parse_model_config(config.dump(), "c").logit_cap == 5);
  config["attn_logit_softcapping"] = 50;
  CHECK_THAT(refusal_of(config), Contains("'attn_logit_softcapping'") && Contains("50"));
  config.erase("attn_logit_softcapping");
  CHECK_THAT(refusal_of(config), Contains("'attn_logit_softcapping'") && Contains("absent"));
  config = config_of("gemma3");
  config.erase("attn_logit_softcapping");
  CHECK(refusal_of(config) == "no error");
  config["attn_logit_softcapping"] = 50;
  CHECK_THAT(refusal_of(config), Contains("'attn_logit_softcapping'"));
}

TEST_CASE("architectures: Gemma's gelu is the approximation, whatever its first files say") {
  nlohmann::json config = config_of("gemma");
  config["hidden_act"] = "gelu";
  CHECK(parse_model_config(config.dump(), "c").activation == Activation::gelu_tanh);
  config["hidden_activation"] = "gelu_pytorch_tanh";
  CHECK(refusal_of(config) == "no error");
  config["hidden_activation"] = "silu";
  CHECK_THAT(refusal_of(config), Contains("'hidden_activation'") && Contains("silu"));
}
