"""Every shipped configuration plans, and the JSON Schema and the reader agree on what is a configuration."""

import json
import unittest

import jsonschema
import yaml
from cli_test import SMALL, SOURCE, CliTest

# One change of SMALL each that both must refuse, or both accept.
REFUSED = [
    ("trials: 2", "trials: 0"),
    ("trials: 2", "trials: many"),
    ("trials: 2", "trails: 2"),
    ("seed: 5", "seed: -1"),
    ("repeats: 2", "repeats: sometimes"),
    ("repeats: 2", "repeat: 2"),
    ("warmup: 0", "pass: backward"),
    ("source: gaussian", "source: gausian"),
    ("head_dim: 16", "head_dim: 0"),
    ("head_dim: 16", "head_dims: 16"),
    ("bucket_count: 4", "bucket_count: 12"),
    ("block_size: 16", "block_size: 0"),
    ("sample_size: 8", "sample_size: -1"),
    ("sample_size: 8", "sampling: sometimes"),
    ("[64, 96, 128]", "[64, many]"),
    ("[64, 96, 128]", "[]"),
    ("[64, 96, 128]", "{pow2: [64]}"),
    ("[64, 96, 128]", "{powers: [64, 128]}"),
    ("{name: exact}", "{name: exakt}"),
    ("spectral_error]", "spectral_errors]"),
]
ACCEPTED = [
    ("trials: 2", "trials: 3"),
    ("repeats: 2", "repeats: auto, min_repeats: 3, max_repeats: 9, relative_error: 0.1"),
    ("[64, 96, 128]", "64"),
    ("[64, 96, 128]", "{pow2: [64, 256]}"),
    ("[64, 96, 128]", "{range: [64, 128, 32]}"),
    ("[64, 96, 128]", "{linspace: [64, 128, 3]}"),
    ("[64, 96, 128]", "{logspace: [64, 256, 3]}"),
    ("seq_len: [64, 96, 128]", "zip: {seq_len: [64, 96], heads: [1, 2]}"),
    ("seq_len: [64, 96, 128]", "seq_len: 64\n  where: seq_len < 100"),
    ("seq_len: [64, 96, 128]", "inputs.seq_len: [64]\n  hyper.sampling: [uniform, value_norm]"),
    ("{name: exact}", "exact"),
    ("measures: [timing, spectral_error]", "measures: []"),
    ("name: small", "name: small\ngroups: {base: {}, smoke: {trials: 1}}"),
]


class Schema(CliTest):
    def setUp(self):
        super().setUp()
        outcome = self.call("list", "--schema")
        self.assert_outcome(outcome, 0)
        schema = json.loads(outcome.stdout)
        jsonschema.Draft7Validator.check_schema(schema)
        self.validator = jsonschema.Draft7Validator(schema)

    def by_schema(self, text):
        return [error.message for error in self.validator.iter_errors(yaml.safe_load(text))]

    def test_both_refuse(self):
        for old, new in REFUSED:
            with self.subTest(new):
                self.assertIn(old, SMALL)
                text = SMALL.replace(old, new)
                self.assertNotEqual(self.by_schema(text), [], "the schema takes it")
                self.assert_outcome(self.call("run", self.config(text), "--dry-run"), 2)

    def test_both_accept(self):
        for old, new in ACCEPTED:
            with self.subTest(new):
                self.assertIn(old, SMALL)
                text = SMALL.replace(old, new)
                self.assertEqual(self.by_schema(text), [])
                self.assert_outcome(self.call("run", self.config(text), "--dry-run"), 0)

    def test_shipped_configurations(self):
        configs = sorted((SOURCE / "configs").rglob("*.yaml")) + [SOURCE / "scripts/slurm/selftest.yaml"]
        self.assertGreater(len(configs), 5)
        for config in configs:
            text = config.read_text()
            with self.subTest(config.name):
                # `hyperattn lm` has inputs of its own, which are none of a sweep's.
                command = "lm" if config.name == "language_model.yaml" else "run"
                if command == "run":
                    self.assertEqual(self.by_schema(text), [])
                groups = yaml.safe_load(text).get("groups") or {"": None}
                group = "smoke" if "smoke" in groups else next(iter(groups))
                call = [command, config, "--dry-run", *([f"group={group}"] if group else [])]
                self.assert_outcome(self.call_in(SOURCE, *call), 0)


if __name__ == "__main__":
    unittest.main()
