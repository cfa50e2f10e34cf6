"""Times attention on a GPU through PyTorch: hyperattn's engine cuda, and PyTorch's own by cuDNN and flash attention.

Called by scripts/bench_gpu.sh. All lines are of one process, one card and one set of Gaussian tensors; a time is the
median of some calls between two events of the stream, so that it has all of a call: planning, and waiting for the host.
"""

import argparse
import pathlib
import statistics
import sys

try:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    import hyperattn.torch
except ImportError as error:  # told after the arguments are read, so that --help works anywhere
    missing = error
else:
    missing = None


def median_milliseconds(call, repeats):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(2):  # the first calls take memory that later ones find, and events are made when first recorded
        begin.record()
        call()
        end.record()
    times = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin.record()
        call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def exact_of(backend):
    def call(q, k, v, causal):
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    return call


def method_of(name, **settings):
    def call(q, k, v, causal):
        mask = {"min_seq_len": 2048} if causal and name == "hyper" else {}
        return hyperattn.torch.attention(q, k, v, name, causal, engine="cuda", **settings, **mask)

    return call


LINES = {
    "exact, PyTorch's cuDNN": exact_of("CUDNN_ATTENTION"),
    "exact, PyTorch's flash": exact_of("FLASH_ATTENTION"),
    "exact": method_of("exact"),
    "hyper": method_of("hyper", block_size=256, sample_size=256, bucket_count=128),
    "tree": method_of("tree"),
}


AUTHORS = "hyper, the authors' Triton"


def authors_of(folder):
    """Their estimator is another one: block attention, and the first keys with weight 1 in place of a sample."""
    sys.path.insert(0, str(folder))
    from hyper_attention import HyperAttention

    modules = {}

    def call(q, k, v, causal):
        if q.shape[-1] not in modules:
            modules[q.shape[-1]] = HyperAttention(
                input_dim=q.shape[-1], lsh_num_projs=7, block_size=256, sample_size=256, min_seq_len=2048
            ).to(q)
        return modules[q.shape[-1]](q, k, v, causal=causal)

    return call


def forward(call, tensors, causal):
    with torch.no_grad():
        call(*tensors, causal)


def forward_and_backward(call, tensors, causal, gradient):
    torch.autograd.grad(call(*tensors, causal), tensors, gradient)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--rows", type=int, nargs="+", default=[131072])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--type", choices=["bfloat16", "float16"], default="bfloat16")
    parser.add_argument("--lines", nargs="+", default=list(LINES), choices=list(LINES))
    parser.add_argument("--authors", type=pathlib.Path, help="a checkout of amirzandieh/HyperAttention to time, too")
    parser.add_argument("--forward-only", nargs="*", default=["tree", "exact"], help="lines without their gradient")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    if missing is not None:
        parser.exit(1, f"bench_gpu.py needs PyTorch 2.3 or later for CUDA, and the package hyperattn: {missing}\n")
    lines = {name: LINES[name] for name in given.lines}
    if given.authors is not None:
        if not (given.authors / "hyper_attention.py").is_file():
            parser.error(f"argument --authors: {given.authors} has no file hyper_attention.py")
        lines[AUTHORS] = authors_of(given.authors)
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    for rows in given.rows:
        for causal in (False, True):
            torch.manual_seed(0)
            shape = (1, given.heads, rows, given.dim)
            options = dict(device="cuda", dtype=getattr(torch, given.type))
            tensors = [torch.randn(shape, **options).requires_grad_() for _ in range(3)]
            gradient = torch.randn(shape, **options)
            where = f"{given.heads} heads, n = {rows}, d = {given.dim}, {given.type}{', causal' if causal else ''}"
            for name, call in lines.items():
                try:
                    times = [median_milliseconds(lambda: forward(call, tensors, causal), given.repeats)]
                    if name not in given.forward_only:
                        both = lambda: forward_and_backward(call, tensors, causal, gradient)  # noqa: E731
                        times.append(median_milliseconds(both, given.repeats))
                except (RuntimeError, AssertionError, hyperattn.EnvironmentError) as error:
                    print(f"{where}: {name}: {str(error).splitlines()[0]}", flush=True)
                    continue
                text = ", ".join(f"{what} {time:.2f} ms" for what, time in zip(("forward", "forward + backward"), times))
                print(f"{where}: {name}: {text}", flush=True)


if __name__ == "__main__":
    main()
