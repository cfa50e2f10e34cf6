"""Every golden case, replayed by `hyperattn attend --replay`, agrees with the authors' code."""

import unittest

import h5py
import numpy as np
from cli_test import SOURCE, CliTest

TOLERANCE = 2e-5


class GoldenTest(CliTest):
    def test_replay(self):
        cases = sorted((SOURCE / "tests/golden").glob("*.h5"))
        self.assertGreaterEqual(len(cases), 5)
        for case in cases:
            with self.subTest(case.name):
                out = self.path(case.name)
                self.assert_outcome(self.call("attend", case, "-o", out, "backend=hyper", "--replay"), 0)
                with h5py.File(case) as expected, h5py.File(out) as seen:
                    lse = expected["expected/lse"][..., 0]
                    self.assertEqual(seen["lse"].shape, lse.shape)
                    self.assertLess(np.abs(seen["out"][:] - expected["expected/out"][:]).max(), TOLERANCE)
                    self.assertLess(np.abs(seen["lse"][:] - lse).max(), TOLERANCE)

    def test_exact(self):
        for case in sorted((SOURCE / "tests/golden").glob("*.h5")):
            for backend in ("exact", "dense", "reference"):
                with self.subTest(case.name, backend=backend):
                    out = self.path(f"{backend}-{case.name}")
                    self.assert_outcome(self.call("attend", case, "-o", out, f"backend={backend}", "--replay"), 0)
                    with h5py.File(case) as expected, h5py.File(out) as seen:
                        difference = seen["out"][:] - expected["expected/exact_out"][:]
                        self.assertLess(np.abs(difference).max(), TOLERANCE)

    def test_an_argument_that_contradicts_the_replay_is_refused(self):
        case = SOURCE / "tests/golden/gaussian_full.h5"
        out = self.path("out.h5")
        outcome = self.call("attend", case, "-o", out, "backend=hyper", "block_size=7", "--replay")
        self.assert_outcome(outcome, 2, "block_size")
        self.assertFalse(out.exists())


if __name__ == "__main__":
    unittest.main()
