"""The parameters by which plots tell cases apart (scripts/hyperattn_results.py) are those that the program declares: a
new one that the list lacks would draw different cases under one label."""

import json
import sys
import unittest

from cli_test import SOURCE, CliTest

sys.path.insert(0, str(SOURCE / "scripts"))

import hyperattn_results as hr  # noqa: E402

PATHS = {"mask_path"}  # where a mask is from; `mask: file` is what tells it from others
SIZES = {"bucket_count"}  # an enumeration in the schema, for it takes powers of two only


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
        outcome = self.call("list", "--schema")
        self.assert_outcome(outcome, 0)
        schema = json.loads(outcome.stdout)
        self.backends = {name: declared for entry in entries(schema["properties"]["backends"]) for name, declared in entry.items() if name != "name"}
        self.inputs = {name for entry in entries(schema["properties"]["inputs"]) for name in entry}
        self.assertIn("block_size", self.backends)
        self.assertIn("condition_number", self.inputs)

    def test_every_parameter_of_a_backend_is_named_and_no_other(self):
        listed = {column for column, _ in hr.PARAMETERS}
        self.assertEqual(set(self.backends) - PATHS - listed, set(), "lacking in PARAMETERS")
        self.assertEqual(listed - set(self.backends) - self.inputs, set(), "PARAMETERS that nothing declares")

    def test_choices_are_the_parameters_that_are_no_sizes(self):
        choices = {name for name, declared in self.backends.items() if "enum" in declared or declared.get("type") == "boolean"}
        self.assertEqual(set(hr.CHOICES), choices - SIZES)

    def test_the_usual_choice_is_the_default(self):
        defaults = {name: self.backends[name]["default"] for name in hr.CHOICES}
        self.assertEqual({name: hr.USUAL[name] for name in hr.CHOICES}, defaults)

    def test_what_a_parameter_is_for_can_be_chosen(self):
        for column, (other, value) in hr.ONLY_WITH.items():
            self.assertIn(column, self.backends)
            self.assertIn(value, self.backends[other]["enum"], column)


if __name__ == "__main__":
    unittest.main()
