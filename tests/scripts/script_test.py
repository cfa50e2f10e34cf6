"""What the tests of the scripts share: a folder for made files, a way to run a script, and checks of its outcome."""

import contextlib
import importlib
import io
import subprocess
import sys
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path
from unittest import mock

import made_results as made

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import hyperattn_results as hr  # noqa: E402


class ScriptTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.directory = Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def write(self, name, trials, **tables):
        path = self.directory / f"{name}.h5"
        made.write(path, trials, **tables)
        return path

    def run_script(self, script, *arguments):
        """Runs the script's main function in this process: starting matplotlib for each call would take most of the time."""
        module = importlib.import_module(script.removesuffix(".py"))
        output, errors, code = io.StringIO(), io.StringIO(), 0
        with mock.patch.object(sys, "argv", [script, *map(str, arguments)]):
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                try:
                    hr.main(module.run)
                except SystemExit as end:
                    code = end.code or 0
        return subprocess.CompletedProcess(script, code, output.getvalue(), errors.getvalue())

    def assert_pictures(self, run, out, names):
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(run.stderr, "")
        found = sorted(path.name for path in out.iterdir())
        self.assertEqual(found, sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg")))
        for name in names:
            png = (out / f"{name}.png").read_bytes()
            self.assertTrue(png.startswith(b"\x89PNG"))
            self.assertGreater(len(png), 10_000, name)
            xml.dom.minidom.parse(str(out / f"{name}.svg"))

    def assert_refused(self, run, code, *words):
        self.assertEqual(run.returncode, code, run.stderr)
        self.assertEqual(len(run.stderr.strip().splitlines()), 1, run.stderr)
        for word in words:
            self.assertIn(word, run.stderr)
