"""hyperattn train: what it prints and writes, and what it refuses."""

import csv
import unittest

from cli_test import CliTest

SMALL = ("seq_len=96", "head_dim=8", "classes=6", "block_size=32", "sample_size=32", "bucket_count=8")


class Train(CliTest):
    def train(self, *arguments, backend="hyper"):
        return self.call("train", f"backend={backend}", *arguments)

    def test_learns_and_writes_every_step(self):
        outcome = self.train(*SMALL, "steps=60", "-o", "losses.csv")
        self.assert_outcome(outcome, 0)
        with open(self.path("losses.csv"), encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        self.assertEqual(list(rows[0]), ["step", "exact", "hyper"])
        self.assertEqual([int(row["step"]) for row in rows], list(range(61)))
        for backend in ("exact", "hyper"):
            self.assertLess(float(rows[-1][backend]), float(rows[0][backend]) / 5, rows[-1])
        printed = [line.split() for line in outcome.stdout.splitlines()[3:]]
        self.assertEqual([row[0] for row in printed], [str(step) for step in range(0, 61, 6)])
        self.assertAlmostEqual(float(printed[-1][2]), float(rows[-1]["hyper"]), delta=1e-3)

    def test_one_step(self):
        outcome = self.train("steps=1", *SMALL)
        self.assert_outcome(outcome, 0)
        self.assertEqual(len(outcome.stdout.splitlines()), 5)

    def test_misuse(self):
        self.assert_outcome(self.call("train"), 2, "backend=NAME is missing")
        self.assert_outcome(self.train(backend="dense"), 2, "dense", "no backward pass")
        self.assert_outcome(self.train("sample_size=1000"), 2, "sample_size", "1000", "512")
        self.assert_outcome(self.train("clases=4"), 2, "clases", "classes")
        self.assert_outcome(self.train("mask=file", "mask_path=m.h5"), 2, "mask must be one of sort_lsh, none, band, but is 'file'",
                            "mask_path can't be set here: a trained layer has no mask file")
        self.assert_outcome(self.train("steps=0"), 2, "steps", "between 1")
        self.assert_outcome(self.train("classes=600"), 2, "classes", "512", "600")
        self.assert_outcome(self.train(*SMALL, "learning_rate=1e38"), 2, "diverged", "learning_rate than 1e+38 may help")
        self.assert_outcome(self.train(*SMALL, "-o", "none/losses.csv"), 1, "none/losses.csv")
        self.path("kept.csv").write_text("kept")
        self.assert_outcome(self.train(*SMALL, "-o", "kept.csv"), 2, "kept.csv", "--force")
        self.assertEqual(self.path("kept.csv").read_text(), "kept")
        self.assertEqual([one.name for one in self.folder.iterdir()], ["kept.csv"])


if __name__ == "__main__":
    unittest.main()
