#!/usr/bin/env python3
"""Perplexity and speed of a causal language model against the number of layers whose attention is replaced.

    python examples/perplexity.py HuggingFaceTB/SmolLM2-135M book.txt --length 4096 block_size=256 sample_size=256
    python examples/perplexity.py experiments/data/language_model Eigen.txt --bytes --layers 0,2,4,6 min_seq_len=1024

Window i of N tokens predicts tokens i·N + 1 to i·N + N from those before them in the window. Any model of transformers
that uses its attention interface will do. Settings of the method follow as KEY=VALUE (hyperattn.describe("hyper")).
"""

import argparse
import ast
import math
import sys
import time
from pathlib import Path

import torch
import transformers

import hyperattn
from hyperattn.transformers import patch, unpatch


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder, or a name that transformers can load")
    parser.add_argument("text", type=Path, help="a file of text")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the method")
    parser.add_argument("--method", default="hyper", help="a name from hyperattn.methods() (default: hyper)")
    parser.add_argument("--engine", help="a name from hyperattn.engines() (default: the method's own)")
    parser.add_argument("--layers", help="numbers of replaced layers, such as 0,2,4 (default: 0 to all in five steps)")
    parser.add_argument("--replace", choices=["last", "first"], default="last", help="which ones (default: last)")
    parser.add_argument("--length", type=int, default=2048, help="tokens in a window (default: 2048)")
    parser.add_argument("--windows", type=int, default=1, help="windows (default: 1)")
    parser.add_argument("--bytes", action="store_true", help="the model's tokens are bytes")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, … (default: cpu)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--seed", type=int, default=0, help="of the method's random numbers (default: 0)")
    return parser.parse_intermixed_args()


def value_of(text):
    """8 as an integer, true as True, centroids as text."""
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError):
        return text


def settings_of(words):
    wrong = [word for word in words if "=" not in word]
    if wrong:
        sys.exit(f"perplexity.py: settings are KEY=VALUE, but one is '{wrong[0]}'")
    return {key: value_of(value) for key, _, value in (word.partition("=") for word in words)}


def windows_of(options):
    """(windows, length + 1) ids; each window's last id is the next one's first."""
    if options.bytes:
        ids = torch.frombuffer(bytearray(options.text.read_bytes()), dtype=torch.uint8).long()
    else:
        tokenizer = transformers.AutoTokenizer.from_pretrained(options.model)
        ids = tokenizer(options.text.read_text(encoding="utf-8"), return_tensors="pt").input_ids[0]
    needed = options.windows * options.length + 1
    if len(ids) < needed:
        sys.exit(f"perplexity.py: {options.text} has {len(ids)} tokens, but {options.windows} windows need {needed}")
    return ids[:needed].unfold(0, options.length + 1, options.length)


def wait_for(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def loss_and_seconds(model, window):
    """Nats per token, and the wall time of the forward pass."""
    window = window.to(model.device)[None]
    with torch.no_grad():
        wait_for(model.device)
        start = time.perf_counter()
        logits = model(input_ids=window[:, :-1], use_cache=False).logits[0]
        wait_for(model.device)
        seconds = time.perf_counter() - start
        pieces = zip(logits.split(1024), window[0, 1:].split(1024))  # floats of a piece at a time
        total = sum(torch.nn.functional.cross_entropy(rows.float(), ids, reduction="sum").item() for rows, ids in pieces)
    return total / (window.shape[1] - 1), seconds


def evaluate(model, windows, count, options, settings):
    """The mean over windows, each with random choices of its own."""
    losses, seconds = [], []
    for trial, window in enumerate(windows):
        if count:
            layers = f"{options.replace}:{count}"
            patch(model, options.method, layers, options.seed, options.engine, trial=trial, **settings)
        try:
            loss, time_taken = loss_and_seconds(model, window)
        finally:
            unpatch(model)
        losses.append(loss)
        seconds.append(time_taken)
    return sum(losses) / len(losses), sum(seconds) / len(seconds)


def main():
    options = arguments()
    settings = settings_of(options.settings)
    windows = windows_of(options)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype))
    model = model.to(options.device).eval()
    depth = model.config.get_text_config().num_hidden_layers
    counts = sorted({round(depth * i / 5) for i in range(6)})
    if options.layers:
        counts = sorted({0, *map(int, options.layers.split(","))})
    loss_and_seconds(model, windows[0, :65])  # what is done once
    own_seconds = None
    print(f"{'layers':>6} {'nats/token':>11} {'perplexity':>11} {'seconds':>9} {'speedup':>8}")
    for count in counts:
        loss, seconds = evaluate(model, windows, count, options, settings)
        own_seconds = own_seconds or seconds
        print(f"{count:6} {loss:11.5f} {math.exp(loss):11.4f} {seconds:9.3f} {own_seconds / seconds:8.2f}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except hyperattn.Error as error:
        sys.exit(f"perplexity.py: {error}")
