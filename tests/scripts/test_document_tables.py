"""scripts/document_tables.py: the tables of the documents are those of the shipped results, their cells are what the results
say, and what it refuses."""

import json
import re
import unittest

import h5py
import made_results as made
import numpy as np
from script_test import SCRIPTS, ScriptTest

ROOT = SCRIPTS.parent
SHIPPED = {"settings.md": "settings_*.h5", "pretrained.md": "pretrained_*.h5", "reproducing.md": "paper_*.h5"}


def table_of(document, mark):
    """The rows of a table in the shipped document, each a list of cells."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    body = re.search(rf"<!-- {mark} -->\n(.*?)<!-- end -->", text, re.DOTALL)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if line.startswith("|")]


def trials_of(name):
    """The trials of a shipped file as they lie in it."""
    with h5py.File(ROOT / "docs/results" / name) as file:
        return file["trials"][:]


class Documents(ScriptTest):
    def test_the_documents_have_the_tables_of_the_shipped_results(self):
        for name, pattern in SHIPPED.items():
            results = sorted((ROOT / "docs/results").glob(pattern))
            self.assertTrue(results, pattern)
            document = self.directory / name
            shipped = (ROOT / "docs" / name).read_text(encoding="utf-8")
            document.write_text(shipped, encoding="utf-8")
            run = self.run_script("document_tables.py", *results, "--document", document)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertEqual(document.read_text(encoding="utf-8").splitlines(), shipped.splitlines(), name)

    def test_every_mark_of_the_documents_is_filled(self):
        for name in SHIPPED:
            text = (ROOT / "docs" / name).read_text(encoding="utf-8")
            marks = re.findall(r"<!-- (?!end)(.*?) -->", text)
            self.assertGreater(len(marks), 0)
            self.assertEqual([mark for mark in marks if len(table_of(name, mark)) < 4], [])

    def test_cells_are_what_the_results_say(self):
        trials = trials_of("pretrained_windows_2048.h5")
        exact = trials[trials["replaced"] == 0][0]
        mine = trials[(trials["backend"] == b"hyper") & (trials["sink_keys"] == 32) & (trials["replaced"] == 30)]
        of_windows = np.exp(np.array(json.loads(mine[0]["window_cross_entropy"])) - json.loads(exact["window_cross_entropy"]))
        self.assertEqual(len(of_windows), 4)
        cells = next(row for row in table_of("pretrained.md", "pretrained windows") if row[:2] == ["2048", "`hyper`, sinks"])
        self.assertEqual(cells[-2:], [f"{mine[0]['perplexity']:.2f}", f"{of_windows.mean():.3f} ({of_windows.min():.3f} to {of_windows.max():.3f})"])

        trials = trials_of("settings_check.h5")
        mine = trials[(trials["backend"] == b"coreset") & (trials["pivots"] == b"uniform") & (trials["input_label"] == b"clusters")]
        self.assertEqual(len(mine), 5)
        cell = next(row[3] for row in table_of("settings.md", "small problems") if row[0] == "`coreset`, uniform pivots")
        self.assertAlmostEqual(float(cell), np.median(mine["error_fro_rel"]), delta=5e-4)

        trials, times = trials_of("settings_equal_time.h5"), trials_of("settings_equal_time_times.h5")
        seconds = dict(zip(times["case_id"], times["seconds"]))
        on_clusters = trials[trials["input_label"] == b"256 clusters"]
        limit = 1.5 * next(seconds[row["case_id"]] for row in on_clusters if row["backend"] == b"hyper" and row["residual"] == b"sample" and row["block_size"] == 256)
        rows = table_of("settings.md", "equal time")[2:]
        first = next(place for place, row in enumerate(rows) if row[0] == "256 clusters")
        cells = next(row for row in rows[first:] if row[1].startswith("1.5, "))
        for of_tree, cell in ((True, cells[3]), (False, cells[5])):
            within = [row["epsilon"] for row in on_clusters if (row["backend"] == b"tree") == of_tree and row["backend"] != b"exact" and seconds[row["case_id"]] <= limit]
            self.assertGreater(len(within), 3)
            self.assertAlmostEqual(float(cell.strip("*")), min(within), delta=6e-4)

        trials = trials_of("settings_tree_loss.h5")
        mine = trials[(trials["backend"] == b"tree") & (trials["tail"] == b"corrected") & (trials["order"] == b"tree")]
        bits = {(row["min_seq_len"], row["beams"]): row["bits_per_byte"] for row in mine}
        self.assertEqual(len(bits), 6)
        exact = trials["bits_per_byte"][trials["replaced"] == 0][0]
        for name, leaf, cell in table_of("settings.md", "tree loss")[2:]:
            if name in ("`tree`", "`tree`, `beams: [8, 8, 8]`"):
                beams = b"[8, 8, 8]" if "beams" in name else b"[8, 16, 16]"
                self.assertAlmostEqual(float(cell), bits.pop((int(leaf), beams)) - exact, delta=6e-4)
        self.assertEqual(bits, {})

    def test_refusals(self):
        other = self.write("other", made.sweep(seq_lens=(512,), trials=1))
        document = self.directory / "no_marks.md"
        document.write_text("no table\n")
        self.assert_refused(self.run_script("document_tables.py", other, "--document", document), 3, "beyond_tree")
        shipped = ROOT / "docs/results/pretrained_assumptions.h5"
        self.assert_refused(self.run_script("document_tables.py", shipped, "--document", document), 3, "0 places <!-- pretrained assumptions -->")
        self.assertEqual(document.read_text(), "no table\n")


if __name__ == "__main__":
    unittest.main()
