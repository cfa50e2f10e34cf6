#!/usr/bin/env python3
"""Makes random models with transformers, and compares their logits with those of `hyperattn lm --logits`.

    python3 -m venv /tmp/hf && /tmp/hf/bin/pip install torch transformers h5py
    /tmp/hf/bin/python scripts/compare_transformers.py --seeds 3

For every architecture and seed: sizes, biases, tied heads, norms, rotary positions and multipliers at random, weights
large enough that every part of the model shows, a sequence beyond max_position_embeddings. The logits must agree with
transformers in double precision to 1e-4 of their standard deviation, or to twice what transformers itself loses in
single precision; the mean loss to 1e-5 nats. Needs torch, transformers and h5py (see above: Debian has
no transformers); no test does. Exit code 1 where a model differs or is refused. With --make FOLDER it writes the small
models of tests/experiments/language_model/models instead, each with what transformers computes for it.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy
from random_models import CASES, MADE, MADE_SIZES, MADE_VOCABULARY, TOKENS, VOCABULARY

MADE_TOKENS = 72
LOGITS_TOLERANCE = 1e-4  # of their standard deviation
TIMES_ROUNDING = 2  # where transformers in single precision is further than that from itself in double precision
NATS_TOLERANCE = 1e-5


def make_model(architecture, seed, more=None):
    """The model, in evaluation, with weights that matter: initialisation leaves norms at 1 and biases at 0."""
    config_name, settings = CASES[architecture]
    rng = random.Random(f"{architecture} {seed}")
    torch.manual_seed(seed)
    chosen = settings(rng)
    if more is not None:
        chosen.pop("no_rope_layers", None)  # of another number of layers
        chosen = {**chosen, **{key: value for key, value in MADE_SIZES.items() if key in chosen}, **more}
    config = getattr(transformers, config_name)(**chosen)
    config._attn_implementation = "eager"
    model = getattr(transformers, architecture)(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            else:
                parameter.copy_(torch.randn_like(parameter) * 1.5 / parameter.shape[-1] ** 0.5)
    return model


def mean_loss(logits, ids):
    rows = logits[:-1].astype(numpy.float64)
    largest = rows.max(axis=1)
    log_sums = largest + numpy.log(numpy.exp(rows - largest[:, None]).sum(axis=1))
    return float((log_sums - rows[numpy.arange(len(rows)), ids[1:]]).mean())


def our_logits(program, folder, ids):
    ids_file, output = folder / "ids.npy", folder / "logits.h5"
    numpy.save(ids_file, ids)
    call = [program, "lm", "--logits", output, "--force", f"model={folder}", f"ids={ids_file}", f"seq_len={len(ids)}"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    with h5py.File(output) as file:
        return file["logits"][:]


def save_model(model, folder, dtype):
    """Saves it, and returns what transformers reads back, in float32."""
    model.to(dtype).save_pretrained(folder)
    return type(model).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def their_logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor(ids)[None]).logits[0].numpy()


def make_test_models(folder):
    for name, architecture, more in MADE:
        place = folder / name
        model = save_model(make_model(architecture, 1, more), place, torch.bfloat16)
        (place / "generation_config.json").unlink(missing_ok=True)
        ids = numpy.random.default_rng(7).integers(0, MADE_VOCABULARY, MADE_TOKENS)
        with h5py.File(place / "expected.h5", "w") as file:
            file["ids"] = ids
            file["logits"] = their_logits(model, ids)
            file.attrs["transformers"] = transformers.__version__
        print(place, sum(entry.stat().st_size for entry in place.iterdir()), "bytes")


def compare(program, architecture, seed, folder):
    """A line of the report, and whether the model agrees."""
    dtype = [torch.float32, torch.float32, torch.bfloat16, torch.float16][seed % 4]
    model = save_model(make_model(architecture, seed), folder, dtype)
    ids = numpy.random.default_rng(seed).integers(0, VOCABULARY, TOKENS)
    theirs = their_logits(model, ids)
    exact = their_logits(model.double(), ids)
    try:
        ours = our_logits(program, folder, ids)
    except RuntimeError as error:
        return f"refused: {error}", False
    spread, rounding = (numpy.abs(logits - exact).max() / exact.std() for logits in (ours, theirs))
    nats = abs(mean_loss(ours, ids) - mean_loss(exact, ids))
    agrees = spread <= max(LOGITS_TOLERANCE, TIMES_ROUNDING * rounding) and nats <= NATS_TOLERANCE
    seen = f"logits differ by {spread:.1e} of their spread (transformers' own rounding: {rounding:.1e}), nats by {nats:.1e}"
    return seen + ("" if agrees else "  <== DIFFERS"), agrees


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/hyperattn")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(CASES), action="append", help="this architecture")
    parser.add_argument("--keep", type=Path, help="folder that keeps the models that differ")
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="write the models of the tests, and stop")
    arguments = parser.parse_args()
    # Here, so that --help needs neither.
    global torch, transformers
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if arguments.make:
        make_test_models(arguments.make)
        return 0
    program = str(Path(arguments.program).resolve())
    failures = 0
    for architecture in arguments.only or CASES:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                line, agrees = compare(program, architecture, seed, Path(scratch))
                print(f"{architecture:24} seed {seed:3}: {line}", flush=True)
                failures += not agrees
                if not agrees and arguments.keep:
                    shutil.copytree(scratch, arguments.keep / f"{architecture}-{seed}", dirs_exist_ok=True)
    print(f"{failures} differ" if failures else "all agree")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
