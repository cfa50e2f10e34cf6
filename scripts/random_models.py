"""Settings of language models for scripts/compare_transformers.py: random ones of every architecture that the program
has, as arguments of transformers' configuration classes, and those of the models in the tests."""

TOKENS = 192
VOCABULARY = 320
MADE_VOCABULARY = 48


def sizes(rng, head_dims=(8, 12, 16, 20)):
    """Sizes that every architecture has; queries in groups, intermediate sizes that fit no vector."""
    key_heads = rng.choice([1, 2, 3])
    heads = key_heads * rng.choice([1, 2, 4])
    return {
        "vocab_size": VOCABULARY + rng.choice([0, 1, 7]),
        "hidden_size": heads * rng.choice(head_dims),
        "intermediate_size": rng.choice([33, 64, 101]),
        "num_hidden_layers": rng.choice([2, 3, 5]),
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "max_position_embeddings": rng.choice([64, 128, 1024]),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def wider_heads(rng):
    return {"head_dim": rng.choice([8, 14, 32])} if rng.random() < 0.5 else {}


def epsilon(rng, name):
    return {name: rng.choice([1e-6, 1e-5, 1e-3])}


def scaling(rng, kinds=("default", "linear", "dynamic", "llama3", "yarn")):
    """Rotary positions of one of the kinds, without partial_rotary_factor."""
    kind = rng.choice(kinds)
    rope = {"rope_type": kind, "rope_theta": rng.choice([500.0, 10000.0, 1e6])}
    if kind in ("linear", "dynamic", "llama3", "yarn"):
        rope["factor"] = rng.choice([1.5, 4.0, 8.0])
    if kind in ("llama3", "yarn"):
        rope["original_max_position_embeddings"] = rng.choice([24, 32, 100])
    if kind == "llama3":
        rope.update(low_freq_factor=rng.choice([1.0, 1.5]), high_freq_factor=4.0)
    if kind == "yarn":
        if rng.random() < 0.5:
            rope.update(beta_fast=rng.choice([8, 32]), beta_slow=rng.choice([0.5, 1, 2]))
        extra = rng.choice([{}, {"attention_factor": 1.3}, {"mscale": 0.7, "mscale_all_dim": 1.1}, {"mscale": 0.7}])
        rope.update(extra, **rng.choice([{}, {"truncate": False}]))
    return {"rope_parameters": rope}


def longrope(rng, config, share=1.0):
    head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    pairs = int(head * share) // 2
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": share}
    rope["short_factor"] = [rng.uniform(1, 1.5) for _ in range(pairs)]
    rope["long_factor"] = [rng.uniform(1, 6) for _ in range(pairs)]
    if rng.random() < 0.3:
        rope["attention_factor"] = 1.2
    return {"rope_parameters": rope, "original_max_position_embeddings": rng.choice([32, 100, 256])}


def partial(rng, shares, **more):
    rope = {"rope_type": "default", "rope_theta": rng.choice([10000.0, 2e5]), "partial_rotary_factor": rng.choice(shares)}
    if rng.random() < 0.3:
        rope.update(rope_type="linear", factor=2.5)
    rope.update(more)
    return {"rope_parameters": rope}


def tied(rng):
    return {"tie_word_embeddings": rng.random() < 0.5}


def llama(rng):
    return {**sizes(rng), **wider_heads(rng), **epsilon(rng, "rms_norm_eps"), **scaling(rng), **tied(rng),
            "attention_bias": rng.random() < 0.5, "mlp_bias": rng.random() < 0.5,
            "hidden_act": rng.choice(["silu", "gelu", "relu"])}


def mistral(rng):
    return {**sizes(rng), **wider_heads(rng), **epsilon(rng, "rms_norm_eps"), **scaling(rng), **tied(rng),
            "sliding_window": rng.choice([None, TOKENS, 500])}


def qwen2(rng):
    return {**sizes(rng), **epsilon(rng, "rms_norm_eps"), **scaling(rng), **tied(rng),
            **rng.choice([{}, {"use_sliding_window": True, "sliding_window": 200, "max_window_layers": 1}])}


def qwen3(rng):
    return {**qwen2(rng), **wider_heads(rng), "head_dim": rng.choice([8, 16]), "attention_bias": rng.random() < 0.5}


def phi(rng):
    return {**sizes(rng, [8, 24]), **epsilon(rng, "layer_norm_eps"), **partial(rng, [0.5, 1.0]), **tied(rng),
            "qk_layernorm": rng.random() < 0.5, "hidden_act": rng.choice(["gelu_new", "gelu"])}


def phi3(rng):
    config = {**sizes(rng), **epsilon(rng, "rms_norm_eps"), **tied(rng), "sliding_window": rng.choice([None, 1000])}
    kind = rng.choice(["default", "partial", "longrope", "longrope"])
    if kind == "default":
        return {**config, **scaling(rng, ["default"])}
    if kind == "partial":
        return {**config, **partial(rng, [0.5, 0.75], rope_type="default", factor=None)}
    return {**config, **longrope(rng, config)}


def gpt_neox(rng):
    return {**sizes(rng), **epsilon(rng, "layer_norm_eps"), **partial(rng, [0.25, 0.4, 1.0]), **tied(rng),
            "use_parallel_residual": rng.random() < 0.5, "attention_bias": rng.random() < 0.7,
            "hidden_act": rng.choice(["gelu", "gelu_new", "gelu_fast"])}


def gemma(rng):
    return {**sizes(rng), "head_dim": rng.choice([8, 32]), **epsilon(rng, "rms_norm_eps"), **scaling(rng), **tied(rng),
            "attention_bias": rng.random() < 0.3, "hidden_act": rng.choice(["gelu", "gelu_pytorch_tanh", "silu"])}


def gemma2(rng):
    config = {**gemma(rng), "attn_logit_softcapping": None, "final_logit_softcapping": rng.choice([None, 5.0, 30.0]),
              "query_pre_attn_scalar": rng.choice([8, 100]), "sliding_window": rng.choice([TOKENS, 4096])}
    del config["hidden_act"]
    return config


def gemma3(rng):
    return {**gemma2(rng), "rope_parameters": {"full_attention": scaling(rng, ["default", "linear"])["rope_parameters"],
                                               "sliding_attention": {"rope_type": "default", "rope_theta": 900.0}}}


def stablelm(rng):
    return {**sizes(rng, [8, 24]), **epsilon(rng, "layer_norm_eps"), **partial(rng, [0.25, 0.5, 1.0]), **tied(rng),
            "use_qkv_bias": rng.random() < 0.5, "qk_layernorm": rng.random() < 0.5,
            "use_parallel_residual": rng.random() < 0.5}


def olmo2(rng):
    return {**sizes(rng), **epsilon(rng, "rms_norm_eps"), **scaling(rng), **tied(rng),
            "attention_bias": rng.random() < 0.5}


def granite(rng):
    return {**llama(rng), "embedding_multiplier": 1.7, "residual_multiplier": rng.choice([0.3, 1.0]),
            "logits_scaling": rng.choice([1.0, 4.0]), "attention_multiplier": rng.choice([0.05, 0.3])}


def starcoder2(rng):
    return {**sizes(rng), **epsilon(rng, "norm_epsilon"), **scaling(rng), **tied(rng), "use_bias": rng.random() < 0.7}


def gpt2(rng):
    config = sizes(rng)
    return {"vocab_size": config["vocab_size"], "n_embd": config["hidden_size"], "n_head": config["num_attention_heads"],
            "n_layer": config["num_hidden_layers"], "n_positions": 256, "n_inner": rng.choice([None, 50]),
            "layer_norm_epsilon": rng.choice([1e-5, 1e-3]), "scale_attn_weights": rng.random() < 0.7,
            "scale_attn_by_inverse_layer_idx": rng.random() < 0.5, "pad_token_id": 0, **tied(rng)}


def cohere(rng):
    return {**sizes(rng), **epsilon(rng, "layer_norm_eps"), **scaling(rng), **tied(rng),
            "use_qk_norm": rng.random() < 0.5, "logit_scale": rng.choice([0.0625, 0.8]),
            "attention_bias": rng.random() < 0.5}


def glm(rng):
    return {**sizes(rng), "head_dim": rng.choice([8, 16]), **epsilon(rng, "rms_norm_eps"), **partial(rng, [0.5, 1.0]),
            **tied(rng), "attention_bias": rng.random() < 0.5}


def smollm3(rng):
    config = {**llama(rng), "no_rope_layer_interval": rng.choice([2, 4])}
    del config["hidden_act"]
    if rng.random() < 0.5:
        config["no_rope_layers"] = [rng.choice([0, 1]) for _ in range(config["num_hidden_layers"])]
    return config


def arcee(rng):
    return {**llama(rng), "hidden_act": rng.choice(["relu2", "silu"])}


def ernie(rng):
    return {**sizes(rng), **wider_heads(rng), "head_dim": rng.choice([8, 16]), **epsilon(rng, "rms_norm_eps"),
            **scaling(rng), **tied(rng), "use_bias": rng.random() < 0.5}


def helium(rng):
    config = {**llama(rng)}
    return {**config, "head_dim": config["hidden_size"] // config["num_attention_heads"]}


def nemotron(rng):
    config = {**sizes(rng), **wider_heads(rng), **epsilon(rng, "norm_eps"), **partial(rng, [0.5, 1.0]), **tied(rng),
              "attention_bias": rng.random() < 0.5, "mlp_bias": rng.random() < 0.5}
    config["hidden_act"] = rng.choice(["relu2", "gelu"])
    return config


def olmo(rng):
    return {**sizes(rng), **scaling(rng), **tied(rng), "clip_qkv": rng.choice([None, 0.7]),
            "attention_bias": rng.random() < 0.5}


def seed_oss(rng):
    return {**llama(rng), "head_dim": rng.choice([None, 8, 24]), "attention_out_bias": rng.random() < 0.5}


# What `hyperattn lm` calls the architecture, its configuration in transformers, and settings for a seed.
CASES = {
    "ArceeForCausalLM": ("ArceeConfig", arcee),
    "CohereForCausalLM": ("CohereConfig", cohere),
    "Ernie4_5ForCausalLM": ("Ernie4_5Config", ernie),
    "GemmaForCausalLM": ("GemmaConfig", gemma),
    "Gemma2ForCausalLM": ("Gemma2Config", gemma2),
    "Gemma3ForCausalLM": ("Gemma3TextConfig", gemma3),
    "GlmForCausalLM": ("GlmConfig", glm),
    "Glm4ForCausalLM": ("Glm4Config", glm),
    "GPT2LMHeadModel": ("GPT2Config", gpt2),
    "GPTNeoXForCausalLM": ("GPTNeoXConfig", gpt_neox),
    "GraniteForCausalLM": ("GraniteConfig", granite),
    "HeliumForCausalLM": ("HeliumConfig", helium),
    "LlamaForCausalLM": ("LlamaConfig", llama),
    "MistralForCausalLM": ("MistralConfig", mistral),
    "NemotronForCausalLM": ("NemotronConfig", nemotron),
    "OlmoForCausalLM": ("OlmoConfig", olmo),
    "Olmo2ForCausalLM": ("Olmo2Config", olmo2),
    "PhiForCausalLM": ("PhiConfig", phi),
    "Phi3ForCausalLM": ("Phi3Config", phi3),
    "Qwen2ForCausalLM": ("Qwen2Config", qwen2),
    "Qwen3ForCausalLM": ("Qwen3Config", qwen3),
    "SeedOssForCausalLM": ("SeedOssConfig", seed_oss),
    "SmolLM3ForCausalLM": ("SmolLM3Config", smollm3),
    "StableLmForCausalLM": ("StableLmConfig", stablelm),
    "Starcoder2ForCausalLM": ("Starcoder2Config", starcoder2),
}
# The small models of the tests: name, architecture, settings beside those of CASES.
ROPE = {"rope_theta": 10000.0, "factor": 4.0}
MADE = [
    ("arcee", "ArceeForCausalLM", {}),
    ("cohere", "CohereForCausalLM", {"use_qk_norm": True}),
    ("ernie4_5", "Ernie4_5ForCausalLM", {}),
    ("gemma", "GemmaForCausalLM", {}),
    ("gemma2", "Gemma2ForCausalLM", {"final_logit_softcapping": 5.0}),
    ("gemma3", "Gemma3ForCausalLM", {}),
    ("glm", "GlmForCausalLM", {}),
    ("glm4", "Glm4ForCausalLM", {}),
    ("gpt2", "GPT2LMHeadModel", {"scale_attn_by_inverse_layer_idx": True}),
    ("gpt_neox", "GPTNeoXForCausalLM", {"use_parallel_residual": True}),
    ("gpt_neox_in_turn", "GPTNeoXForCausalLM", {"use_parallel_residual": False, "attention_bias": False}),
    ("granite", "GraniteForCausalLM", {}),
    ("helium", "HeliumForCausalLM", {"head_dim": 8}),
    ("llama", "LlamaForCausalLM", {"head_dim": 14, "attention_bias": True, "mlp_bias": True}),
    ("llama_linear", "LlamaForCausalLM", {"rope_parameters": {**ROPE, "rope_type": "linear"}}),
    ("llama_dynamic", "LlamaForCausalLM", {"rope_parameters": {**ROPE, "rope_type": "dynamic"},
                                           "max_position_embeddings": 32}),
    ("llama_llama3", "LlamaForCausalLM", {"rope_parameters": {
        **ROPE, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32}}),
    ("llama_yarn", "LlamaForCausalLM", {"rope_parameters": {
        **ROPE, "rope_type": "yarn", "original_max_position_embeddings": 32}}),
    ("mistral", "MistralForCausalLM", {"sliding_window": 40}),
    ("nemotron", "NemotronForCausalLM", {}),
    ("olmo", "OlmoForCausalLM", {"clip_qkv": 0.7}),
    ("olmo2", "Olmo2ForCausalLM", {}),
    ("phi", "PhiForCausalLM", {"qk_layernorm": True}),
    ("phi3", "Phi3ForCausalLM", {"rope_parameters": {
        "rope_theta": 10000.0, "rope_type": "longrope", "short_factor": [1.0, 1.2, 1.3, 1.5],
        "long_factor": [1.0, 2.0, 3.0, 4.0]}, "original_max_position_embeddings": 32}),
    ("qwen2", "Qwen2ForCausalLM", {}),
    ("qwen3", "Qwen3ForCausalLM", {}),
    ("seed_oss", "SeedOssForCausalLM", {"attention_out_bias": True}),
    ("smollm3", "SmolLM3ForCausalLM", {"no_rope_layer_interval": 2}),
    ("stablelm", "StableLmForCausalLM", {"qk_layernorm": True, "use_parallel_residual": False}),
    ("stablelm_parallel", "StableLmForCausalLM", {"qk_layernorm": False, "use_parallel_residual": True}),
    ("starcoder2", "Starcoder2ForCausalLM", {}),
]
# Sizes that keep the files small.
MADE_SIZES = {"vocab_size": MADE_VOCABULARY, "hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2,
              "num_attention_heads": 4, "num_key_value_heads": 2, "n_embd": 32, "n_head": 4, "n_layer": 2,
              "n_positions": 80, "n_inner": 37}
