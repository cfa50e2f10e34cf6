"""scripts/compare_field.py: every case of the shipped configurations has a name, the tables of docs/comparison.md are those of
the shipped results, and what it refuses."""

import collections
import unittest

import made_results as made
import yaml
from script_test import SCRIPTS, ScriptTest

import compare_field  # noqa: E402

ROOT = SCRIPTS.parent
RESULTS = sorted((ROOT / "docs/results").glob("field_*.h5"))
# What the program gives a case that does not say it.
DEFAULTS = {
    "lsh": {"mask": "sort_lsh"},
    "hyper": {"mask": "sort_lsh", "residual": "sample", "bucket_order": "gray", "prescore": "none", "bins": 1},
    "coreset": {"bins": 1},
    "thinned": {"streaming": 0},
    "tree": {"order": "tree", "tail": "corrected"},
}


class Field(ScriptTest):
    def names(self, config):
        backends = yaml.safe_load((ROOT / "configs/field" / config).read_text())["backends"]
        cases = [{**DEFAULTS[case["name"]], **case, "backend": case["name"]} for case in backends if case["name"] != "exact"]
        return collections.Counter(map(compare_field.method_of, cases))

    def test_every_case_has_a_name_at_every_budget(self):
        for config in ("heads.yaml", "language_model.yaml"):
            names = self.names(config)
            self.assertEqual(set(names.values()), {len(compare_field.BUDGETS)}, names)
            self.assertEqual(set(names) | {"`thinned`"}, set(compare_field.ORDER))
        self.assertEqual(set(self.names("planning.yaml").values()), {1})

    def test_the_document_has_the_tables_of_the_shipped_results(self):
        self.assertEqual(len(RESULTS), 3)
        document = self.directory / "comparison.md"
        shipped = (ROOT / "docs/comparison.md").read_text(encoding="utf-8")
        document.write_text(shipped, encoding="utf-8")
        run = self.run_script("compare_field.py", *RESULTS, "--document", document)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(document.read_text(encoding="utf-8").splitlines(), shipped.splitlines())

    def test_pictures(self):
        out = self.directory / "pictures"
        self.assert_pictures(self.run_script("compare_field.py", *RESULTS, "-o", out), out, ["field_entries", "field_time", "field_model"])

    def test_refusals(self):
        other = self.write("other", made.sweep(seq_lens=(512,), trials=1))
        self.assert_refused(self.run_script("compare_field.py", other, "-o", self.directory), 3, "configs/field/heads.yaml")
        document = self.directory / "no_marks.md"
        document.write_text("no table\n")
        self.assert_refused(self.run_script("compare_field.py", *RESULTS, "--document", document), 3, "0 places <!-- field")
        self.assertEqual(document.read_text(), "no table\n")


if __name__ == "__main__":
    unittest.main()
