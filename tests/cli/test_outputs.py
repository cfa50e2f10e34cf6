"""Every command that writes a file: through links, never over a device or a pipe, whole or not at all, as open as it was."""

import os
import stat
import unittest

from cli_test import SMALL, SOURCE, CliTest

MODEL = SOURCE / "experiments/data/language_model"


class Outputs(CliTest):
    def setUp(self):
        super().setUp()
        self.write_inputs()
        self.config(SMALL.replace("trials: 2", "trials: 1").replace("[64, 96, 128]", "[64]"))
        self.path("text").write_bytes(b"some words of a text, " * 20)
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "shard.h5"), 0)

    def writers(self):
        text = f"text={self.path('text')}"
        yield "attend", lambda out: ["attend", "in.h5", "-o", out, "backend=exact", "--force"]
        yield "train", lambda out: ["train", "-o", out, "backend=exact", "steps=2", "seq_len=16", "classes=2", "--force"]
        yield "capture", lambda out: ["lm", "--capture", out, f"model={MODEL}", text, "seq_len=16", "--force"]
        yield "logits", lambda out: ["lm", "--logits", out, f"model={MODEL}", text, "seq_len=16", "--force"]
        yield "run", lambda out: ["run", "sweep.yaml", "-o", out, "--force"]
        yield "lm", lambda out: ["lm", f"inputs.model={MODEL}", f"inputs.{text}", "inputs.seq_len=16", "inputs.replaced=[0]",
                                 "backends=exact", "-o", out, "--force"]
        yield "merge", lambda out: ["merge", out, "shard.h5", "--force"]

    def each_writer(self):
        for name, call in self.writers():
            with self.subTest(name):
                yield lambda out, call=call: self.call(*call(out))

    def listing(self):
        return sorted(path.name for path in self.folder.iterdir())

    def test_links_are_followed_and_stay(self):
        for write in self.each_writer():
            self.path("target").write_text("old")
            for name, target in (("link", "target"), ("dangling", "new")):
                self.path(name).symlink_to(target)
                self.assert_outcome(write(name), 0)
                self.assertTrue(self.path(name).is_symlink())
                self.assertGreater(self.path(target).stat().st_size, 10)
                self.path(name).unlink()
                self.path(target).unlink()

    def test_what_is_no_file_is_refused_and_stays(self):
        os.mkfifo(self.path("pipe"))
        self.path("folder").mkdir()
        self.path("loop").symlink_to("loop")
        self.path("to_pipe").symlink_to("pipe")
        before = self.listing()
        for write in self.each_writer():
            for name, word in (("pipe", "pipe"), ("to_pipe", "pipe"), ("folder", "folder"), ("loop", "loop"), ("/dev/null", "device")):
                self.assert_outcome(write(name), 2, name, word)
            self.assertEqual(self.listing(), before)
        self.assertTrue(stat.S_ISFIFO(self.path("pipe").stat().st_mode))
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))

    def test_standard_output(self):
        """A pipe here; where it is a file, replacing it would lose what is printed."""
        for write in self.each_writer():
            self.assert_outcome(write("/dev/stdout"), 2, "/dev/stdout", "pipe")

    def test_permissions_stay(self):
        for write in self.each_writer():
            self.path("out").write_text("old")
            self.path("out").chmod(0o600)
            self.assert_outcome(write("out"), 0)
            self.assertEqual(stat.S_IMODE(self.path("out").stat().st_mode), 0o600)
            self.path("out").unlink()

    def test_permissions_stay_when_resumed(self):
        self.path("shard.h5").chmod(0o600)
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "shard.h5", "--resume"), 0)
        self.assertEqual(stat.S_IMODE(self.path("shard.h5").stat().st_mode), 0o600)

    @unittest.skipIf(os.geteuid() == 0, "root writes everywhere")
    def test_closed_folders_and_files(self):
        self.path("closed").mkdir(mode=0o500)
        self.path("readable").write_text("old")
        self.path("readable").chmod(0o400)
        for write in self.each_writer():
            self.assert_outcome(write("closed/out"), 1, "closed/out", "can't be written")
            self.assert_outcome(write("readable"), 1, "readable", "can't be written")
        self.assertEqual(self.path("readable").read_text(), "old")


if __name__ == "__main__":
    unittest.main()
