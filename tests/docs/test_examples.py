"""The commands and configurations of the documents are ones that the program takes, and the README's C++ is what the
example compiles. (Python's blocks run in tests/python.)"""

import os
import re
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

from pages import PAGES, SOURCE, blocks_of, lines_of, name_of

HYPERATTN = os.environ["HYPERATTN"]
USAGE = 2  # the program's exit code where the call or the configuration is wrong


def commands_of(page):
    """(line, words) of each `hyperattn run` and `hyperattn lm` in a block of code, continued lines joined."""
    lines = [(number, line) for number, kind, line in lines_of(page) if kind == "code"]
    for position, (number, line) in enumerate(lines):
        command = line.strip()
        while command.endswith("\\"):
            position += 1
            command = command[:-1] + lines[position][1].strip()
        if re.match(r"build/release/hyperattn (run|lm) ", command) and "…" not in command:
            yield number, shlex.split(command, comments=True)[1:]


class Examples(unittest.TestCase):
    def dry_run(self, words, place):
        kept = ["--logits", "--capture"]
        if any(word in kept for word in words):
            return False
        with tempfile.TemporaryDirectory() as folder:
            if "-o" in words:
                at = words.index("-o")
                words = words[:at] + words[at + 2 :]
            run = subprocess.run(
                [HYPERATTN, *words, "-o", Path(folder) / "results.h5", "--dry-run"], cwd=SOURCE, capture_output=True, text=True, timeout=120
            )
        self.assertNotEqual(run.returncode, USAGE, f"{place}: hyperattn {shlex.join(words)}\n{run.stderr}")
        return True

    def test_commands_are_ones_that_the_program_takes(self):
        tried = 0
        for page in PAGES:
            for number, words in commands_of(page):
                if "mine.yaml" not in words and "CONFIG" not in words:
                    tried += self.dry_run(words, f"{name_of(page)}:{number}")
        self.assertGreater(tried, 10)

    def test_whole_configurations_are_ones_that_the_program_takes(self):
        tried = 0
        for page in PAGES:
            for number, code in blocks_of(page, "yaml"):
                if "inputs:" in code and "backends:" in code:
                    with tempfile.TemporaryDirectory() as folder:
                        config = Path(folder) / "mine.yaml"
                        config.write_text(code, encoding="utf-8")
                        tried += self.dry_run(["run", str(config)], f"{name_of(page)}:{number}")
        self.assertGreaterEqual(tried, 1)

    def test_the_options_are_those_of_the_program(self):
        page = (SOURCE / "docs/command-line.md").read_text(encoding="utf-8")
        section = page[page.index("## Options") : page.index("## Exit codes")]
        told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", section))
        declared = set()
        for command in re.findall(r"^  (\w+) {2,}", self.help_of().split("Subcommands:")[1], re.MULTILINE):
            declared |= set(re.findall(r"^  (?:-\w,)?(--[a-z-]+)", self.help_of(command), re.MULTILINE)) - {"--help"}
        self.assertGreater(len(declared), 15)
        self.assertEqual(told, declared - {"--output"})  # told as -o

    def help_of(self, *command):
        return subprocess.run([HYPERATTN, *command, "--help"], capture_output=True, text=True, check=True).stdout

    def test_the_cpp_of_the_readme_is_the_example_s(self):
        example = (SOURCE / "examples/own_tensors/main.cpp").read_text(encoding="utf-8")
        (_, code), = blocks_of(SOURCE / "README.md", "cpp")
        for piece in code.strip().split("\n\n"):
            self.assertIn(piece, example)


if __name__ == "__main__":
    unittest.main()
