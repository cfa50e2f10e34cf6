#!/usr/bin/env python3
"""Times exact attention and HyperAttention beside PyTorch's scaled_dot_product_attention on the CPU.

    python3 scripts/compare_pytorch.py [--bench build/release/hyperattn_bench] [--threads 1 2 16] [--rounds 5] [--precision bf16]

fp32 unless said otherwise, one head, d = 64, Gaussian inputs, equal numbers of threads. Each round times PyTorch and `exact` at n = 16384 in
turn, so that other work on the machine meets both; printed are medians of rounds, their ratio, and the rounds' own ratios.
Then both, and `hyper` (b = m = 256, 128 buckets), at n = 131072 with the largest number of threads. In bf16 PyTorch takes
tensors of bfloat16, and ours rounds its inputs as part of the call. Needs PyTorch."""

import argparse
import json
import statistics
import subprocess
import sys
import time

DIM = 64


def pytorch_seconds(torch, precision, rows, threads, calls):
    """Median of `calls` forward calls, after one that is not counted."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(2024)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    query, key, value = (torch.randn(1, 1, rows, DIM, generator=generator).to(dtype) for _ in range(3))
    seconds = []
    with torch.inference_mode():
        for _ in range(calls + 1):
            begin = time.perf_counter()
            torch.nn.functional.scaled_dot_product_attention(query, key, value)
            seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def our_seconds(bench, precision, backend, rows, threads):
    """The time of one forward call by Google Benchmark: a mean over about a second, after a warm-up."""
    backend += "" if precision == "fp32" else f"_{precision}"
    name = f"^{backend}/full/forward/n:{rows}/d:{DIM}/threads:{threads}/"
    command = [bench, f"--benchmark_filter={name}", "--benchmark_format=json", "--benchmark_min_time=1", "--benchmark_min_warmup_time=0.1"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    if outcome.returncode != 0 or not outcome.stdout.strip():
        sys.exit(f"compare_pytorch.py: {bench} gave no time for {name}: {outcome.stderr.strip()}")
    return json.loads(outcome.stdout)["benchmarks"][0]["real_time"] / 1e3


def compare(torch, bench, precision, rows, threads, rounds, calls):
    pairs = [
        (pytorch_seconds(torch, precision, rows, threads, calls), our_seconds(bench, precision, "exact", rows, threads))
        for _ in range(rounds)
    ]
    ratios = [theirs / ours for theirs, ours in pairs]
    theirs, ours = (statistics.median(column) for column in zip(*pairs))
    print(
        f"n = {rows}, {threads} threads: PyTorch {theirs:.4f} s, exact {ours:.4f} s, "
        f"ratio {theirs / ours:.2f} (rounds: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )
    return theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/release/hyperattn_bench", help="the benchmark program (%(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="1, 2 or all cores (1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (5)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of both (fp32)")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("compare_pytorch.py: this Python has no PyTorch (https://pytorch.org)")
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    for threads in arguments.threads:
        compare(torch, arguments.bench, arguments.precision, 16384, threads, arguments.rounds, calls=5)
    threads = max(arguments.threads)
    theirs = compare(torch, arguments.bench, arguments.precision, 131072, threads, rounds=1, calls=1)
    hyper = our_seconds(arguments.bench, arguments.precision, "hyper", 131072, threads)
    print(f"n = 131072, {threads} threads: hyper {hyper:.5f} s, {theirs / hyper:.0f} times less than PyTorch")


if __name__ == "__main__":
    main()
