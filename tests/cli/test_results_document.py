"""docs/results-format.md names every attribute, dataset and group of a results file, and nothing that is not there."""

import re
import unittest

import h5py
from cli_test import SOURCE, CliTest


def first_cells(document, heading):
    """The names in the first column of the table below a heading."""
    section = document.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return sorted(name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1]))


class Document(CliTest):
    def setUp(self):
        super().setUp()
        self.document = (SOURCE / "docs/results-format.md").read_text(encoding="utf-8")
        self.assert_outcome(self.call("run", self.config(), "-o", "out.h5", "trials=1"), 0)
        self.file = h5py.File(self.path("out.h5"))
        self.addCleanup(self.file.close)

    def test_attributes(self):
        self.assertEqual(first_cells(self.document, "Attributes of `/`"), sorted(self.file.attrs))
        self.assertEqual(first_cells(self.document, "Attributes of `/provenance`"), sorted(self.file["provenance"].attrs))

    def test_datasets(self):
        self.assertEqual(first_cells(self.document, "Datasets and groups"), sorted(f"/{name}" for name in self.file))

    def test_columns_that_identify_a_row(self):
        # The figures of /heads and /levels are those of /trials, which another test holds to their declaration.
        figures = set(self.file["trials"].dtype.names)
        rows = [line for line in self.document.splitlines() if re.match(r"\| `/(files|cases|heads|levels|timings)`", line)]
        self.assertEqual(len(rows), 5)
        for row in rows:
            _, path, meaning, _ = row.split("|")
            named = set(re.findall(r"`(\w+)`", meaning)) - {"total"}
            columns = set(self.file[path.strip(" `")].dtype.names)
            self.assertEqual(named - columns, set(), path)
            self.assertEqual(columns - named - figures, set(), path)


if __name__ == "__main__":
    unittest.main()
