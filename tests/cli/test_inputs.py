"""No output destroys a file that is read, by whatever name; no results mix two contents of one."""

import os
import shutil
import subprocess
import time
import unittest

import h5py
import numpy as np
from cli_test import PROGRAM, SOURCE, CliTest

MODEL = SOURCE / "experiments/data/language_model"
SWEEP = """\
timing: {warmup: 0, repeats: 1}
inputs: {source: file, path: in.h5}
sweep: {block_size: [8, 16], seq_len: [32, 64]}
backends: [{name: lsh, bucket_count: 4}]
measures: [timing]
"""


class InputsTest(CliTest):
    def setUp(self):
        super().setUp()
        self.write_inputs()
        self.config(SWEEP)
        self.path("text").mkdir()
        for name in "ab":
            (self.path("text") / name).write_bytes(b"some words of a text, " * 20)
        self.path("ids").write_text(" ".join(str(i % 250) for i in range(200)))
        shutil.copytree(MODEL, self.path("model"), ignore=shutil.ignore_patterns("*.md"))
        self.write_mask(blocks=[[0, 64, 0, 64]])

    def lm(self, *arguments):
        return self.call("lm", "inputs.model=model", "inputs.seq_len=16", "inputs.replaced=[0]", "backends=exact", *arguments)

    MASKED = ["backend=lsh", "mask=file", "mask_path=mask.h5"]


class OutputsThatAreRead(InputsTest):
    def calls(self):
        """(file that is read, call that writes to a given output)"""
        weights = next(path.name for path in self.path("model").iterdir() if path.suffix == ".safetensors")
        yield "in.h5", lambda out: self.call("attend", "in.h5", "-o", out, "backend=exact", "--force")
        yield "mask.h5", lambda out: self.call("attend", "in.h5", "-o", out, *self.MASKED, "--force")
        yield "in.h5", lambda out: self.call("run", "sweep.yaml", "-o", out, "--force")
        yield "in.h5", lambda out: self.call("run", "sweep.yaml", "-o", out, "--resume")
        yield "in.h5", lambda out: self.call("run", "sweep.yaml", f"output={out}", "--force")
        yield "sweep.yaml", lambda out: self.call("run", "sweep.yaml", "-o", out, "--force")
        yield "mask.h5", lambda out: self.call("run", "sweep.yaml", "-o", out, "lsh.mask=file", "lsh.mask_path=mask.h5",
                                               "sweep.seq_len=[64]", "inputs.path=in.h5", "--force")
        yield "ids", lambda out: self.lm("inputs.ids=ids", "-o", out, "--force")
        yield "text/b", lambda out: self.lm("inputs.text=text", "-o", out, "--force")
        yield "model/config.json", lambda out: self.lm("inputs.text=text", "-o", out, "--force")
        yield f"model/{weights}", lambda out: self.lm("inputs.text=text", "-o", out, "--force")
        yield "text/a", lambda out: self.call("lm", "--capture", out, "model=model", "text=text", "seq_len=16", "--force")
        yield f"model/{weights}", lambda out: self.call("lm", "--capture", out, "model=model", "text=text", "seq_len=16", "--force")
        for read in ("text/a", "model/config.json", f"model/{weights}"):
            yield read, lambda out: self.call("lm", "--logits", out, "model=model", "text=text", "seq_len=16", "--force")
        yield "shard.h5", lambda out: self.call("merge", out, "shard.h5", "--force")

    def test_refused_by_every_name(self):
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "shard.h5"), 0)
        self.assertNotEqual(self.call("run", "sweep.yaml", "-o", "x.h5", "lsh.mask=file", "lsh.mask_path=none.h5").returncode, 0)
        for read, call in self.calls():
            path = self.path(read)
            before = path.read_bytes()
            link, hard = self.path("link"), self.path("hard")
            link.symlink_to(path)
            os.link(path, hard)
            for name in (read, f"./{read}", path, "link", "hard"):
                with self.subTest(read=read, name=str(name)):
                    self.assert_outcome(call(name), 2, "which is read", "name another output")
                    self.assertEqual(path.read_bytes(), before)
            link.unlink()
            hard.unlink()

    def test_names_that_are_written_with_an_output(self):
        shutil.copy(self.path("in.h5"), self.path("out.h5.partial"))
        before = self.path("out.h5.partial").read_bytes()
        outcome = self.call("attend", "out.h5.partial", "-o", "out.h5", "backend=exact")
        self.assert_outcome(outcome, 2, "would destroy 'out.h5.partial'")
        self.path("out.h5.partial").rename(self.path("out.h5.journal"))
        self.config(SWEEP.replace("in.h5", "out.h5.journal"))
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "out.h5"), 2, "would destroy 'out.h5.journal'")
        self.assertEqual(self.path("out.h5.journal").read_bytes(), before)


class ChangedContents(InputsTest):
    def make_incomplete(self, name):
        """Takes the second half of the rows away, as if the run had been interrupted."""
        with h5py.File(self.path(name), "r+") as file:
            trials = file["trials"][:]
            kept = set(trials["case_id"][: len(trials) // 2]) if len(trials) > 1 else set()
            for table in ("trials", "heads", "levels", "timings"):
                rows = file[table][:]
                del file[table]
                file[table] = rows[[row["case_id"] in kept for row in rows]]
            file.attrs["complete"] = False

    def change(self, name):
        path = self.path(name)
        if path.suffix == ".h5":
            with h5py.File(path, "r+") as file:
                where = "inputs/q" if "inputs" in file else "mask/blocks"
                file[where][...] = file[where][...] if where == "mask/blocks" else file[where][...] * np.float32(1.5)
                if where == "mask/blocks":
                    file[where][0, 3] = 63
        elif path.suffix == ".json":
            path.write_text(path.read_text() + "\n")
        else:
            content = bytearray(path.read_bytes())
            content[-2] ^= 1
            path.write_bytes(content)

    def calls(self):
        masked = ["lsh.mask=file", "lsh.mask_path=mask.h5", "sweep.seq_len=[64]"]
        """({file that is changed: what a message calls it}, call of the run)"""
        yield {"in.h5": "in.h5"}, lambda *more: self.call("run", "sweep.yaml", "-o", "r.h5", *more)
        yield {"mask.h5": "mask.h5", "in.h5": "in.h5"}, lambda *more: self.call("run", "sweep.yaml", *masked, "-o", "r.h5", *more)
        model = {f"model/{name}": f"model/{name}" for name in ("config.json", "model.safetensors")}
        yield {"text/b": "text", **model}, lambda *more: self.lm("inputs.text=text", "-o", "r.h5", *more)
        yield {"text/a": "text/a"}, lambda *more: self.lm("inputs.text=text/a", "-o", "r.h5", *more)
        yield {"ids": "ids"}, lambda *more: self.lm("inputs.ids=ids", "-o", "r.h5", *more)
        yield {"text/a": "text", **model}, lambda *more: self.call(
            "run", "sweep.yaml", "inputs=[{source: language_model, model: model, text: text, layers: [0], heads: [0]}]",
            "sweep.seq_len=[16]", "-o", "r.h5", *more)

    def test_resume_refuses_them(self):
        for files, call in self.calls():
            self.assert_outcome(call("--force"), 0)
            self.make_incomplete("r.h5")
            for name, named in files.items():
                with self.subTest(name):
                    path = self.path(name)
                    before = path.read_bytes()
                    self.change(name)
                    self.assert_outcome(call("--resume"), 2, f"can't be resumed: the contents of '{named}' are others")
                    dry = call("--dry-run")
                    self.assert_outcome(dry, 0)
                    self.assertIn("note: 'r.h5' can't be resumed", dry.stdout)
                    path.write_bytes(before)
            self.assert_outcome(call("--resume"), 0)

    def test_merge_refuses_them(self):
        self.assert_outcome(self.call("run", "sweep.yaml", "--shard", "0/2", "-o", "s0.h5"), 0)
        self.change("in.h5")
        self.assert_outcome(self.call("run", "sweep.yaml", "--shard", "1/2", "-o", "s1.h5"), 0)
        self.assert_outcome(self.call("merge", "m.h5", "s0.h5", "s1.h5"), 2, "different contents of 'in.h5'")
        self.assertFalse(self.path("m.h5").exists())
        self.assert_outcome(self.call("run", "sweep.yaml", "--shard", "0/2", "-o", "s0.h5", "--force"), 0)
        self.assert_outcome(self.call("merge", "m.h5", "s0.h5", "s1.h5"), 0)
        with h5py.File(self.path("m.h5")) as file:
            self.assertEqual([row["path"] for row in file["files"][:]], [b"in.h5"])

    def test_results_without_digests_go_on_with_a_note(self):
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5"), 0)
        self.make_incomplete("r.h5")
        with h5py.File(self.path("r.h5"), "r+") as file:
            del file["files"]  # as version 0.1 wrote it
        shutil.copy(self.path("r.h5"), self.path("old.h5"))
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5", "--resume"), 0, "no digests of the files")
        with h5py.File(self.path("r.h5")) as file:
            self.assertEqual(len(file["files"]), 1)
            self.assertTrue(file.attrs["complete"])
        self.assert_outcome(self.call("merge", "m.h5", "old.h5", "r.h5"), 0, "no digests of the files")

    def test_a_file_that_changes_under_a_run_ends_it(self):
        config = self.config(SWEEP.replace("measures", "trials: 400\nmeasures").replace("repeats: 1", "repeats: 30"))
        run = subprocess.Popen([PROGRAM, "run", config, "-o", "r.h5"], cwd=self.folder, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
        journal = self.path("r.h5.journal")
        deadline = time.monotonic() + 60
        while (not journal.exists() or journal.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
            time.sleep(0.01)
        shutil.copy(self.path("in.h5"), self.path("new.h5"))
        self.change("new.h5")
        self.path("new.h5").replace(self.path("in.h5"))
        _, errors = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 3, errors)
        self.assertIn("'in.h5' was changed while the run read it", errors)
        self.assert_outcome(self.call("run", config, "-o", "r.h5", "--resume"), 2, "the contents of 'in.h5'")


if __name__ == "__main__":
    unittest.main()
