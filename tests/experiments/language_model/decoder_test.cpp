// The decoder against a plain double-precision forward pass that shares no code with it.
#include <catch2/catch.hpp>
#include <cmath>
#include <random>

#include "core/parallel.h"
#include "experiments/language_model/decoder.h"
#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

std::vector<int32_t> random_ids(size_t count, int64_t vocabulary, unsigned seed) {
  std::mt19937 engine(seed);
  std::vector<int32_t> ids;
  for (size_t i = 0; i < count; ++i)
    ids.push_back(static_cast<int32_t>(engine() % static_cast<uint32_t>(vocabulary)));
  return ids;
}

std::vector<LayerAttention> plain_attention(int64_t layers) {
  return std::vector<LayerAttention>(static_cast<size_t>(layers),
                                     LayerAttention{&plain_attention_backend(), {}});
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

void check_against_double(const TinyModelOptions& options, WeightType type, int shards, int64_t n) {
  const TinyModel model(options, type, 7);
  const ScratchFolder folder;
  model.write(folder.path(), shards);
  const Decoder decoder(folder.path());
  const std::vector<int32_t> ids = random_ids(static_cast<size_t>(n) + 1, options.vocabulary, 11);
  const WindowResult result = decoder.evaluate(ids.data(), n, plain_attention(options.layers), {});
  // Losses are of order 1 to 10; fp32 through three layers keeps about 5 digits.
  CHECK(largest_difference(result.losses, model.losses(ids)) < 2e-4);
  CHECK(result.attention_seconds.size() == static_cast<size_t>(options.layers));
}

}  // namespace

TEST_CASE("decoder: agrees with a double-precision forward pass") {
  TinyModelOptions options;
  SECTION("grouped queries, untied head, biases; float32") {
    check_against_double(options, WeightType::f32, 1, 150);  // more rows than a tile
  }
  SECTION("float16 in three shards") {
    check_against_double(options, WeightType::f16, 3, 40);
  }
  SECTION("bfloat16 in two shards, tied head, no biases") {
    options.tied = true;
    options.attention_bias = false;
    options.mlp_bias = false;
    check_against_double(options, WeightType::bf16, 2, 40);
  }
  SECTION("one key head for all query heads") {
    options.key_heads = 1;
    check_against_double(options, WeightType::f32, 1, 70);
  }
  SECTION("one row") {
    check_against_double(options, WeightType::f32, 1, 1);
  }
  SECTION("nine query heads in three groups, an odd half of the head dimension") {
    options.heads = 9;
    options.key_heads = 3;
    options.head_dim = 6;
    check_against_double(options, WeightType::bf16, 1, 67);
  }
  SECTION("one head narrower than the hidden size, biases of attention alone") {
    options.heads = options.key_heads = 1;
    options.mlp_bias = false;
    check_against_double(options, WeightType::f32, 1, 33);
  }
  SECTION("as many key heads as query heads, smallest head dimension") {
    options.key_heads = 6;
    options.head_dim = 2;
    check_against_double(options, WeightType::f32, 1, 129);  // a last tile of one row
  }
}

TEST_CASE("decoder: bits do not depend on the number of threads") {
  const TinyModelOptions options;
  const TinyModel model(options, WeightType::f32, 3);
  const ScratchFolder folder;
  model.write(folder.path());
  const Decoder decoder(folder.path());
  const std::vector<int32_t> ids = random_ids(301, options.vocabulary, 5);
  const int threads = thread_count();
  std::vector<std::vector<double>> losses;
  for (int count : {1, 3}) {
    set_thread_count(count);
    losses.push_back(decoder.evaluate(ids.data(), 300, plain_attention(options.layers), {}).losses);
  }
  set_thread_count(threads);
  CHECK(losses[0] == losses[1]);
}

TEST_CASE("decoder: the observer sees the causal problem of each layer, and `observe` stops at the last") {
  const TinyModelOptions options;
  const TinyModel model(options, WeightType::f32, 4);
  const ScratchFolder folder;
  model.write(folder.path());
  const Decoder decoder(folder.path());
  const std::vector<int32_t> ids = random_ids(21, options.vocabulary, 6);
  std::vector<std::vector<float>> seen;
  const auto keep = [&](int64_t, const AttentionProblem& problem) {
    CHECK(problem.causal);
    CHECK(problem.query.shape == TensorShape{1, 6, 20, 8});
    CHECK(problem.key.shape == TensorShape{1, 2, 20, 8});  // query heads 0, 1, 2 share key head 0
    CHECK(problem.value.shape == problem.key.shape);
    CHECK(problem.window == 0);
    seen.emplace_back(problem.query.data, problem.query.data + problem.query.shape.size());
  };
  (void)decoder.evaluate(ids.data(), 20, plain_attention(options.layers), {}, keep);
  REQUIRE(seen.size() == 3);
  decoder.observe(ids.data(), 20, plain_attention(options.layers), {}, 1, keep);
  REQUIRE(seen.size() == 5);
  CHECK(seen[3] == seen[0]);
  CHECK(seen[4] == seen[1]);
}

TEST_CASE("decoder: a model that does not fit its configuration is refused") {
  const TinyModelOptions options;
  const auto refusal = [&](const std::function<void(TinyModel&)>& change) {
    TinyModel model(options, WeightType::f32, 1);
    change(model);
    const ScratchFolder folder;
    model.write(folder.path());
    return input_error([&] { const Decoder decoder(folder.path()); });
  };
  CHECK(refusal([](TinyModel&) {}) == "no error");
  CHECK_THAT(refusal([](TinyModel& m) { m.tensors.erase("model.layers.1.mlp.up_proj.weight"); }),
             Contains("no tensor 'model.layers.1.mlp.up_proj.weight'"));
  CHECK_THAT(refusal([](TinyModel& m) { m.tensors.erase("model.layers.2.self_attn.k_proj.bias"); }),
             Contains("k_proj.bias"));
  CHECK_THAT(refusal([](TinyModel& m) { m.tensors.erase("lm_head.weight"); }), Contains("lm_head.weight"));
  CHECK_THAT(refusal([](TinyModel& m) {
               m.tensors["model.norm.weight"].shape = {4, 6};
             }),
             Contains("model.norm.weight") && Contains("[4, 6]") && Contains("[24]"));
  CHECK_THAT(refusal([](TinyModel& m) { m.tensors["model.norm.weight"].values[3] = std::nan(""); }),
             Contains("model.norm.weight") && Contains("non-finite"));
  CHECK_THAT(refusal([](TinyModel& m) { m.config_json.replace(m.config_json.find("Llama"), 5, "Gemma"); }),
             Contains("GemmaForCausalLM"));
  const ScratchFolder empty;
  CHECK_THAT(input_error([&] { const Decoder decoder(empty.path()); }), Contains("config.json"));
}

TEST_CASE("decoder: a tensor that the configuration does not use is refused, redundant ones are not") {
  TinyModelOptions options;
  options.tied = true;
  options.attention_bias = false;
  const auto refusal = [&](const std::string& name, std::vector<int64_t> shape) {
    TinyModel model(options, WeightType::f32, 1);
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    model.tensors[name] = {std::move(shape), std::vector<double>(static_cast<size_t>(size), 0.5)};
    const ScratchFolder folder;
    model.write(folder.path());
    return input_error([&] { const Decoder decoder(folder.path()); });
  };
  for (const char* name : {"model.layers.0.self_attn.q_proj.bias", "model.layers.1.self_attn.q_norm.weight",
                           "model.layers.3.input_layernorm.weight"})
    CHECK_THAT(refusal(name, {24}), Contains(name) && Contains("no part") && Contains("3 layers"));
  CHECK_THAT(refusal("lm_head.weight", {37, 24}),
             Contains("lm_head.weight") && Contains("tie_word_embeddings") && Contains("differ"));
  CHECK(refusal("model.layers.0.self_attn.rotary_emb.inv_freq", {4}) == "no error");
}

TEST_CASE("decoder: a tied head may stand in the file, under either name or both") {
  TinyModelOptions options;
  options.tied = true;
  const TinyModel model(options, WeightType::bf16, 1);
  const std::vector<int32_t> ids = random_ids(21, options.vocabulary, 3);
  const auto losses = [&](const TinyModel& changed) {
    const ScratchFolder folder;
    changed.write(folder.path());
    return Decoder(folder.path()).evaluate(ids.data(), 20, plain_attention(options.layers), {}).losses;
  };
  TinyModel both = model;
  both.tensors["lm_head.weight"] = model.tensors.at("model.embed_tokens.weight");
  CHECK(losses(both) == losses(model));
  TinyModel head = both;
  head.tensors.erase("model.embed_tokens.weight");
  CHECK(losses(head) == losses(model));
}

TEST_CASE("decoder: ids outside the vocabulary and empty windows are refused") {
  const TinyModelOptions options;
  const TinyModel model(options, WeightType::f32, 1);
  const ScratchFolder folder;
  model.write(folder.path());
  const Decoder decoder(folder.path());
  const auto attention = plain_attention(options.layers);
  std::vector<int32_t> ids = random_ids(600, options.vocabulary, 2);
  ids[9] = 37;
  CHECK_THAT(input_error([&] { (void)decoder.evaluate(ids.data(), 20, attention, {}); }),
             Contains("token 9") && Contains("37") && Contains("between 0 and 36"));
  ids[9] = -1;
  CHECK_THAT(input_error([&] { (void)decoder.evaluate(ids.data(), 20, attention, {}); }), Contains("-1"));
  ids[9] = 0;
  CHECK(decoder.evaluate(ids.data(), 513, attention, {}).losses.size() == 513);  // beyond 512 positions
  CHECK_THAT(usage_error([&] { (void)decoder.evaluate(ids.data(), 0, attention, {}); }), Contains("holds 0"));
}

TEST_CASE("decoder: weights whose activations overflow are an error, not a NaN") {
  TinyModel model(TinyModelOptions{}, WeightType::f32, 1);
  for (double& weight : model.tensors["lm_head.weight"].values) weight *= 1e38;
  const ScratchFolder folder;
  model.write(folder.path());
  const Decoder decoder(folder.path());
  const std::vector<int32_t> ids = random_ids(11, 37, 2);
  CHECK_THAT(input_error([&] { (void)decoder.evaluate(ids.data(), 10, plain_attention(3), {}); }),
             Contains("not finite"));
  const auto ignore = [](int64_t, MatrixView<const float>) {};
  CHECK_THAT(input_error([&] {
               decoder.logits(ids.data(), 10, plain_attention(3), {}, {0, 1, 2, 3, 4}, ignore);
             }),
             Contains("logits after token") && Contains("not finite"));
}
