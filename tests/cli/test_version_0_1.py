"""Files that version 0.1 made (tests/data): this version resumes them, and compares them with its own."""

import shutil
import unittest

import h5py
from cli_test import SOURCE, CliTest

FILES = {"version_0_1": ("run", 45), "version_0_1_lm": ("lm", 3)}


def trial_keys(path):
    with h5py.File(path) as file:
        return [(row["case_id"], int(row["trial"]), float(row["seconds"])) for row in file["trials"][:]]


class VersionOne(CliTest):
    def config(self, name):
        return SOURCE / f"tests/data/{name}.yaml"

    def old(self, name):
        path = self.path(f"{name}.h5")
        shutil.copy(SOURCE / f"tests/data/{name}.h5", path)
        path.chmod(0o644)
        return path

    def test_a_dry_run_finds_every_trial_done(self):
        for name, (command, trials) in FILES.items():
            with self.subTest(name):
                outcome = self.call_in(SOURCE, command, self.config(name), "-o", self.old(name), "--dry-run")
                self.assert_outcome(outcome, 0)
                self.assertIn(f"{trials} trials, of which {trials} are in", outcome.stdout)
                self.assertNotIn("note:", outcome.stdout)

    def test_resuming_leaves_every_row_as_it_is(self):
        for name, (command, trials) in FILES.items():
            with self.subTest(name):
                path = self.old(name)
                before = trial_keys(path)
                self.assertEqual(len(before), trials)
                self.assert_outcome(self.call_in(SOURCE, command, self.config(name), "-o", path, "--resume"), 0)
                self.assertEqual(trial_keys(path), before)

    def test_new_results_match_the_old_ones_by_name(self):
        for name, (command, trials) in FILES.items():
            with self.subTest(name):
                new = self.path(f"new_{name}.h5")
                self.assert_outcome(self.call_in(SOURCE, command, self.config(name), "-o", new, "--threads", "1"), 0)
                outcome = self.call("show", "--compare", self.old(name), new)
                self.assert_outcome(outcome, 0)
                self.assertIn(f"\n{trials} cases in common, 0 only in A, 0 only in B\n", outcome.stdout)


if __name__ == "__main__":
    unittest.main()
