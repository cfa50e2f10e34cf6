"""Every bad call and input: one clear sentence, the right exit code, and nothing left behind."""

import os
import subprocess
import unittest

import h5py
import numpy as np
from cli_test import PROGRAM, SMALL, CliTest


class BadConfiguration(CliTest):
    def refused(self, text, *words, overrides=()):
        outcome = self.call("run", self.config(text), *overrides, "-o", "out.h5")
        self.assert_outcome(outcome, 2, *words)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["sweep.yaml"])

    def test_missing_file(self):
        self.assert_outcome(self.call("run", "none.yaml"), 2, "none.yaml", "does not exist")

    def test_unknown_key_with_line_and_suggestion(self):
        self.refused(SMALL.replace("trials:", "trails:"), "trails", "trials", "3")

    def test_unknown_parameter(self):
        self.refused(SMALL.replace("head_dim", "heads_dim"), "heads_dim", "head_dim", "sweep.yaml")

    def test_wrong_type(self):
        self.refused(SMALL.replace("trials: 2", "trials: many"), "trials", "whole number", "many")

    def test_bucket_count(self):
        self.refused(SMALL.replace("bucket_count: 4", "bucket_count: 12"), "bucket_count", "power of two", "12")

    def test_block_size(self):
        self.refused(SMALL.replace("block_size: 16", "block_size: 0"), "block_size", "0")

    def test_sample_larger_than_n(self):
        self.refused(SMALL.replace("sample_size: 8", "sample_size: 80"), "sample_size", "80", "64", "where")

    def test_all_problems_at_once(self):
        text = SMALL.replace("trials: 2", "trials: 0").replace("seed: 5", "seed: x")
        self.refused(text, "trials", "seed")

    def test_not_yaml(self):
        self.refused("name: [", "YAML")

    def test_override(self):
        self.refused(SMALL, "sweep.sequence", overrides=("sweep.sequence=[1]",))

    def test_axis_that_applies_nowhere(self):
        self.refused(SMALL, "condition_number", "applies nowhere", overrides=("sweep.condition_number=[1]",))

    def test_a_list_that_no_computer_runs_is_refused_at_once(self):
        """Each within the time limit of a call and without a message that floods the terminal."""
        entries = "inputs: {source: gaussian, seq_len: 64}\nbackends: [" + "exact, " * 60000 + "exact]\n"
        predicates = SMALL.replace("sweep:", "sweep:\n  where: [" + "seq_len > 1, " * 5000 + "seq_len > 1]")
        values = SMALL.replace("[64, 96, 128]", str(list(range(1, 30001))))
        repeated = SMALL.replace("trials: 2", "trials: 1000000")
        for text, word in ((entries, "60001 entries"), (predicates, "5001 predicates"), (values, "30000 values"),
                           (repeated, "9 cases with 1000000 trials")):
            with self.subTest(word):
                self.refused(text, word)

    def test_group_that_is_not_there(self):
        self.assert_outcome(self.call("run", self.config(), "--group", "paper"), 2, "paper")


class BadCall(CliTest):
    def test_no_command(self):
        self.assert_outcome(self.call(), 2, "--help")

    def test_unknown_command(self):
        self.assert_outcome(self.call("rum"), 2, "rum")

    def test_shard(self):
        self.assert_outcome(self.call("run", self.config(), "--shard", "3/2"), 2, "--shard", "3/2")

    def test_case_timeout(self):
        for value in ("0", "-1", "nan", "inf", "abc"):
            outcome = self.call("run", self.config(), "-o", "out.h5", "--case-timeout", value)
            self.assert_outcome(outcome, 2, "--case-timeout", "positive number of seconds", f"'{value}'")

    def test_threads(self):
        for value in ("0", "-1", "1.5", "100000"):
            outcome = self.call("run", self.config(), "-o", "out.h5", "--threads", value)
            self.assert_outcome(outcome, 2, "--threads", value, "1 to 1024")

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full")
    def test_an_answer_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            outcome = subprocess.run([PROGRAM, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(outcome.returncode, 1, outcome.stderr)
        self.assertIn("standard output", outcome.stderr)

    def test_help_of_all_commands(self):
        for command in ("run", "attend", "train", "lm", "show", "merge", "list", "describe"):
            outcome = self.call(command, "--help")
            self.assert_outcome(outcome, 0)
            self.assertIn("Usage: hyperattn " + command, outcome.stdout)

    def test_show_of_what_is_no_results_file(self):
        self.path("text.h5").write_text("no HDF5")
        self.assert_outcome(self.call("show", "none.h5"), 3, "none.h5")
        self.assert_outcome(self.call("show", "text.h5"), 3, "text.h5", "HDF5")
        self.assert_outcome(self.call("show", self.write_inputs()), 3, "in.h5", "not a results file")

    def test_compare_takes_two(self):
        self.assert_outcome(self.call("show", "--compare", "a.h5"), 2, "two results files")

    def test_capture_refuses_what_is_of_an_experiment(self):
        for option in (["--dry-run"], ["--resume"], ["-o", "out.h5"], ["--group", "smoke"]):
            self.assert_outcome(self.call("lm", "--capture", "heads.h5", *option), 2, "--capture", option[0].lstrip("-"))
        self.assert_outcome(self.call("lm", "--capture", "heads.h5", "lm.yaml"), 2, "KEY=VALUE", "'lm.yaml'")
        self.assert_outcome(self.call("lm", "--capture", "heads.h5", "inputs.rows=1"), 2, "'inputs.rows=1'", "seq_len")
        for ignored in ("causal=true", "inputs.scale=2", "label=mine"):
            name = ignored.split("=")[0].split(".")[-1]
            self.assert_outcome(self.call("lm", "--capture", "heads.h5", ignored), 2, f"{name} can't be set here")
        self.assertEqual(list(self.folder.iterdir()), [])


class BadInput(CliTest):
    def attend(self, *arguments, backend="exact"):
        return self.call("attend", *arguments, "-o", "out.h5", f"backend={backend}")

    def refused(self, code, outcome, *words):
        self.assert_outcome(outcome, code, *words)
        self.assertFalse(self.path("out.h5").exists())
        self.assertFalse(self.path("out.h5.partial").exists())

    def refused_as_input(self, path, *words):
        """By `attend`, and by `run` as a source."""
        self.refused(3, self.attend(path), *words)
        text = f"inputs: {{source: file, path: {path}}}\nbackends: [exact]\n"
        self.refused(3, self.call("run", self.config(text), "-o", "out.h5"), *words)

    def test_missing(self):
        self.refused_as_input("none.h5", "none.h5")

    def test_not_hdf5(self):
        self.path("text.h5").write_text("no HDF5")
        self.refused_as_input("text.h5", "text.h5", "HDF5")

    def test_cut_off(self):
        whole = self.write_inputs().read_bytes()
        self.path("cut.h5").write_bytes(whole[: len(whole) // 2])
        self.refused_as_input("cut.h5", "cut.h5", "damaged")

    def test_missing_tensor(self):
        self.refused_as_input(self.write_inputs(k=None), "/inputs/k")

    def test_misshapen(self):
        for part, shape in (("k", (1, 2, 64, 8)), ("v", (1, 2, 63, 16)), ("k", (1, 3, 64, 16)), ("q", (64, 16)), ("q", (1, 2, 0, 16))):
            with self.subTest(part, shape=shape):
                text = "(" + ", ".join(map(str, shape)) + ")"
                self.refused_as_input(self.write_inputs(**{part: np.zeros(shape, "f4")}), "in.h5", text)

    def test_other_types(self):
        for values, word in ((np.zeros((1, 2, 64, 16), "c8"), "compound"), (np.full((1, 2, 64, 16), b"a"), "text")):
            with self.subTest(word):
                self.refused_as_input(self.write_inputs(q=values), "/inputs/q", word)

    def test_not_finite(self):
        for value, kind in ((np.nan, "f4"), (np.inf, "f2"), (1e39, "f8")):  # the last is infinite as float32
            with self.subTest(value):
                values = np.zeros((1, 2, 64, 16), kind)
                values[0, 1, 5, 7] = value
                self.refused_as_input(self.write_inputs(v=values), "/inputs/v", "in.h5", "[0, 1, 5, 7]")

    def test_replay_of_a_file_without_one(self):
        self.refused(3, self.attend(self.write_inputs(), "--replay", backend="hyper"), "in.h5", "/replay")

    def test_masks(self):
        inputs = self.write_inputs()
        text = f"inputs: {{source: file, path: {inputs}}}\nbackends: [{{name: hyper, mask: file, mask_path: mask.h5, sample_size: 8}}]\n"
        rows = np.arange(65)
        for words, datasets in [
                (("block 0", "keys out of range", "0 to 63"), {"blocks": [[0, 32, 0, 65]]}),
                (("block 1", "queries out of range"), {"blocks": [[0, 32, 0, 64], [60, 65, 0, 1]]}),
                (("block 0", "block 1", "must not overlap"), {"blocks": [[0, 32, 0, 32], [10, 20, 30, 40]]}),
                (("empty or reversed",), {"blocks": [[32, 0, 0, 32]]}),
                (("4 columns", "(2, 3)"), {"blocks": [[0, 32, 0], [1, 2, 3]]}),
                (("lead with (1, 2)", "(1, 3, 1, 4)"), {"blocks": [[[[0, 32, 0, 32]]] * 3]}),
                # As many patterns as heads, but in another order of dimensions.
                (("lead with (1, 2)", "(2, 1, 1, 4)"), {"blocks": [[[[0, 32, 0, 32]]]] * 2}),
                (("lead with (1, 2)", "(0, 2, 1, 4)"), {"blocks": np.zeros((0, 2, 1, 4), "i8")}),
                # No block at all in each of very many patterns: a file of 2 kB.
                (("lead with (1, 2)", f"({2**40}, 1, 0, 4)"), {"blocks": np.zeros((2**40, 1, 0, 4), "i8")}),
                (("integers", "float64"), {"blocks": [[0, 32.5, 0, 32]]}),
                (("index 64 in row 63", "0 to 63"), {"indptr": rows, "indices": np.r_[0:63, 64]}),
                (("-1", "not a key row"), {"indptr": rows, "indices": np.r_[-1, 1:64]}),
                (("must increase",), {"indptr": np.r_[0:64, 65], "indices": np.r_[0:64, 5]}),
                (("65", "60"), {"indptr": rows[:60], "indices": rows[:59]}),
                (("holds neither",), {"other": [1]}),
                (("holds both",), {"blocks": [[0, 1, 0, 1]], "indptr": rows, "indices": rows[:64]})]:
            with self.subTest(words=words):
                self.write_mask(**datasets)
                for backend in ("lsh", "hyper"):
                    extra = ["sample_size=8"] if backend == "hyper" else []
                    self.refused(3, self.attend(inputs, "mask=file", "mask_path=mask.h5", *extra, backend=backend),
                                 "mask.h5", *words)
                self.refused(3, self.call("run", self.config(text), "-o", "out.h5"), "mask.h5", *words)

    def test_mask_that_is_missing(self):
        inputs = self.write_inputs()
        self.refused(2, self.attend(inputs, "mask=file", backend="lsh"), "mask_path")
        self.refused(3, self.attend(inputs, "mask=file", "mask_path=none.h5", backend="lsh"), "none.h5", "does not exist")

    def test_parameters_of_the_theory(self):
        inputs = self.write_inputs()
        for argument, *words in [("approx_kappa=0.5", "at least 1", "0.5"), ("approx_kappa=-3", "at least 1", "-3"),
                                 ("approx_kappa=.nan", "number"), ("approx_epsilon=0", "but is 0"),
                                 ("approx_epsilon=-0.5", "-0.5"), ("approx_epsilon=.inf", "finite"),
                                 ("clip_constant=-1", "at least 0", "-1")]:
            name, value = argument.split("=")
            with self.subTest(argument):
                call = self.attend(inputs, "sample_size=8", "estimator=theory", argument, backend="hyper")
                self.refused(2, call, name, *words)
                text = f"inputs: {{source: gaussian, seq_len: 64}}\nbackends: [{{name: hyper, sample_size: 8, estimator: theory, {name}: {value}}}]\n"
                self.refused(2, self.call("run", self.config(text), "-o", "out.h5"), name, *words)

    def test_scores_that_overflow_are_no_result(self):
        large = {part: np.full((1, 2, 64, 16), 1e20, "f4") * np.where(np.arange(64)[:, None] % 2, 1, -1).astype("f4") for part in "qk"}
        inputs = self.write_inputs(**large)
        self.refused(3, self.attend(inputs, "sample_size=8", "block_size=16", "residual=moments", backend="hyper"), "the output", "non-finite")
        self.refused(3, self.attend(inputs, backend="exact"), "the output", "finite")

    def test_gradients_that_do_not_exist(self):
        inputs = self.write_inputs(dout=np.ones((1, 2, 64, 16), "f4"))
        for argument in ("residual=moments", "residual=linear_centroids", "estimator=theory"):
            with self.subTest(argument):
                wanted = argument.replace("=", ": ")
                call = self.attend(inputs, "sample_size=8", argument, "--backward", backend="hyper")
                self.refused(2, call, "has no gradient", wanted)
                text = ("timing: {pass: forward_backward}\ninputs: {source: gaussian, seq_len: 64}\n"
                        f"backends: [exact, {{name: hyper, sample_size: 8, {wanted}}}]\n")
                self.refused(2, self.call("run", self.config(text), "-o", "out.h5"), "has no gradient", wanted, "forward_backward")
                self.refused(2, self.call("train", "backend=hyper", "sample_size=8", argument), "has no gradient", wanted)

    def test_condition_number_and_spectrum(self):
        for source, name, value, *words in [("conditioned", "condition_number", "0.5", "between 1", "0.5"),
                                            ("conditioned", "condition_number", "0", "between 1"),
                                            ("conditioned", "condition_number", ".inf", "finite"),
                                            ("conditioned", "condition_number", ".nan", "number"),
                                            ("conditioned", "spectrum", "2", "condition_number"),
                                            ("gaussian", "spectrum", "0.5", "between 1", "0.5"),
                                            ("gaussian", "condition_number", "2", "spectrum")]:
            with self.subTest(source, name=name, value=value):
                text = f"inputs: {{source: {source}, seq_len: 64, {name}: {value}}}\nbackends: [exact]\n"
                self.refused(2, self.call("run", self.config(text), "-o", "out.h5"), name, *words)

    def test_parameters(self):
        path = self.write_inputs()
        self.refused(2, self.attend(path, backend="exakt"), "exakt", "exact")
        self.refused(2, self.attend(path, "bucket_count=12", backend="hyper"), "bucket_count", "12")
        self.refused(2, self.attend(path, "sample_size=65", backend="hyper"), "sample_size", "65", "64")
        self.refused(2, self.attend(path, "blok_size=8", backend="hyper"), "blok_size", "block_size")

    def test_unwritable_output(self):
        outcome = self.call("attend", self.write_inputs(), "-o", "none/out.h5", "backend=exact")
        self.assert_outcome(outcome, 1, "none/out.h5")
        self.path("file").write_text("")
        self.assert_outcome(self.call("run", self.config(), "-o", "file/out.h5"), 1, "file")

    @unittest.skipIf(os.geteuid() == 0, "root writes everywhere")
    def test_output_without_permission(self):
        self.path("closed").mkdir(mode=0o500)
        self.assert_outcome(self.call("run", self.config(), "-o", "closed/out.h5"), 1, "closed")

    def test_existing_output(self):
        path = self.write_inputs()
        self.assert_outcome(self.attend(path), 0)
        self.assert_outcome(self.attend(path), 2, "out.h5", "--force")
        self.assert_outcome(self.attend(path, "--force"), 0)

    def test_too_big_for_memory_in_attend(self):
        path = self.path("huge.h5")
        with h5py.File(path, "w") as file:  # 3 TB each, which the file system keeps as holes
            inputs = file.create_group("inputs")
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((1, 64, 100_000_000, 128))
            for part in "qkv":
                h5py.h5d.create(inputs.id, part.encode(), h5py.h5t.IEEE_F32LE, space, properties)
        self.refused(1, self.attend(path), "memory", "GiB")

    def test_sizes_whose_product_no_integer_holds(self):
        """The first wraps to 32 million elements, the second to none."""
        for batch, heads, rows, dim in ((65536, 2731, 402604038, 256), (65536, 65536, 2147483647, 64), (65536, 65536, 1, 1), (1, 65536, 2147483647, 256)):
            for more in ("", ", key_len: 3", ", value_dim: 1"):
                for source in ("gaussian", "clustered"):
                    text = (f"inputs: {{source: {source}, batch: {batch}, heads: {heads}, seq_len: {rows}, head_dim: {dim}{more}}}\n"
                            "backends: [exact]\nmeasures: [timing]\n")
                    for call in (["--dry-run"], ["-o", "out.h5"]):
                        outcome = self.call("run", self.config(text), *call)
                        self.assert_outcome(outcome, 2, f"({batch}, {heads}, {rows}, {dim})", "at most 2^53 elements")
                        self.assertEqual(len(outcome.stderr.strip().splitlines()), 1)
        self.assertFalse(self.path("out.h5").exists())
        axis = "inputs: {source: gaussian, heads: 65536, head_dim: 256}\nsweep: {seq_len: [64, 2147483647]}\nbackends: [exact]\n"
        self.assert_outcome(self.call("run", self.config(axis), "-o", "out.h5"), 2, "2147483647", "at most 2^53 elements")

    def test_shapes_in_files_whose_product_no_integer_holds(self):
        for shape in ((65536, 65536, 65536, 65536), (2**31, 2**31, 4, 1), (1, 2**20, 2**30, 256)):
            with h5py.File(self.path("in.h5"), "w") as file:
                for part in "qkv":
                    file.create_dataset(f"inputs/{part}", shape, "i1", chunks=(1, 1, 4, 1), fillvalue=1)
            self.refused(3, self.attend("in.h5"), "/inputs/q", str(shape))

    def test_too_big_for_memory(self):
        size = 40_000_000
        text = (f"inputs: {{source: gaussian, head_dim: 256}}\nsweep: {{seq_len: [64, {size}]}}\n"
                "backends: [{name: hyper, sample_size: 8, block_size: 16}]\nmeasures: [timing]\n")
        outcome = self.call("run", self.config(text), "-o", "out.h5")
        self.assert_outcome(outcome, 4, "1 trial failed", "memory", str(size))


if __name__ == "__main__":
    unittest.main()
