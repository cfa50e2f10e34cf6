"""Every golden case, replayed by `hyperattn attend --replay`, agrees with the authors' code."""

import unittest

import h5py
import numpy as np
from cli_test import SOURCE, CliTest

TOLERANCE = 2e-5


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
