"""The scripts learn from a results file what the program declares: every parameter, with its default and with what it has
effect, and every figure. What they know of version 0.1, whose files carry no declarations, fits a file of that version."""

import json
import sys
import unittest

import h5py
from cli_test import SOURCE, CliTest

sys.path.insert(0, str(SOURCE / "scripts"))

import hyperattn_results as hr  # noqa: E402
from hyperattn_plots.declarations import VERSION_0_1, Declarations  # noqa: E402


def entries(schema):
    """Every object of the schema that declares an entry with a name."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema["properties"]
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from entries(part)


class PlotParameters(CliTest):
    def setUp(self):
        super().setUp()
        self.assert_outcome(self.call("run", self.config(), "-o", "out.h5", "trials=1"), 0)
        with h5py.File(self.path("out.h5")) as file:
            self.declared = Declarations()
            self.declared.learn(json.loads(file["declarations"][()]))
            self.columns = list(file["trials"].dtype.names)

    def test_every_parameter_of_the_schema_is_declared_with_its_default(self):
        outcome = self.call("list", "--schema")
        self.assert_outcome(outcome, 0)
        sections = json.loads(outcome.stdout)["properties"]
        count = 0
        for section, of, key in (("backends", "backends", "name"), ("inputs", "inputs", "source"), ("measures", "measures", "name")):
            for entry in entries(sections[section]):
                owner = entry[key]["const"]
                for name, parameter in entry.items():
                    if name in (key, "label") or of == "inputs" and (of, owner, name) not in self.declared.parameters:
                        self.assertIn(name, (key, "label", "causal", "scale"), owner)
                        continue
                    known = self.declared.parameters[(of, owner, name)]
                    self.assertEqual(known.get("default"), parameter.get("default"), (owner, name))
                    self.assertIn(known["column"], self.columns, (owner, name))
                    count += 1
        self.assertGreater(count, 40)

    def test_every_column_is_declared(self):
        self.assertEqual(self.columns, list(self.declared.columns))

    def test_what_a_parameter_is_for_can_be_chosen(self):
        for (of, owner, name), parameter in self.declared.parameters.items():
            for condition in parameter.get("only_with", []) if of == "backends" else []:
                own = [one for one in condition if one["parameter"] in self.declared.of_backend(owner)]
                self.assertTrue(own or condition[0]["parameter"] == "causal", (owner, name))
                for one in own:
                    choices = self.declared.of_backend(owner)[one["parameter"]].get("choices")
                    for value in one.get("one_of", one.get("other_than")) if choices else []:
                        self.assertIn(value, choices, (owner, name))

    def test_the_declarations_of_version_0_1_have_the_columns_of_its_files(self):
        known = json.loads(VERSION_0_1.read_text(encoding="utf-8"))
        with h5py.File(SOURCE / "tests/data/version_0_1.h5") as file:
            self.assertEqual(set(file["trials"].dtype.names) - {column["name"] for column in known["columns"]}, set())
        trials = hr.load(SOURCE / "tests/data/version_0_1.h5").trials
        self.assertEqual(hr.distinct(trials, "band_width"), [4])
        self.assertEqual(hr.distinct(trials, "clusters"), [4])
        self.assertEqual(hr.distinct(trials, "model_heads"), ["[1, 3]"])


if __name__ == "__main__":
    unittest.main()
