"""What the tests of the command line share: a folder of their own, a way to call the program, small inputs."""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

SOURCE = Path(os.environ.get("HYPERATTN_SOURCE", Path(__file__).resolve().parents[2]))
PROGRAM = os.environ.get("HYPERATTN", str(SOURCE / "build/release/hyperattn"))

SMALL = """\
name: small
seed: 5
trials: 2
timing: {warmup: 0, repeats: 2}
inputs: {source: gaussian, head_dim: 16}
sweep:
  seq_len: [64, 96, 128]
backends: [{name: exact}, {name: lsh, bucket_count: 4, block_size: 16}, {name: hyper, bucket_count: 4, block_size: 16, sample_size: 8}]
measures: [timing, spectral_error]
"""
SMALL_TRIALS = 18


def differing_columns(a, b):
    """Columns of /trials in which two files differ, other than times, what derives from them, and memory, which depends
    on how many threads found work."""
    timed = {"seconds", "seconds_mad", "gflops", "speedup", "baseline_backend", "baseline_seconds", "peak_bytes"}
    with h5py.File(a) as left, h5py.File(b) as right:
        x, y = left["trials"][:], right["trials"][:]
        if x.dtype.names != y.dtype.names or len(x) != len(y):
            return [f"{len(x)} and {len(y)} rows of {len(x.dtype)} and {len(y.dtype)} columns"]
        different = []
        for name in x.dtype.names:
            if name in timed:
                continue
            same = x[name] == y[name]
            if x[name].dtype.kind == "f":
                same |= np.isnan(x[name]) & np.isnan(y[name])
            if not same.all():
                different.append(name)
        for table in ("cases", "config"):
            if not np.array_equal(left[table][()], right[table][()]):
                different.append(f"/{table}")
        return different


class CliTest(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.folder = Path(self._folder.name)

    def path(self, name):
        return self.folder / name

    def config(self, text=SMALL, name="sweep.yaml"):
        path = self.path(name)
        path.write_text(text)
        return path

    def call(self, *arguments, **options):
        return self.call_in(self.folder, *arguments, **options)

    def call_in(self, folder, *arguments, **options):
        return subprocess.run([PROGRAM, *map(str, arguments)], cwd=folder, text=True, capture_output=True,
                              timeout=120, **options)

    def assert_outcome(self, outcome, code, *words):
        seen = f"exit code {outcome.returncode}\n{outcome.stdout[-2000:]}\n{outcome.stderr[-2000:]}"
        self.assertEqual(outcome.returncode, code, seen)
        for word in words:
            self.assertIn(word, outcome.stderr, seen)
        self.assertNotIn("internal error", outcome.stderr, seen)

    def write_mask(self, name="mask.h5", **datasets):
        path = self.path(name)
        with h5py.File(path, "w") as file:
            for dataset, values in datasets.items():
                file[f"mask/{dataset}"] = np.array(values)
        return path

    def write_inputs(self, name="in.h5", **changes):
        random = np.random.default_rng(3)
        tensors = {part: random.standard_normal((1, 2, 64, 16)).astype("f4") for part in "qkv"}
        tensors.update(changes)
        path = self.path(name)
        with h5py.File(path, "w") as file:
            for part, values in tensors.items():
                if values is not None:
                    file[f"inputs/{part}"] = values
        return path
