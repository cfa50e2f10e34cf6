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
    ("name: small", "name: small\ngroups: Null"),
    ("head_dim: 16", "head_dim: 16, causal: True, scale: ~"),
    ("{name: exact}", "&e {name: lsh, block_size: 32}, {<<: *e, block_size: 64}"),
]


# A small configuration of `hyperattn lm`, and changes that both must refuse: what it would ignore, wherever it stands.
MODEL = """\
inputs: {source: language_model, seq_len: 64, replaced: [0, 2]}
sweep: {sample_size: [8, 16]}
backends: [{name: hyper, block_size: 16, mask: sort_lsh}, exact]
"""
IGNORED_BY_LM = [
    ("seq_len: 64", "seq_len: 64, causal: true"),
    ("seq_len: 64", "seq_len: 64, scale: 0.5"),
    ("sample_size: [8, 16]", "scale: [0.1, 0.2]"),
    ("sample_size: [8, 16]", "causal: [false]"),
    ("sample_size: [8, 16]", "mask: [sort_lsh, file]"),
    ("sample_size: [8, 16]", "zip: {scale: [1], sample_size: [8]}"),
    ("mask: sort_lsh", "mask: file"),
    ("mask: sort_lsh", "mask_path: m.h5"),
    ("backends:", "timing: {repeats: 5}\nbackends:"),
    ("backends:", "measures: [timing]\nbackends:"),
    ("replaced: [0, 2]", "replaced: all"),
    ("source: language_model", "source: gaussian"),
]


class Schema(CliTest):
    def setUp(self):
        super().setUp()
        self.validators = {"run": self.validator("list", "--schema"), "lm": self.validator("list", "lm", "--schema")}

    def validator(self, *call):
        outcome = self.call(*call)
        self.assert_outcome(outcome, 0)
        schema = json.loads(outcome.stdout)
        jsonschema.Draft7Validator.check_schema(schema)
        return jsonschema.Draft7Validator(schema)

    def by_schema(self, text, command="run"):
        return [error.message for error in self.validators[command].iter_errors(yaml.safe_load(text))]

    def test_both_refuse_what_lm_would_ignore(self):
        self.assertEqual(self.by_schema(MODEL, "lm"), [])
        self.path("text").write_bytes(b"some words " * 100)
        words = [SOURCE / "experiments/data/language_model", self.path("text")]
        call = ["--dry-run", f"inputs.model={words[0]}", f"inputs.text={words[1]}"]
        self.assert_outcome(self.call("lm", self.config(MODEL), *call), 0)
        for old, new in IGNORED_BY_LM:
            with self.subTest(new):
                self.assertIn(old, MODEL)
                text = MODEL.replace(old, new)
                self.assertNotEqual(self.by_schema(text, "lm"), [], "the schema takes it")
                self.assert_outcome(self.call("lm", self.config(text), *call), 2)

    def test_what_lm_would_ignore_is_refused_in_groups_and_arguments(self):
        config = self.config(MODEL + "groups: {base: {}, other: {sweep.scale: [0.1, 0.5]}}\n")
        self.assert_outcome(self.call("lm", config, "--dry-run"), 2, "in group other", "scale can't be set here")
        for argument, word in (("inputs.causal=false", "causal"), ("inputs[0].scale=1", "scale"), ("sweep.causal=[true]", "causal"),
                               ("sweep.language_model.scale=[1, 2]", "scale"), ("sweep.inputs.causal=[true]", "causal"),
                               ("sweep.where=scale > 0.1", "scale"), ("sweep.where=[inputs.causal or seq_len > 1]", "causal"),
                               ("sweep.zip={scale: [1, 2]}", "scale"), ("hyper.mask_path=m.h5", "mask_path"),
                               ("sweep.mask=[file]", "mask"), ("backends[0].mask=file", "mask"), ("timing.pass=forward_backward", "timing"),
                               ("timing.warmup=3", "timing"), ("timing={repeats: auto}", "timing"), ("measures=[alpha]", "measures")):
            with self.subTest(argument):
                self.assert_outcome(self.call("lm", self.config(MODEL), "--dry-run", argument), 2, argument, word)

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
                read = yaml.safe_load(text)
                inputs = read["inputs"] if isinstance(read["inputs"], list) else [read["inputs"]]
                command = "lm" if {"replace", "replaced"} & set(inputs[0]) else "run"
                # Where it says how its inputs are captured, that is no call of the configuration.
                self.assertEqual(command == "lm", "hyperattn lm" in text.replace("hyperattn lm --capture", ""))
                self.assertEqual(self.by_schema(text, command), [])
                files = [source.get(key, "") for source in inputs for key in ("model", "path")]
                if any(name.startswith("results/") and not (SOURCE / name).exists() for name in files):
                    continue  # what a script fetches or captures first
                groups = read.get("groups") or {"": None}
                group = "smoke" if "smoke" in groups else next(iter(groups))
                call = [command, config, "--dry-run", *([f"group={group}"] if group else [])]
                self.assert_outcome(self.call_in(SOURCE, *call), 0)


if __name__ == "__main__":
    unittest.main()
