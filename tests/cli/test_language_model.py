"""`hyperattn lm` on the small models of the tests: sliding windows, heads that share keys, sequences beyond the trained."""

import json
import shutil
import unittest

import h5py
import numpy as np
from cli_test import SOURCE, CliTest, differing_columns

MODELS = SOURCE / "tests/experiments/language_model/models"


class SlidingWindows(CliTest):
    """The mistral model's two layers see 40 tokens, its file of logits holds 80."""

    def setUp(self):
        super().setUp()
        with h5py.File(MODELS / "mistral/expected.h5") as file:
            self.ids, self.logits = file["ids"][()], file["logits"][()]
        self.path("ids.txt").write_text(" ".join(map(str, self.ids)))

    def lm(self, *arguments, model="mistral"):
        return self.call("lm", f"inputs.model={MODELS / model}", "inputs.ids=ids.txt", *arguments)

    def test_a_sequence_beyond_the_window_is_computed(self):
        outcome = self.lm("--logits", "l.h5", f"inputs.seq_len={len(self.ids)}")
        self.assert_outcome(outcome, 0)
        with h5py.File(self.path("l.h5")) as file:
            np.testing.assert_allclose(file["logits"][()], self.logits, atol=2e-4 * self.logits.std())

    def test_a_windowed_layer_is_replaced_by_exact_attention_alone(self):
        self.assert_outcome(self.lm("inputs.seq_len=60", "backends=dense", "-o", "a.h5"), 0)
        self.assert_outcome(self.lm("inputs.seq_len=60", "backends=reference", "inputs.replaced=[2]", "-o", "b.h5"), 0)
        losses = []
        for name in "ab":
            with h5py.File(self.path(f"{name}.h5")) as file:
                losses += file["trials"]["cross_entropy"].tolist()
        np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
        for backend in ("hyper", "lsh"):
            more = ["backends.sample_size=8"] if backend == "hyper" else []
            for action in ((), ("--dry-run",)):
                outcome = self.lm("inputs.seq_len=60", f"backends={backend}", *more, "inputs.replaced=[1]", "-o", "c.h5", *action)
                self.assert_outcome(outcome, 2, "layer 1 of the model", "sliding window of 40", backend)
            outcome = self.lm("--logits", "d.h5", "inputs.seq_len=60", f"backends={backend}", *more, "inputs.replaced=[1]")
            self.assert_outcome(outcome, 2, "sliding window of 40", backend)
        self.assertFalse(self.path("c.h5").exists() or self.path("d.h5").exists())

    def test_a_layer_without_a_window_that_hides_keys_is_replaced_by_any(self):
        self.assert_outcome(self.lm("inputs.seq_len=40", "backends.sample_size=8", "-o", "a.h5"), 0)
        for replace, code in (("last", 0), ("first", 2)):  # gemma3: layer 0 sees 4096 tokens, or fewer where its file says so
            model = self.path("model")
            model.mkdir(exist_ok=True)
            config = (MODELS / "gemma3/config.json").read_text()
            changed = {**json.loads(config), "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
            (model / "config.json").write_text(json.dumps(changed))
            if not (model / "model.safetensors").exists():
                (model / "model.safetensors").symlink_to(MODELS / "gemma3/model.safetensors")
            outcome = self.call("lm", f"inputs.model={model}", "inputs.ids=ids.txt", "inputs.seq_len=50", "backends.sample_size=8",
                                "inputs.replaced=[0, 1]", f"inputs.replace={replace}", "-o", f"{replace}.h5")
            self.assert_outcome(outcome, code)

    def test_heads_of_a_windowed_layer_are_no_inputs_beyond_it(self):
        self.config(f"inputs: {{source: language_model, model: {MODELS / 'mistral'}, ids: ids.txt, seq_len: 60}}\n"
                    "backends: exact\nmeasures: [timing]\n")
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5"), 2, "layer 0 of the model", "sliding window of 40")
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5", "inputs.seq_len=40"), 0)


class Running(CliTest):
    """What changes how `lm` runs, not what a result means, is what `run` has."""

    def setUp(self):
        super().setUp()
        self.path("ids.txt").write_text(" ".join(str((i * i + 3 * i) % 48) for i in range(400)))

    def lm(self, *arguments):
        """Two input points of three cases each."""
        return self.call("lm", f"inputs.model={MODELS / 'llama'}", "inputs.ids=ids.txt", "sweep.seq_len=[40, 60]",
                         "inputs.windows=3", "backends=exact", *arguments)

    def rows(self, name):
        with h5py.File(self.path(name)) as file:
            return file["trials"][:]

    def test_shards_merge_to_the_whole(self):
        self.assert_outcome(self.lm("-o", "whole.h5"), 0)
        for index in (0, 1):
            dry = self.lm("--shard", f"{index}/2", "--dry-run")
            self.assertIn("3 cases, 3 trials, of which 0 are in", dry.stdout)
            self.assertIn(f".shard-{index}-of-2.h5'", dry.stdout)
            self.assert_outcome(self.lm("--shard", f"{index}/2", "-o", f"{index}.h5"), 0)
            self.assertEqual({row["seq_len"] for row in self.rows(f"{index}.h5")}, {(40, 60)[index]})
        self.assert_outcome(self.call("merge", "part.h5", "1.h5"), 4, "3 trials of 3 cases are missing")
        self.assert_outcome(self.call("merge", "merged.h5", "0.h5", "1.h5"), 0)
        seconds = {"attention_seconds", "attention_speedup"}
        self.assertLessEqual(set(differing_columns(self.path("whole.h5"), self.path("merged.h5"))), seconds)
        self.assert_outcome(self.lm("--shard", "1/2", "--resume", "-o", "0.h5"), 2, "it holds shard '0/2'")

    def test_a_case_that_takes_too_long_fails_and_is_resumed(self):
        outcome = self.lm("--case-timeout", "1e-9", "-o", "out.h5")
        self.assert_outcome(outcome, 4, "6 trials failed", "took longer than the limit of 1e-09 s", "--case-timeout")
        self.assertEqual({row["status"] for row in self.rows("out.h5")}, {b"failed"})
        self.assertTrue(all(np.isnan(row["cross_entropy"]) for row in self.rows("out.h5")))
        self.assert_outcome(self.lm("--case-timeout", "100", "--resume", "-o", "out.h5"), 0)
        self.assertEqual({row["status"] for row in self.rows("out.h5")}, {b"ok"})

    def test_the_first_failure_stops(self):
        outcome = self.lm("--case-timeout", "1e-9", "--fail-fast", "-o", "out.h5")
        self.assert_outcome(outcome, 4, "1 trial failed", "Stopped at the first failure (--fail-fast)", "--resume")
        self.assertEqual(len(self.rows("out.h5")), 1)
        self.assert_outcome(self.lm("--resume", "-o", "out.h5"), 0)
        self.assertEqual(len(self.rows("out.h5")), 6)

    def test_uneven_windows_are_told_and_stored(self):
        """64 threads on a few processors are uneven; should they happen not to be, nothing may be told."""
        outcome = self.lm("--threads", "64", "--pin", "-o", "out.h5")
        self.assert_outcome(outcome, 0, "64 threads share")
        with h5py.File(self.path("out.h5")) as file:
            warnings = file["provenance"].attrs["warnings"].decode()
            timings = file["timings"][:]
            self.assertTrue(file["provenance"].attrs["pinned"])
        noisy = 0
        for row in self.rows("out.h5"):
            seconds = [t["seconds"] for t in timings if (t["case_id"], t["stage"]) == (row["case_id"], b"total")]
            self.assertEqual(len(seconds), 3)
            median = np.median(seconds)
            noisy += 1.2533 * 1.4826 * np.median(np.abs(seconds - median)) / np.sqrt(3) / median > 0.05
        told = f"the timings of {noisy} of 6 trials are noisy: their windows leave the median uncertain by more than 5 %"
        for text in (warnings, outcome.stderr):
            self.assertEqual(told in text, noisy > 0, f"{noisy} trials are noisy\n{text}")
            self.assertEqual("raise inputs.windows" in text, noisy > 0)

    def test_wrong_values_are_refused(self):
        for option, value, words in (("--shard", "3/2", "--shard must be I/N"), ("--shard", "1", "--shard must be I/N"),
                                     ("--case-timeout", "nan", "a positive number of seconds, but is 'nan'"),
                                     ("--case-timeout", "0", "a positive number of seconds, but is '0'")):
            with self.subTest(value):
                self.assert_outcome(self.lm(option, value, "-o", "out.h5"), 2, words)
        self.assertFalse(self.path("out.h5").exists())

    def test_what_has_no_effect_on_one_computation_is_refused(self):
        for action in ("--logits", "--capture"):
            for option in (["--shard", "0/2"], ["--pin"], ["--fail-fast"], ["--case-timeout", "9"]):
                outcome = self.call("lm", action, "out.h5", *option)
                self.assert_outcome(outcome, 2, action, option[0], "excludes")

    def test_an_engine_that_is_not_here_ends_the_run_before_it_begins(self):
        if "Not here: engine cuda" not in self.call("list", "backends").stdout:
            self.skipTest("SKIPPED: engine cuda is available")
        outcome = self.lm("backends={name: exact, engine: cuda}", "-o", "out.h5")
        self.assert_outcome(outcome, 1, "engine 'cuda' of backend 'exact'")
        self.assertFalse(self.path("out.h5").exists())


class SharedKeys(CliTest):
    def test_captured_heads_have_the_keys_of_their_group(self):
        self.path("ids.txt").write_text(" ".join(str(i % 48) for i in range(60)))
        outcome = self.call("lm", f"model={MODELS / 'llama'}", "ids=ids.txt", "seq_len=40", "layers=[1]", "--capture", "heads.h5")
        self.assert_outcome(outcome, 0)
        with h5py.File(self.path("heads.h5")) as file:
            q, k, v = (file[f"inputs/{part}"][0] for part in "qkv")
        self.assertEqual(len(k), len(q))
        np.testing.assert_array_equal(k[0], k[1])
        np.testing.assert_array_equal(v[2], v[3])
        self.assertFalse(np.array_equal(k[1], k[2]) or np.array_equal(q[0], q[1]))


class BeyondTheTrainedLength(CliTest):
    """Every command goes on and warns: a model of rotary positions computes the same, whatever it says it was made for."""

    def test_longer_sequences_warn(self):
        self.path("ids.txt").write_text(" ".join(str(i % 48) for i in range(60)))
        for name, length in (("long", 64), ("short", 20)):
            shutil.copytree(MODELS / "llama", self.path(name))
            config = json.loads(self.path(f"{name}/config.json").read_text())
            self.path(f"{name}/config.json").write_text(json.dumps({**config, "max_position_embeddings": length}))
        heads = "{source: language_model, model: short, ids: ids.txt, seq_len: 40, layers: [0], heads: [0]}"
        self.config(f"inputs: {heads}\nbackends: exact\nmeasures: [timing]\n")
        calls = {
            "l.h5": ["lm", "--logits", "l.h5", "model=short", "ids=ids.txt", "seq_len=40"],
            "c.h5": ["lm", "--capture", "c.h5", "model=short", "ids=ids.txt", "seq_len=40"],
            "e.h5": ["lm", "-o", "e.h5", "inputs.model=short", "inputs.ids=ids.txt", "inputs.seq_len=40", "inputs.replaced=[0]",
                     "backends=exact"],
            "r.h5": ["run", "sweep.yaml", "-o", "r.h5"],
        }
        for output, call in calls.items():
            with self.subTest(call):
                outcome = self.call(*call)
                self.assert_outcome(outcome, 0, "seq_len is 40", "'short' was made for 20 tokens (max_position_embeddings)")
                self.assertTrue(self.path(output).exists())
        outcome = self.call("lm", "--logits", "long.h5", "model=long", "ids=ids.txt", "seq_len=40")
        self.assert_outcome(outcome, 0)
        self.assertNotIn("was made for", outcome.stderr)
        with h5py.File(self.path("l.h5")) as short, h5py.File(self.path("long.h5")) as long:
            np.testing.assert_array_equal(short["logits"][()], long["logits"][()])


if __name__ == "__main__":
    unittest.main()
