"""Every golden case, replayed by `hyperattn attend --replay`, agrees with the authors' code."""

import unittest

import h5py
import numpy as np
from cli_test import SOURCE, CliTest
from replayed_attention import ATTRIBUTES, make_case, replayed, write_case

TOLERANCE = 2e-5

# What `make_case` is told, for cases that the shipped files do not cover.
OTHER_CASES = {
    "two sequences of three heads": {"batch": 2, "heads": 3},
    "narrow values": {"value_dim": 5},
    "wide values": {"value_dim": 40},
    "no sample": {"sample_size": 0},
    "Gray order": {"bucket_order": "gray", "bits": 6},
    "fewer queries than keys": {"rows": 100, "keys": 230},
    "more queries than keys": {"rows": 230, "keys": 100},
    "a ragged last block": {"rows": 211, "block_size": 37},
    "one block": {"block_size": 1000},
    "as many samples as keys": {"sample_size": 256},
    "one bucket": {"bits": 0},
    "more buckets than rows": {"bits": 12},
    "one dimension": {"dim": 1, "bits": 3},
    "scale": {"scale": 1.7},
    "causal": {"causal": True},
    "causal, one leaf": {"causal": True, "rows": 64},
    "causal, odd": {"causal": True, "rows": 301, "min_seq_len": 40, "sample_size": 8},
    "causal, the last half of the queries": {"causal": True, "rows": 128, "keys": 256, "min_seq_len": 40},
    "causal, two nodes of the same rows": {"causal": True, "rows": 64, "keys": 256, "min_seq_len": 32, "sample_size": 100},
    "causal, fewer queries than keys": {"causal": True, "rows": 77, "keys": 301, "min_seq_len": 40, "block_size": 16},
    "causal, more queries than keys": {"causal": True, "rows": 301, "keys": 211, "min_seq_len": 40},
    "causal, no sample": {"causal": True, "sample_size": 0},
    "causal, more samples than a node has keys": {"causal": True, "min_seq_len": 32, "sample_size": 100},
    "causal, Gray order, two sequences": {"causal": True, "batch": 2, "min_seq_len": 32, "bucket_order": "gray"},
    "float64": {"dtype": "f8"},
    "float16": {"dtype": "f2"},
    "big-endian": {"dtype": ">f4"},
}
# How a file may store an attribute.
STORED = {
    "int32, float32": lambda x: np.int32(x) if isinstance(x, int) else np.float32(x) if isinstance(x, float) else x,
    "uint8": lambda x: np.uint8(x) if isinstance(x, int) else x,
    "arrays of one": lambda x: x if isinstance(x, str) else np.array([x]),
    "fixed-length text": lambda x: np.bytes_(x) if isinstance(x, str) else x,
}


GRADIENT_TOLERANCE = 1e-4  # of the gradient's largest entry
CASES = sorted((SOURCE / "tests/golden").glob("*.h5"))
CAUSAL = SOURCE / "tests/golden/clustered_causal.h5"
FULL = SOURCE / "tests/golden/clustered_full.h5"


class GoldenTest(CliTest):
    def replay(self, case, *arguments, backend="hyper"):
        out = self.path(f"{backend}-{case.name}")
        self.assert_outcome(self.call("attend", case, "-o", out, f"backend={backend}", *arguments, "--replay"), 0)
        return out

    def assert_forward(self, expected, seen):
        lse = expected["expected/lse"][..., 0]
        self.assertEqual(seen["lse"].shape, lse.shape)
        self.assertLess(np.abs(seen["out"][:] - expected["expected/out"][:]).max(), TOLERANCE)
        self.assertLess(np.abs(seen["lse"][:] - lse).max(), TOLERANCE)

    def test_replay_forward_and_backward(self):
        self.assertGreaterEqual(len(CASES), 5)
        for case in CASES:
            with self.subTest(case.name), h5py.File(case) as expected:
                with h5py.File(self.replay(case, "--backward")) as seen:
                    self.assert_forward(expected, seen)
                    for name in ("dq", "dk", "dv"):
                        gradient = expected[f"expected/{name}"][:]
                        difference = np.abs(seen[name][:] - gradient).max()
                        self.assertLess(difference, GRADIENT_TOLERANCE * np.abs(gradient).max(), name)

    def test_causal_may_be_said_once_more(self):
        with h5py.File(CAUSAL) as expected, h5py.File(self.replay(CAUSAL, "causal=true")) as seen:
            self.assert_forward(expected, seen)

    def assert_replayed(self, case, *arguments, **storage):
        path, out = self.path("case.h5"), self.path("out.h5")
        write_case(case, path, **storage)
        self.assert_outcome(self.call("attend", path, "-o", out, "backend=hyper", "--replay", "--force", *arguments), 0)
        with h5py.File(out) as seen:
            for name in ("out", "lse"):
                self.assertEqual(seen[name].shape, case[name].shape)
                np.testing.assert_allclose(seen[name][:], case[name], rtol=0, atol=TOLERANCE, err_msg=name)

    def test_the_independent_replay_agrees_with_the_authors_code(self):
        with h5py.File(SOURCE / "tests/golden/clustered_causal.h5") as file:
            case = {name: file.attrs[name] for name in ATTRIBUTES}
            case["projections"] = file["replay/projections"][:].astype("f8")
            q, k, v = (file[f"inputs/{name}"][0, 1].astype("f8") for name in "qkv")
            samples = {rows: list(file[f"replay/samples_rows_{rows}"][0, 1]) for rows in (256, 512)}
            out, lse = replayed(q, k, v, samples, case)
            self.assertLess(np.abs(out - file["expected/out"][0, 1]).max(), TOLERANCE)
            self.assertLess(np.abs(lse - file["expected/lse"][0, 1, :, 0]).max(), TOLERANCE)

    def test_other_cases_of_the_same_form(self):
        for seed, (name, options) in enumerate(OTHER_CASES.items()):
            with self.subTest(name):
                self.assert_replayed(make_case(seed, **options))

    def test_attributes_and_indices_of_other_types(self):
        case = make_case(5)
        for name, stored in STORED.items():
            with self.subTest(name):
                self.assert_replayed(case, attribute=stored)
        self.assert_replayed(case, index_type="u2", projection_type="f8")

    def test_attributes_that_are_missing(self):
        # Sizes follow from the datasets, the others have defaults or are given.
        self.assert_replayed(make_case(6), leave_out=("sample_size", "num_projections", "causal", "min_seq_len", "scale"))
        self.assert_replayed(make_case(6), "block_size=32", "bucket_order=reference", leave_out=ATTRIBUTES)
        self.assert_replayed(make_case(7, sample_size=0), leave_out=("sample_size",))
        self.assert_replayed(make_case(7, causal=True), "causal=true", leave_out=("causal",))

    def test_exact(self):
        for case in CASES:
            for backend in ("exact", "dense", "reference"):
                with self.subTest(case.name, backend=backend), h5py.File(case) as expected:
                    with h5py.File(self.replay(case, backend=backend)) as seen:
                        difference = seen["out"][:] - expected["expected/exact_out"][:]
                        self.assertLess(np.abs(difference).max(), TOLERANCE)

    def test_an_argument_that_contradicts_the_replay_is_refused(self):
        with h5py.File(CAUSAL) as file:
            leaf = int(file.attrs["min_seq_len"])
        for case, argument in [(FULL, "block_size=7"), (FULL, "bucket_count=2"), (FULL, "sample_size=1"),
                               (FULL, "scale=0.3"), (FULL, "bucket_order=gray"), (FULL, "causal=true"),
                               (CAUSAL, "causal=false"), (CAUSAL, f"min_seq_len={leaf + 1}")]:
            with self.subTest(case.name, argument=argument):
                out = self.path("out.h5")
                outcome = self.call("attend", case, "-o", out, "backend=hyper", argument, "--replay")
                self.assert_outcome(outcome, 2, argument.split("=")[0], case.name)
                self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
