"""The report, as a file; scripts/report_browser_test.sh tries it in a browser."""

import html.parser
import re
import unittest

import numpy as np

import made_results as made
from script_test import ScriptTest

VOID = {"meta", "br", "link", "img"}


class Page(html.parser.HTMLParser):
    """Collects ids, links within the page and whatever would be fetched; checks that elements nest."""

    def __init__(self):
        super().__init__()
        self.ids, self.targets, self.fetched, self.open, self.problems = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        if tag not in VOID:
            self.open.append(tag)
        for key, value in attributes:
            if key == "id":
                self.ids.append(value)
            if key in ("href", "xlink:href", "src"):
                (self.targets if value.startswith("#") else self.fetched).append(value)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(tag)


class Report(ScriptTest):
    def report(self, *paths):
        out = self.directory / "report.html"
        run = self.run_script("report.py", *paths, "-o", out)
        self.assertEqual(run.returncode, 0, run.stderr)
        text = out.read_text(encoding="utf-8")
        page = Page()
        page.feed(text)
        self.assertEqual(page.problems, [])
        self.assertEqual(page.open, [])
        self.assertEqual(page.fetched, [], "the page must need nothing from elsewhere")
        self.assertEqual(len(page.ids), len(set(page.ids)), "ids must be unique")
        self.assertLessEqual({target[1:] for target in page.targets}, set(page.ids), "links must lead somewhere")
        return text

    def test_a_sweep(self):
        rows = made.sweep(seq_lens=(512, 1024))
        text = self.report(self.write("sweep", rows, timings=made.stage_timings(rows)))
        for heading in ("Speed", "Error", "Error against time", "Time by stage", "All cases", "Configuration and provenance"):
            self.assertIn(f">{heading}</h2>", text)
        self.assertNotIn("Causal recursion</h2>", text)
        self.assertIn("the machine was busy", text)
        self.assertIn("Made Processor 9000", text)
        self.assertRegex(text, r"<title>hyper, 16 buckets, m = 64\n512: 0\.\d+")

    def test_failures_are_listed_and_text_is_escaped(self):
        rows = made.sweep(seq_lens=(512, 1024), trials=1)
        rows[3].update(status="failed", message="<script>alert('x')</script> needs 3 TiB", seconds=np.nan)
        text = self.report(self.write("failed", rows))
        self.assertIn("1 of", text)
        self.assertIn("&lt;script&gt;alert", text)
        self.assertNotIn("<script>alert", text)

    def test_nothing_finished(self):
        rows = [made.trial(case_id="a", backend="hyper", seq_len=64, status="failed", message="no memory")]
        text = self.report(self.write("nothing", rows))
        self.assertIn("No trial finished", text)
        self.assertIn("no memory", text)
        self.assertIn("0 of 0", self.report(self.write("empty", [])))

    def test_assumptions(self):
        rows = made.sweep(seq_lens=(512,), trials=1)
        for row in rows:
            row.update(alpha=25600.0, log_kappa=12.5 if row["backend"] != "exact" else np.nan)
        extra = [("alpha", "f8"), ("log_kappa", "f8")]
        text = self.report(self.write("assumptions", rows, extra=extra))
        self.assertIn("25600", re.sub("e\\+04", "00", text.replace("2.56e+04", "25600")))
        self.assertIn("50 to 50 times n", text)
        self.assertIn("12.5", text)

    def test_language_model(self):
        text = self.report(self.write("language_model", [], language_model=made.language_model_rows()))
        self.assertIn("Language model</h2>", text)
        self.assertIn("bits per byte", text)
        self.assertNotIn("No trial finished", text)

    def test_files_of_one_experiment_are_shown_together(self):
        first = self.write("first", made.sweep(seq_lens=(512,), trials=1))
        second = self.write("second", made.sweep(seq_lens=(1024,), trials=1))
        text = self.report(first, second)
        self.assertIn("first.h5 (and 1 other): the machine was busy", text)
        self.assertEqual(text.count(">Speed</h2>"), 1, "the lengths of both files make one curve")

    def test_experiments_have_sections_with_the_plots_that_concern_them(self):
        lengths = self.write("lengths", made.sweep(seq_lens=(512, 1024), buckets=(16,), samples=(64,), trials=1), experiment="speed_of_a_layer")
        sizes = self.write("sizes", made.sweep(seq_lens=(512,), buckets=(16,), trials=1), experiment="error_against_m")
        text = self.report(lengths, sizes)
        self.assertIn("<h1>2 experiments</h1>", text)
        first, second = text.split(">error_against_m</h2>")
        self.assertIn(">speed_of_a_layer</h2>", first)
        self.assertIn(">Speed</h3>", first)
        self.assertNotIn(">Speed</h3>", second)
        self.assertIn(">Error</h3>", second)
        self.assertNotIn(">Error against time</h3>", second, "one size alone is an error curve")
        self.assertEqual(text.count("<summary>All cases</summary>"), 2)

    def test_a_study_of_the_recursion_is_not_shown_twice(self):
        rows = made.sweep(seq_lens=(2048, 4096), causals=(1,), buckets=(64,), samples=(128,), trials=1)
        levels = [dict(case_id=row["case_id"], trial=0, level=1, epsilon=0.1, error_op=1.0) for row in rows if row["backend"] != "exact"]
        text = self.report(self.write("recursion", rows, levels=levels))
        self.assertIn(">Causal recursion</h2>", text)
        self.assertNotIn(">Speed</h2>", text)
        self.assertNotIn(">Error</h2>", text)

    def test_refusals(self):
        self.assert_refused(self.run_script("report.py", self.directory / "none.h5"), 3, "no such file")
        path = self.write("folder", [])
        self.assert_refused(self.run_script("report.py", path, "-o", self.directory), 2, "is a folder")

    def test_no_output_destroys_the_results(self):
        path = self.write("precious", made.sweep(seq_lens=(512, 1024), trials=1))
        before = path.read_bytes()
        link, hard = self.directory / "link.html", self.directory / "hard.html"
        link.symlink_to(path)
        hard.hardlink_to(path)
        for name in (path, link, hard):
            self.assert_refused(self.run_script("report.py", path, "-o", name), 2, "which is read")
        pictures = self.directory / "pictures"
        pictures.mkdir()
        (pictures / "overview.svg").symlink_to(path)
        self.assert_refused(self.run_script("plot_overview.py", path, "-o", pictures), 2, "which is read")
        self.assertEqual(path.read_bytes(), before)

    def test_a_page_is_written_where_links_lead_and_as_open_as_it_was(self):
        path = self.write("linked", made.sweep(seq_lens=(512, 1024), trials=1))
        target, link = self.directory / "target.html", self.directory / "to_target.html"
        target.write_text("old")
        target.chmod(0o600)
        link.symlink_to(target.name)
        self.assertEqual(self.run_script("report.py", path, "-o", link).returncode, 0)
        self.assertTrue(link.is_symlink())
        self.assertIn("</html>", target.read_text(encoding="utf-8"))
        self.assertEqual(target.stat().st_mode & 0o777, 0o600)


if __name__ == "__main__":
    unittest.main()
