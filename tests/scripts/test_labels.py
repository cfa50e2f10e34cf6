"""Different cases never become one line, panel or row: whatever parameter tells them apart, in files that carry their
declarations and in those of version 0.1 that do not; and text of any kind is shown as text."""

import json
import unittest
from unittest import mock

import h5py
import numpy as np

import made_results as made
from script_test import SCRIPTS, ScriptTest

import hyperattn_results as hr
import plot_causal
import plot_error
import plot_overview
import plot_pareto
import plot_speedup
import plot_style
from hyperattn_plots import cells, labels, shown_text
from hyperattn_plots.declarations import DECLARED, Declarations

# Two values of each parameter that makes another problem, and of one that makes another method.
PROBLEMS = {
    "heads": (1, 4), "batch": (1, 3), "head_dim": (16, 64), "value_dim": (8, 64), "scale": (0.5, np.nan), "causal": (0, 1),
    "pass": ("forward", "forward_backward"), "clusters": (2, 64), "cluster_spread": (0.1, 0.2), "construction": ("shift", "temperature"),
    "path": ("a/in.h5", "b/in.h5"), "query_rows": ("[0, 8]", "[8, 16]"), "condition_number": (2.0, 100.0), "spectrum": (np.nan, 10.0),
    "input_label": ("A", "B"),
}  # fmt: skip
METHODS = {
    "block_size": (8, 16), "buckets": ("lsh", "random"), "centre_keys": (0, 1), "residual": ("sample", "centroids"),
    "band_width": (1, 30), "collisions": ("mask", "count"), "approx_kappa": (np.nan, 100.0),
}  # fmt: skip


def kind_of(values):
    if isinstance(values[0], str):
        return made.TEXT
    return "f8" if any(isinstance(value, float) for value in values) else "i8"


class Telling(ScriptTest):
    def rows(self, name, values, **fixed):
        """Two lengths of two cases each, which differ in one parameter."""
        rows = []
        for length in (512, 1024):
            for index, value in enumerate(values):
                row = made.trial(case_id=f"{length}-{index}", backend="hyper", seq_len=length, mask="sort_lsh", sample_size=32, residual="sample",
                                 estimator="residual", seconds=0.1 + index, speedup=1.0 + index, epsilon=0.5 - 0.1 * index,
                                 baseline_seconds=1.0, baseline_backend="exact", block_size=8, bucket_count=4, buckets="lsh")  # fmt: skip
                rows.append({**row, **fixed, name: value})
        return rows

    def load_rows(self, name, values, **fixed):
        known = {column for column, _ in made.TRIAL_COLUMNS}
        extra = [(column, kind_of([value, value])) for column, value in {"residual": "sample", **fixed}.items() if column not in known and column != name]
        extra += [(name, kind_of(values))] if name not in known else []
        return hr.load(self.write(f"tell_{name}", self.rows(name, values, **fixed), extra=extra))

    def assert_told_apart(self, results, count=4):
        drawn = []
        original = plot_style.draw_lines

        def recorded(axes, rows, x, figure, styles):
            drawn.append((figure, x, rows.groupby(["series", x])["case_id"].nunique().max()))
            return original(axes, rows, x, figure, styles)

        # `finish` lays out what is drawn, which takes most of the time.
        with mock.patch.object(plot_style, "draw_lines", recorded), mock.patch.object(plot_style, "finish"):
            for module in (plot_error, plot_speedup, plot_overview, plot_causal, plot_pareto):
                try:
                    for _, picture in module.pictures([results]):
                        plot_style.plt.close(picture)
                except hr.ResultsError:
                    pass
        self.assertGreater(len(drawn), 0)
        self.assertEqual([one for one in drawn if one[2] > 1], [])
        trials = hr.finished([results]).assign(input=hr.input_names)
        problems = hr.with_first(hr.problem_varying(trials), ["input", "seq_len"])
        columns = hr.tell_apart(trials, hr.varying(trials), within=hr.problem_varying(trials))
        names = {(hr.problem_text(row, problems), hr.label_of(row, columns)) for _, row in trials.iterrows()}
        self.assertEqual(len(names), count, names)
        self.assertEqual(columns[-1:] == ["case_id"], False, "a parameter tells them apart")

    def test_problems(self):
        for name, values in PROBLEMS.items():
            with self.subTest(name):
                self.assert_told_apart(self.load_rows(name, values))

    def test_methods(self):
        fixed = {"band_width": {"mask": "band"}, "approx_kappa": {"estimator": "theory"}}
        for name, values in METHODS.items():
            with self.subTest(name):
                self.assert_told_apart(self.load_rows(name, values, **fixed.get(name, {})))

    def test_a_parameter_that_only_the_file_declares(self):
        path = self.write("declared", self.rows("sharpness", (1, 2)), extra=[("sharpness", "i8"), ("residual", made.TEXT)])
        declared = {
            "columns": [{"name": "sharpness", "kind": "integer", "role": "parameter", "meaning": "of the edge", "unit": ""}],
            "parameters": [{"name": "sharpness", "of": "backends", "owner": "hyper", "column": "sharpness", "type": "integer", "meaning": "of the edge", "unit": "", "default": 0}],
        }
        with h5py.File(path, "a") as file:
            file["declarations"] = json.dumps(declared)
        with mock.patch.object(DECLARED, "columns", dict(DECLARED.columns)), mock.patch.object(DECLARED, "parameters", dict(DECLARED.parameters)):
            results = hr.load(path)
            self.assert_told_apart(results)
            self.assertEqual(hr.varying(results.trials), ["sharpness"])

    def test_a_default_that_depends_on_another_parameter_is_not_said(self):
        declared = {"name": "precision", "of": "backends", "owner": "hyper", "column": "precision", "type": "choice", "meaning": "of inputs", "unit": "",
                    "default": "fp32", "other_defaults": [{"parameter": "engine", "with": "cuda", "default": "bf16"}]}  # fmt: skip
        with mock.patch.object(DECLARED, "parameters", {**DECLARED.parameters, ("backends", "hyper", "precision"): declared}):
            for engine, precision, said in (("cpu", "fp32", ""), ("cpu", "bf16", "bf16"), ("cuda", "bf16", ""), ("cuda", "fp32", "fp32")):
                label = hr.label_of({"backend": "hyper", "engine": engine, "precision": precision}, ["precision"])
                self.assertEqual(label, "hyper" + (f", precision = {said}" if said else ""), (engine, precision))

    def test_settings_after_others_go_by_a_name(self):
        columns = ["levels", "order", "gate", "tail"]
        after = {"backend": "tree", "levels": "[64]", "order": "position", "gate": "mean", "tail": "none"}
        self.assertEqual(hr.label_of(after, columns), "tree after MoBA, levels = [64]")
        self.assertEqual(hr.label_of({**after, "order": "kmeans", "tail": "plain"}, columns[1:]), "tree after multipole attention")
        self.assertEqual(hr.label_of(after, ["order", "gate"]), "tree, order = position, gate = mean", "a column is missing")
        self.assertEqual(hr.label_of({**after, "backend": "other"}, ["tail"]), "other, tail = none")

    def test_cases_that_no_parameter_tells_apart_have_their_ids(self):
        results = self.load_rows("message", ("x", "y"))
        trials = hr.finished([results]).assign(input=hr.input_names)
        columns = hr.tell_apart(trials, hr.varying(trials), within=hr.problem_varying(trials))
        self.assertEqual(columns, ["case_id"])
        self.assertEqual(hr.label_of(trials.iloc[0], columns), "hyper, case 512-0")

    def test_parameters_of_a_file_without_their_columns_come_from_its_cases(self):
        rows = self.rows("message", ("x", "y"))
        cases = {row["case_id"]: {"source": "clustered", "inputs": {"clusters": 2 + 3 * (row["message"] == "y")}, "parameters": {}} for row in rows}
        results = hr.load(self.write("old", [dict(row, source="clustered") for row in rows], cases=cases, extra=[("residual", made.TEXT)]))
        self.assert_told_apart(results)

    def test_axes_that_go_in_step_make_one_line(self):
        rows = [dict(row, heads=row["seq_len"] // 512) for row in self.rows("block_size", (8, 16))]
        trials = hr.finished([hr.load(self.write("zip", rows, extra=[("residual", made.TEXT)]))]).assign(input=hr.input_names)
        self.assertEqual(hr.problem_varying(trials, x="seq_len"), [])
        self.assertEqual(hr.problem_varying(trials), ["seq_len", "heads"])


class Files(ScriptTest):
    def test_files_of_one_name_are_two(self):
        paths = []
        for folder in ("m1", "m2"):
            (self.directory / folder).mkdir()
            rows = made.sweep(seq_lens=(512, 1024), trials=2)
            heads = [dict(case_id=row["case_id"], trial=row["trial"], head=0, level=-1, alpha=5.0) for row in rows]
            made.write(self.directory / folder / "r.h5", rows, heads=heads)
            paths.append(self.directory / folder / "r.h5")
        results = hr.load_all([*paths, paths[0]])
        self.assertEqual(hr.file_names(results), ["m1/r", "m2/r"])
        trials, heads = hr.joined(results), hr.joined(results, "heads")
        cases = len({row["case_id"] for row in rows})
        self.assertEqual(trials.groupby(["file", "case_id"]).ngroups, 2 * cases)
        self.assertEqual(len(hr.with_trial_columns(heads, trials)), len(heads))
        finished = hr.finished(results).assign(input=hr.input_names)
        self.assertEqual(hr.tell_apart(finished, hr.varying(finished), within=hr.problem_varying(finished))[-1], "file")
        run = self.run_script("report.py", *paths, "-o", self.directory / "two.html")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("m2/r.h5", (self.directory / "two.html").read_text(encoding="utf-8"))

    def test_files_of_other_cases_need_no_names(self):
        paths = [self.write(f"part{length}", made.sweep(seq_lens=(length,), trials=1)) for length in (512, 1024)]
        trials = hr.finished(hr.load_all(paths)).assign(input=hr.input_names)
        self.assertNotIn("file", hr.tell_apart(trials, hr.varying(trials), within=hr.problem_varying(trials)))


class Effects(unittest.TestCase):
    def effect(self, name, **values):
        specs = DECLARED.of_backend("hyper")
        defaults = {key: spec.get("default") for key, spec in specs.items()}
        return DECLARED.has_effect(specs[name], {**defaults, "causal": False, **values}, specs)

    def test_conditions_and_what_they_rest_on(self):
        self.assertTrue(self.effect("bucket_count"))
        self.assertFalse(self.effect("bucket_count", mask="band"))
        self.assertFalse(self.effect("centre_keys", mask="band"))
        self.assertFalse(self.effect("min_seq_len"))
        self.assertTrue(self.effect("min_seq_len", causal=True))
        self.assertFalse(self.effect("sampling", sample_size=0))
        self.assertFalse(self.effect("sampling", estimator="theory"))
        self.assertTrue(self.effect("sample_size", estimator="theory"))
        self.assertTrue(self.effect("query_blocks", mask="none", residual="calibrated_centroids"))
        self.assertFalse(self.effect("query_blocks", mask="none"))

    def test_errors_are_offered_with_the_headline_first(self):
        figures = Declarations().error_figures()
        self.assertEqual(figures[0], "epsilon")
        self.assertIn("error_max", figures)
        self.assertNotIn("alpha", figures)


class Text(ScriptTest):
    LABELS = [r"cost $$ \alpha$", r"$\foo$", "_hidden_ <b>&amp;</b> \"x\" 100%", "标签" * 60, "a long label of words " * 9, "{0} %s \\"]

    def rows(self):
        rows = []
        for index, label in enumerate(self.LABELS):
            rows += [dict(row, case_id=f"{index}{row['case_id'][1:]}{row['backend'][0]}") for row in made.sweep(seq_lens=(512, 1024), buckets=(16,), samples=(64,), trials=1)
                     if not row.update(input_label=label)]  # fmt: skip
        return rows

    def test_labels_are_shown_as_text(self):
        text = dict(made.TRIAL_COLUMNS, input_label="S400")
        rows = self.rows()
        with mock.patch.object(made, "TRIAL_COLUMNS", list(text.items())):
            path = self.write("texts", rows, timings=made.stage_timings(rows))
        results = [hr.load(path)]
        titles = []
        for module in (plot_error, plot_speedup):
            for _, picture in module.pictures(results):
                picture.canvas.draw()
                titles += [axes.get_title(loc="left").replace("\\$", "$") for axes in picture.axes]
                plot_style.plt.close(picture)
        for label in self.LABELS[:3]:
            self.assertTrue(any(title.startswith(label) for title in titles), (label, titles))
        self.assertTrue(any(title.startswith("标签标签") and "…" in title for title in titles), titles)
        self.assertTrue(all(shown_text.text_width(line) < 70 for title in titles for line in title.splitlines()), titles)
        run = self.run_script("report.py", path, "-o", self.directory / "texts.html")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        page = (self.directory / "texts.html").read_text(encoding="utf-8")
        self.assertIn("_hidden_ &lt;b&gt;&amp;amp;&lt;/b&gt;", page)
        self.assertNotIn("<b>&amp;</b>", page)

    def test_legends_show_what_begins_with_an_underscore_and_shorten_what_is_long(self):
        names = ["_lsh", "$x$", "x" * 200 + "1", "x" * 200 + "2"]
        handles = plot_style.legend_handles({name: {"color": "#000000"} for name in names})
        labels_shown = [handle.get_label() for handle in handles]
        self.assertEqual(labels_shown[:2], [" _lsh", r"\$x\$"])
        self.assertEqual(len(set(labels_shown)), 4)
        self.assertLessEqual(max(map(len, labels_shown)), plot_style.LEGEND_WIDTH)
        figure, _ = plot_style.panel_grid(1)
        plot_style.finish(figure, "title", "caption", handles)
        self.assertEqual(len(figure.legends[0].get_texts()), 4)
        plot_style.plt.close(figure)

    def test_widths(self):
        self.assertEqual(shown_text.text_width("ab标签"), 6)
        self.assertEqual(shown_text.text_width("é"), 1)
        self.assertEqual(shown_text.wrapped("标签标签 ab", 5), ["标签", "标签", "ab"])
        self.assertEqual(shown_text.shortened("标签标签标签", 7), "标…签")
        names = shown_text.shortened_names(["a" * 50 + "x" + "b" * 50, "a" * 50 + "y" + "b" * 50], 21)
        self.assertEqual(len(set(names.values())), 2)
        self.assertTrue(all(shown_text.text_width(name) <= 21 for name in names.values()), names)

    def test_numbers_of_parameters_have_the_digits_that_tell_them_apart(self):
        self.assertEqual(cells.exact(0.5), "0.5")
        self.assertNotEqual(cells.exact(0.123456), cells.exact(0.123457))


if __name__ == "__main__":
    unittest.main()
