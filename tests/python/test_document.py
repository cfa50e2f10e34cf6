"""The code blocks of docs/python.md and of the README run as they stand, each document's in one namespace."""

import os
import re
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["HYPERATTN_SOURCE"])


def blocks(document):
    text = (SOURCE / document).read_text(encoding="utf-8")
    return [
        (text[: match.start()].count("\n") + 2, match.group(1))
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


class Documents(unittest.TestCase):
    def run_blocks(self, document, least):
        found = blocks(document)
        self.assertGreaterEqual(len(found), least)
        namespace = {}
        here = os.getcwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            self.addCleanup(os.chdir, here)
            for line, code in found:
                with self.subTest(f"{document}:{line}"):
                    exec(compile("\n" * (line - 1) + code, document, "exec"), namespace)
            os.chdir(here)
        return namespace

    def test_python(self):
        namespace = self.run_blocks("docs/python.md", 5)
        self.assertEqual(namespace["result"].out.shape, (8, 2048, 64))
        self.assertEqual(len(namespace["trials"]), 8)

    def test_readme(self):
        self.assertEqual(self.run_blocks("README.md", 1)["dk"].shape, (4, 2048, 64))


if __name__ == "__main__":
    unittest.main()
