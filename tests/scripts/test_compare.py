"""scripts/compare_results.py: equal but for times, and what it says otherwise."""

import unittest

import made_results as made
from script_test import ScriptTest


class Compare(ScriptTest):
    def setUp(self):
        self.rows = made.sweep(seq_lens=(512,), trials=2)
        self.first = self.write("first", self.rows)

    def compare(self, rows, *arguments):
        return self.run_script("compare_results.py", self.first, self.write("second", rows), *arguments)

    def test_another_order_and_other_times_are_the_same(self):
        rows = [dict(row, seconds=row["seconds"] * 2, speedup=9.0, threads=7) for row in reversed(self.rows)]
        run = self.compare(rows)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("the same", run.stdout)

    def test_another_error_is_a_difference_within_no_tolerance(self):
        rows = [dict(row) for row in self.rows]
        rows[2]["epsilon"] *= 1 + 1e-12
        run = self.compare(rows)
        self.assertEqual(run.returncode, 1)
        self.assertIn("epsilon differs in 1 rows", run.stdout)
        self.assertEqual(self.compare(rows, "--tolerance", "1e-9").returncode, 0)

    def test_a_missing_trial_and_a_failed_one_are_differences(self):
        run = self.compare(self.rows[1:])
        self.assertEqual(run.returncode, 1)
        self.assertIn("one file only", run.stdout)
        rows = [dict(row) for row in self.rows]
        rows[0].update(status="failed", message="no")
        run = self.compare(rows)
        self.assertEqual(run.returncode, 1)
        self.assertIn("status differs", run.stdout)

    def test_refusals(self):
        self.assert_refused(self.run_script("compare_results.py", self.first, self.directory / "none.h5"), 3, "no such file")
        self.assert_refused(self.compare(self.rows, "--tolerance", "-1"), 2, "--tolerance")


if __name__ == "__main__":
    unittest.main()
