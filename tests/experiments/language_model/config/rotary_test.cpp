// Rotary positions: what config.json says of them in all its places, and the frequencies of every kind, which
// were printed by transformers 5.24 (head_dim 10).
#include <catch2/catch.hpp>

#include "experiments/language_model/architectures/read_model_config.h"
#include "experiments/language_model/config/model_config.h"
#include "experiments/language_model/config/rotary.h"
#include "tests/experiments/language_model/fixture.h"

using namespace hyperattn;
using namespace hyperattn::testing;
using Catch::Contains;

namespace {

std::string llama_with(const std::string& more) {
  return R"({"architectures":["LlamaForCausalLM"],"hidden_size":40,"intermediate_size":16,)"
         R"("num_hidden_layers":2,"num_attention_heads":4,"vocab_size":16,"rms_norm_eps":1e-6,)"
         R"("max_position_embeddings":128,)" +
         more + "}";
}

RotaryConfig rotary_of(const std::string& text) {
  return parse_model_config(text, "config.json").rotary.at(0);
}

std::string refusal(const std::string& more) {
  return input_error([&] { (void)rotary_of(llama_with(more)); });
}

void check_frequencies(const std::string& more, int64_t n, const std::vector<float>& expected,
                       double attention_factor = 1) {
  CAPTURE(more, n);
  const RotaryConfig config = rotary_of(llama_with(more));
  CHECK(rotary_frequencies(config, n) == expected);
  CHECK(config.attention_factor == Approx(attention_factor).epsilon(1e-14));
}

}  // namespace

TEST_CASE("rotary: the frequencies of every kind, to the last bit") {
  const std::vector<float> plain = {0x1p+0F, 0x1.28dea6p-4F, 0x1.5843a6p-8F, 0x1.8f399cp-12F,
                                    0x1.cef5dcp-16F};
  check_frequencies(R"("rope_theta":5e5)", 10, plain);
  check_frequencies(R"("rope_parameters":{"rope_type":"linear","factor":3,"rope_theta":5e5})", 10,
                    {0x1.555556p-2F, 0x1.8bd388p-6F, 0x1.cb04dep-10F, 0x1.0a2668p-13F, 0x1.34a3e8p-17F});
  const std::string dynamic = R"("rope_parameters":{"rope_type":"dynamic","factor":3,"rope_theta":5e5})";
  check_frequencies(dynamic, 100, plain);
  check_frequencies(dynamic, 300,
                    {0x1p+0F, 0x1.8c7086p-5F, 0x1.32f626p-9F, 0x1.db5ba8p-14F, 0x1.701160p-18F});
  check_frequencies(R"("rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,)"
                    R"("high_freq_factor":4,"original_max_position_embeddings":48},"rope_theta":100)",
                    10, {0x1p+0F, 0x1.25ac3cp-2F, 0x1.e4373ep-6F, 0x1.0270aap-7F, 0x1.9b8c26p-9F});
  check_frequencies(R"("rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":64})", 10,
                    {0x1p+0F, 0x1.95bb90p-4F, 0x1.9b8c26p-8F, 0x1.04e748p-10F, 0x1.4acda8p-13F},
                    1.138629436111989);
  check_frequencies(R"("rope_scaling":{"type":"yarn","factor":4,"original_max_position_embeddings":64,)"
                    R"("beta_fast":4,"beta_slow":0.5,"truncate":false,"mscale":0.7,"mscale_all_dim":1.2})",
                    10, {0x1p+0F, 0x1.b4b970p-4F, 0x1.9b8c26p-8F, 0x1.04e748p-10F, 0x1.4acda8p-13F},
                    0.9405715251010841);
  const std::string longrope =
      R"("original_max_position_embeddings":48,"rope_parameters":{"rope_type":"longrope",)"
      R"("short_factor":[1,1.1,1.2,1.3,1.4],"long_factor":[1,2,3,4.5,7]})";
  check_frequencies(longrope, 40, {0x1p+0F, 0x1.27140ap-3F, 0x1.56f4cap-6F, 0x1.9163d2p-9F, 0x1.d89382p-12F},
                    1.1195381289877042);
  check_frequencies(longrope, 50, {0x1p+0F, 0x1.44960cp-4F, 0x1.125d6ep-7F, 0x1.cfd410p-11F, 0x1.7a0f9cp-14F},
                    1.1195381289877042);
}

TEST_CASE("rotary: a part of a head turns, an odd one rounded up where the architecture does so") {
  const std::string neox =
      R"({"architectures":["GPTNeoXForCausalLM"],"hidden_size":40,"intermediate_size":16,)"
      R"("num_hidden_layers":2,"num_attention_heads":4,"vocab_size":16,"max_position_embeddings":128,)";
  const RotaryConfig half = rotary_of(neox + R"("rotary_pct":0.5})");
  CHECK(half.dim == 5);
  CHECK(half.pairs() == 3);
  CHECK(rotary_frequencies(half, 10) == std::vector<float>{0x1p+0F, 0x1.9b8c26p-6F, 0x1.4acda8p-11F});
  CHECK(rotary_of(neox + R"("rotary_emb_base":500})").rope_theta == 500);
  CHECK(rotary_of(neox + R"("rotary_emb_base":500})").dim == 2);  // a quarter, where no key says it
  CHECK_THAT(input_error([&] { (void)rotary_of(neox + R"("rope_theta":500})"); }), Contains("'rope_theta'"));
  CHECK_THAT(input_error([&] {
               (void)rotary_of(neox + R"("rotary_pct":0.5,"rope_parameters":{"rope_type":"default",)"
                                      R"("partial_rotary_factor":0.25}})");
             }),
             Contains("'rotary_pct'") && Contains("0.25"));
}

TEST_CASE("rotary: theta is read wherever it stands, and places that disagree are refused") {
  CHECK(rotary_of(llama_with(R"("rope_theta":5e5)")).rope_theta == 5e5);
  CHECK(rotary_of(llama_with(R"("rope_parameters":{"rope_type":"default","rope_theta":5e5})")).rope_theta ==
        5e5);
  CHECK(rotary_of(llama_with(R"("rope_scaling":{"rope_type":"default","rope_theta":5e5})")).rope_theta ==
        5e5);
  CHECK(rotary_of(llama_with(R"("rope_theta":5e5,"rope_scaling":null)")).rope_theta == 5e5);
  CHECK_THAT(refusal(R"("rope_theta":1e4,"rope_parameters":{"rope_type":"default","rope_theta":1e5})"),
             Contains("'rope_theta'") && Contains("100000"));
  CHECK_THAT(refusal(R"("rope_parameters":{"rope_type":"linear","factor":2},)"
                     R"("rope_scaling":{"rope_type":"linear","factor":3})"),
             Contains("'rope_scaling'") && Contains("rope_parameters"));
  CHECK_THAT(refusal(R"("original_max_position_embeddings":32,"rope_scaling":{"rope_type":"yarn","factor":4,)"
                     R"("original_max_position_embeddings":64})"),
             Contains("original_max_position_embeddings"));
}

TEST_CASE("rotary: kinds and keys that are not built are refused by name") {
  CHECK_THAT(refusal(R"("rope_scaling":{"factor":4})"), Contains("'rope_type'") && Contains("missing"));
  CHECK_THAT(refusal(R"("rope_scaling":3)"), Contains("'rope_scaling'"));
  CHECK_THAT(refusal(R"("rope_scaling":{"type":"linear"})"), Contains("'factor'") && Contains("missing"));
  CHECK_THAT(refusal(R"("rope_scaling":{"type":"linear","factor":0})"), Contains("'factor'"));
  CHECK_THAT(refusal(R"("rope_scaling":{"type":"linear","rope_type":"yarn","factor":2})"),
             Contains("'type'"));
  CHECK_THAT(refusal(R"("rope_scaling":{"type":"mrope","mrope_section":[1,2]})"),
             Contains("mrope") && Contains("llama3"));
  CHECK_THAT(refusal(R"("rope_scaling":{"type":"linear","factor":2,"beta_fast":3})"),
             Contains("'beta_fast' is 3") && Contains("linear"));
  CHECK_THAT(refusal(R"("rope_parameters":{"rope_type":"default","factor":2})"), Contains("'factor'"));
  CHECK_THAT(refusal(R"("rope_scaling":{"rope_type":"llama3","factor":8})"), Contains("'low_freq_factor'"));
  CHECK_THAT(refusal(R"("rope_scaling":{"rope_type":"longrope","short_factor":[1],"long_factor":[1]})"),
             Contains("'short_factor'") && Contains("5 numbers"));
  CHECK_THAT(refusal(R"("rope_theta":0)"), Contains("'rope_theta'"));
  for (const char* partial : {R"("partial_rotary_factor":0.5)",
                              R"("rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5})"})
    CHECK_THAT(refusal(partial), Contains("'partial_rotary_factor'") && Contains("0.5"));
  CHECK_THAT(refusal(R"("rope_parameters":{"full_attention":{"rope_type":"linear","factor":8}})"),
             Contains("full_attention") && Contains("layer type"));
}
