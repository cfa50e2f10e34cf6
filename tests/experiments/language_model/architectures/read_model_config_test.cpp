// What is read of config.json, and what is refused.
#include "experiments/language_model/architectures/read_model_config.h"

#include <catch2/catch.hpp>

#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

TEST_CASE("model configuration: defaults and refusals") {
  const std::string sizes =
      R"("hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,)"
      R"("vocab_size":256,"rms_norm_eps":1e-6,"max_position_embeddings":128)";
  const std::string kind = R"("architectures":["LlamaForCausalLM"],"hidden_act":"silu")";
  const auto parse = [&](const std::string& more, const std::string& base) {
    return parse_model_config("{" + base + (more.empty() ? "" : ",") + more + "}", "config.json");
  };
  const ModelConfig config = parse("", sizes + "," + kind);
  CHECK(config.num_key_value_heads == 4);
  CHECK(config.head_dim == 16);
  CHECK(config.rotary.front().rope_theta == 10000.0);
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK_FALSE(config.qkv_bias);
  CHECK(config.byte_tokenizer);

  const auto refused = [&](const std::string& more) {
    return input_error([&] { parse(more, sizes + "," + kind); });
  };
  CHECK(refused(R"("num_key_value_heads":2,"rope_scaling":null)") == "no error");
  CHECK_THAT(refused(R"("num_key_value_heads":3)"), Contains("a divisor of num_attention_heads (4)"));
  CHECK_THAT(refused(R"("num_key_value_heads":0)"), Contains("between 1"));
  CHECK_THAT(refused(R"("head_dim":15)"), Contains("even"));
  CHECK_THAT(refused(R"("head_dim":512)"), Contains("at most 256"));
  CHECK_THAT(refused(R"("head_dim":"x")"), Contains("positive integer"));
  CHECK_THAT(refused(R"("rope_theta":-1)"), Contains("rope_theta"));
  CHECK_THAT(refused(R"("rope_interleaved":true)"), Contains("rope_interleaved"));
  CHECK_THAT(refused(R"("sliding_window":4096)"), Contains("sliding_window") && Contains("4096"));
  CHECK_THAT(refused(R"("quantization_config":{"bits":4})"), Contains("quantization_config"));
  CHECK_THAT(refused(R"("model_type":"qwen2")"), Contains("model_type") && Contains("qwen2"));
  CHECK(refused(R"("model_type":"llama","rope_scaling":{"rope_type":"default"},"sliding_window":null)") ==
        "no error");
  CHECK_THAT(refused(R"("tie_word_embeddings":1)"), Contains("true or false"));
  CHECK_THAT(refused(R"("vocab_size":256)"), Contains("twice"));
  CHECK_THAT(input_error([&] { parse("", kind); }), Contains("'hidden_size'") && Contains("missing"));
  CHECK_THAT(input_error([&] { parse(R"("architectures":["BertForMaskedLM"],"hidden_act":"silu")", sizes); }),
             Contains("BertForMaskedLM") && Contains("GPTNeoXForCausalLM, ") && Contains("LlamaForCausalLM"));
  CHECK_THAT(input_error([&] { parse(R"("hidden_act":"silu")", sizes); }),
             Contains("architectures") && Contains("missing"));
  CHECK_THAT(
      input_error([&] { parse(R"("architectures":["LlamaForCausalLM"],"hidden_act":"xielu")", sizes); }),
      Contains("hidden_act") && Contains("xielu") && Contains("silu"));
}

TEST_CASE("model configuration: what is neither read nor known to be harmless is refused by name") {
  const std::string base =
      R"({"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,)"
      R"("num_attention_heads":4,"vocab_size":256,"rms_norm_eps":1e-6,"max_position_embeddings":128,)";
  const auto refused = [&](const std::string& more) {
    return input_error([&] { (void)parse_model_config(base + more + "}", "config.json"); });
  };
  CHECK_THAT(refused(R"("attention_multiplier":0.5)"),
             Contains("'attention_multiplier' is 0.5") && Contains("LlamaForCausalLM"));
  CHECK_THAT(refused(R"("attn_logit_softcapping":50)"), Contains("'attn_logit_softcapping'"));
  CHECK_THAT(refused(R"("use_sliding_window":true)"), Contains("'use_sliding_window'"));
  CHECK_THAT(refused(R"("layer_types":["full_attention","sliding_attention"])"), Contains("'layer_types'"));
  CHECK_THAT(refused(R"("layer_types":["full_attention"])"), Contains("'layer_types'"));
  CHECK_THAT(refused(R"("layer_types":["linear_attention","full_attention"])"), Contains("linear_attention"));
  CHECK_THAT(refused(R"("model_type":7)"), Contains("'model_type'"));
  CHECK(refused(R"("layer_types":["full_attention","full_attention"],"use_sliding_window":false,)"
                R"("attention_dropout":0.1,"bos_token_id":1,"_attn_implementation":"eager","use_cache":true,)"
                R"("is_llama_config":true,"rope_interleaved":false,"attn_logit_softcapping":null)") ==
        "no error");
}

TEST_CASE("model configuration: a GGUF file is refused with what to do about it") {
  const ScratchFolder folder;
  write_file(folder / "model.gguf", "GGUF");
  for (const std::string& path : {folder / "model.gguf", folder.path()}) {
    CAPTURE(path);
    CHECK_THAT(input_error([&] { (void)read_model_config(path); }),
               Contains("GGUF") && Contains("scripts/fetch_smollm2.sh"));
  }
}
