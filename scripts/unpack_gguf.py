#!/usr/bin/env python3
"""Unpacks a GGUF file with a Llama model into the folder that `hyperattn lm` reads: config.json, model.safetensors with
dequantised weights in float32, and tokenizer.json.

    python3 -m venv /tmp/gguf && /tmp/gguf/bin/pip install gguf numpy safetensors tokenizers
    /tmp/gguf/bin/python scripts/unpack_gguf.py MODEL.gguf FOLDER
    /tmp/gguf/bin/python scripts/unpack_gguf.py FOLDER --tokenise TEXT --ids ids.npy

Dequantised weights are exactly those that the file stands for: rounding to few bits is not undone. A setting that is
not known here is refused by name. scripts/fetch_smollm2.sh calls it.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy

# Of each layer: the name in the file, the name in a Hugging Face folder.
LAYER_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OTHER_TENSORS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}

# Keys of the metadata, by what becomes of them.
CONFIG_KEYS = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "rope.freq_base": "rope_theta",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
}
CHECKED_KEYS = {"rope.dimension_count"}


def fail(message):
    sys.exit(f"unpack_gguf.py: {message}")


def metadata(reader):
    return {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}


def config_of(data):
    if data["general.architecture"] != "llama":
        fail(f"the architecture must be llama, but is '{data['general.architecture']}'")
    settings = {name.removeprefix("llama."): value for name, value in data.items() if name.startswith("llama.")}
    for name in settings:
        if name not in CONFIG_KEYS and name not in CHECKED_KEYS:
            fail(f"the setting 'llama.{name}' ({settings[name]}) is not known")
    config = {new: settings[old] for old, new in CONFIG_KEYS.items() if old in settings}
    width = config["hidden_size"] // config["num_attention_heads"]
    if settings.get("rope.dimension_count", width) != width:
        fail(f"rotary positions must turn whole heads of {width}, but llama.rope.dimension_count is {settings['rope.dimension_count']}")
    config["rms_norm_eps"] = float(f"{config['rms_norm_eps']:.7g}")  # stored as float32
    return config | {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "bos_token_id": data.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": data.get("tokenizer.ggml.eos_token_id"),
    }


def in_halves(weights, heads):
    """Rows of Q and K as a Hugging Face Llama has them. GGUF files hold the two numbers that turn together next to each
    other; a Llama of transformers holds them half a head apart."""
    rows, columns = weights.shape
    return weights.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def name_of(name):
    parts = name.split(".")
    if parts[0] == "blk" and len(parts) == 4 and parts[2] in LAYER_TENSORS and parts[3] == "weight":
        return f"model.layers.{parts[1]}.{LAYER_TENSORS[parts[2]]}.weight"
    if len(parts) == 2 and parts[0] in OTHER_TENSORS and parts[1] == "weight":
        return f"{OTHER_TENSORS[parts[0]]}.weight"
    fail(f"the tensor '{name}' is not known")


def tensors_of(reader, config):
    from gguf.quants import dequantize

    tensors = {}
    for tensor in reader.tensors:
        weights = dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        shape = [int(size) for size in reversed(tensor.shape)]
        weights = weights.reshape(shape)
        if ".attn_q." in tensor.name:
            weights = in_halves(weights, config["num_attention_heads"])
        if ".attn_k." in tensor.name:
            weights = in_halves(weights, config["num_key_value_heads"])
        tensors[name_of(tensor.name)] = numpy.ascontiguousarray(weights)
    return tensors


def tokenizer_of(data):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (data.get("tokenizer.ggml.model"), data.get("tokenizer.ggml.pre"))
    if kind != ("gpt2", "smollm"):
        fail(f"the tokenizer must be gpt2 with the pre-tokenizer smollm, but is {kind[0]} with {kind[1]}")
    tokens = data["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in data["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # of llama.cpp's kinds of tokens
    kinds = data["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token, kind in zip(tokens, kinds) if kind == control])
    return tokenizer


def unpack(path, folder):
    import gguf
    from safetensors.numpy import save_file

    if not path.is_file():
        fail(f"'{path}' is not a file")
    reader = gguf.GGUFReader(path)
    data = metadata(reader)
    config = config_of(data)
    tensors = tensors_of(reader, config)
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    kinds = sorted({tensor.tensor_type.name for tensor in reader.tensors})
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tokenizer_of(data).save(str(folder / "tokenizer.json"))
    (folder / "README.md").write_text(
        f"{data.get('general.name', path.name)}, dequantised from {path.name} ({', '.join(kinds)}) by scripts/unpack_gguf.py.\n"
        f"License: {data.get('general.license', 'not stated')}.\n",
        encoding="utf-8",
    )
    # Last, because a folder with a config.json counts as whole.
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    print(f"{folder}: {sum(t.size for t in tensors.values()) / 1e6:.0f} million weights of {', '.join(kinds)}, as float32")


def tokenise(folder, text, ids):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    numbers = numpy.array(tokenizer.encode(text.read_text(encoding="utf-8")).ids, numpy.int32)
    numpy.save(ids, numbers)
    print(f"{ids}: {len(numbers)} tokens of {text}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a GGUF file, or with --tokenise a folder that was unpacked")
    parser.add_argument("folder", type=Path, nargs="?", help="where to unpack")
    parser.add_argument("--tokenise", type=Path, metavar="TEXT", help="write the ids of this text's tokens instead")
    parser.add_argument("--ids", type=Path, metavar="FILE", help="the .npy file for --tokenise")
    arguments = parser.parse_args()
    if arguments.tokenise is not None:
        if arguments.ids is None:
            fail("--tokenise needs --ids FILE")
        tokenise(arguments.source, arguments.tokenise, arguments.ids)
    elif arguments.folder is None:
        fail("a folder to unpack into is needed")
    else:
        unpack(arguments.source, arguments.folder)


if __name__ == "__main__":
    main()
