"""The loader and the plot scripts, run as their users run them, on made results files."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

import made_results as made
from script_test import SCRIPTS, ScriptTest

import hyperattn_results as hr
import plot_bounds
import plot_causal
import plot_overview
import plot_stages
import plot_style


class Commands(ScriptTest):
    def test_every_script_runs_as_a_command_and_explains_itself(self):
        for script in sorted(SCRIPTS.glob("*.py")):
            if script.name in ("hyperattn_results.py", "plot_style.py", "random_models.py"):
                continue
            run = subprocess.run([sys.executable, "-B", script, "--help"], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertIn("usage:", run.stdout)
            run = subprocess.run([sys.executable, "-B", script, "--no-such-option"], capture_output=True, text=True, check=False)
            self.assertEqual(run.returncode, 2, script.name)


class Loader(ScriptTest):
    def test_text_is_decoded_and_case_parameters_are_attached(self):
        rows = [made.trial(case_id="a1", backend="hyper", seq_len=8, message="κ is 3")]
        cases = {"a1": {"inputs": {"label": "x"}, "backend": {"name": "hyper", "residual": "centroids", "list": [1, 2]}}}
        results = hr.load(self.write("text", rows, cases=cases))
        self.assertEqual(results.trials["message"][0], "κ is 3")
        self.assertEqual(results.trials["backend"][0], "hyper")
        self.assertEqual(results.trials["residual"][0], "centroids")
        self.assertEqual(results.trials["list"][0], "[1, 2]")
        self.assertEqual(results.trials["causal"][0], False)
        self.assertEqual(results.provenance["processor"], "Made Processor 9000")
        self.assertIn("seq_len", results.config)

    def test_sessions(self):
        path = self.write("sessions", made.sweep(seq_lens=(512,), trials=1))
        with h5py.File(path, "a") as file:
            for number in (2, 10):
                file.create_group(f"provenance/{number}").attrs["processor"] = f"Other {number}"
        results = hr.load(path)
        self.assertEqual([session["processor"] for session in results.sessions], ["Made Processor 9000", "Other 2", "Other 10"])
        self.assertIn("Other 10", hr.machine_line([results]))

    def test_values_that_do_not_apply_are_told_apart(self):
        rows = [made.trial(case_id="a1", backend="lsh", seq_len=8, bucket_count=16), made.trial(case_id="a2", backend="exact", seq_len=8)]
        trials = hr.load(self.write("apply", rows)).trials
        self.assertEqual(hr.distinct(trials, "sample_size"), [])
        self.assertEqual(hr.distinct(trials, "bucket_count"), [16])
        self.assertEqual(hr.distinct(trials, "condition_number"), [])
        self.assertEqual(hr.distinct(trials, "estimator"), [])

    def test_the_clip_is_no_parameter_of_the_residual_estimator(self):
        rows = [made.trial(case_id=f"a{clip}", backend="hyper", seq_len=8, estimator=estimator, clip_constant=clip, approx_epsilon=0.5)
                for estimator, clip in (("residual", 1.0), ("theory", 0.0))]  # fmt: skip
        results = hr.load(self.write("clip", rows))
        self.assertEqual(hr.distinct(results.trials, "clip_constant"), [0.0])
        self.assertEqual(hr.varying(results.trials), ["estimator"])
        self.assertEqual(hr.distinct(hr.load(self.write("residual", rows[:1])).trials, "approx_epsilon"), [])

    def test_labels_name_what_varies_within_a_backend(self):
        trials = hr.load(self.write("labels", made.sweep())).trials
        self.assertEqual(hr.varying(trials), ["bucket_count", "sample_size"])
        row = trials[(trials["backend"] == "hyper")].iloc[0]
        self.assertEqual(hr.label_of(row, hr.varying(trials)), "hyper, 16 buckets, m = 64")
        row = trials[(trials["backend"] == "exact")].iloc[0]
        self.assertEqual(hr.label_of(row, hr.varying(trials)), "exact")


    def test_a_parameter_without_effect_does_not_apply(self):
        rows = [made.trial(case_id=f"a{mask}{width}", backend="lsh", seq_len=8, mask=mask) for mask in ("sort_lsh", "band") for width in (64, 128)]
        cases = {row["case_id"]: {"backend": {"name": "lsh", "band_width": width}} for row, width in zip(rows, (64, 128, 64, 128))}
        trials = hr.load(self.write("band", rows, cases=cases)).trials
        self.assertEqual([hr.applies(trials["band_width"])[index] for index in range(4)], [False, False, True, True])
        self.assertEqual({hr.label_of(row, hr.varying(trials)) for _, row in trials.iterrows()}, {"lsh", "lsh, band mask, band width = 64", "lsh, band mask, band width = 128"})

    def test_methods_are_named_by_what_they_depart_in(self):
        changes = [{}, {"sample_size": 0}, {"sampling": "prefix"}, {"estimator": "theory", "clip_constant": 0.0}, {"estimator": "theory", "clip_constant": 1.0}]
        plain = dict(backend="hyper", seq_len=8, sample_size=64, sampling="uniform", estimator="residual", block_size=16)
        trials = hr.load(self.write("methods", [made.trial(case_id=f"a{index}", **{**plain, **change}) for index, change in enumerate(changes)])).trials
        columns = hr.method_columns(trials)
        self.assertEqual(columns, ["estimator", "sampling", "clip_constant"])
        labels = [hr.method_label(row, columns) for _, row in trials.iterrows()]
        self.assertEqual(labels, ["hyper", "hyper, no sample", "hyper, prefix sampling", "hyper, theory estimator, clip = 0", "hyper, theory estimator, clip = 1"])
        sizes = hr.load(self.write("sizes", made.sweep())).trials
        self.assertEqual(hr.method_columns(sizes), ["bucket_count", "sample_size"])


class Looks(unittest.TestCase):
    def test_fifty_methods_look_different(self):
        styles = plot_style.method_styles([("hyper", f"method {index}") for index in range(48)] + [("lsh", "lsh"), ("exact", "exact")])
        looks = [(look["color"], look["marker"]) for look in styles.values()]
        self.assertEqual(len(set(looks)), 50)
        self.assertEqual(looks[-2][0], plot_style.BACKEND_COLOURS["lsh"])

    def test_scales_of_the_values_that_were_run(self):
        for values, scale in (((64, 128), "log"), ((0, 64, 128, 512), "symlog"), ((0, 64), "linear"), ((0, 1, 2), "linear"), ((100, 150), "linear")):
            figure, axes = plot_style.plt.subplots()
            plot_style.value_axis(axes.xaxis, values)
            self.assertEqual(axes.get_xscale(), scale, values)
            plot_style.plt.close(figure)


class Stages(unittest.TestCase):
    def test_of_too_many_cases_whole_inputs_are_left_out(self):
        rows = [(f"{name}{length}{index}", name, length) for length in (512, 1024) for name in "ab" for index in range(3)]
        trials = pd.DataFrame(rows, columns=["case_key", "input", "seq_len"])
        for limit, kept in ((12, 12), (11, 6), (6, 6), (5, 3), (3, 3), (2, 2)):
            chosen, dropped = plot_stages.choose_cases(trials, limit)
            self.assertEqual((len(chosen), dropped), (kept, 12 - kept))
            self.assertEqual(chosen["seq_len"].iloc[0], 1024)
            if kept == 3:
                self.assertEqual(set(chosen["input"]), {"a"})


class Refusals(ScriptTest):
    def test_a_missing_file(self):
        run = self.run_script("plot_error.py", self.directory / "none.h5", "-o", self.directory)
        self.assert_refused(run, 3, "none.h5", "no such file")

    def test_a_file_that_is_not_hdf5(self):
        path = self.directory / "text.h5"
        path.write_text("not HDF5")
        self.assert_refused(self.run_script("plot_speedup.py", path), 3, "text.h5", "HDF5")

    def test_another_schema(self):
        path = self.write("schema", made.sweep(), schema="hyperattn.results/99")
        self.assert_refused(self.run_script("plot_error.py", path), 3, "hyperattn.results/99", "hyperattn.results/1")

    def test_an_axis_without_values(self):
        path = self.write("no_axis", made.sweep())
        self.assert_refused(self.run_script("plot_error.py", path, "--x", "condition_number"), 2, "condition_number")

    def test_an_unknown_figure(self):
        path = self.write("no_figure", made.sweep())
        self.assert_refused(self.run_script("plot_error.py", path, "--figure", "beauty"), 2, "beauty")

    def test_an_output_that_is_a_file(self):
        path = self.write("output", made.sweep(seq_lens=(64,)))
        self.assert_refused(self.run_script("plot_speedup.py", path, "-o", path), 1)

    def test_empty_tables_and_failed_trials_only(self):
        empty = self.write("empty", [])
        failed = self.write("failed", [made.trial(case_id="a", backend="hyper", seq_len=64, status="failed", message="no memory")])
        for script in ("plot_error.py", "plot_speedup.py", "plot_stages.py", "plot_pareto.py", "plot_causal.py"):
            for path in (empty, failed):
                self.assert_refused(self.run_script(script, path, "-o", self.directory / "x"), 3, "no finished trial")


class Frontier(unittest.TestCase):
    def test_keeps_what_no_other_beats(self):
        import plot_pareto

        points = [(1, 5), (2, 6), (2, 3), (3, 3), (4, 1), (5, 2)]
        self.assertEqual(plot_pareto.frontier(points), [(1, 5), (2, 3), (4, 1)])


class Pictures(ScriptTest):
    def picture(self, script, path, names, *arguments):
        with tempfile.TemporaryDirectory() as out:
            self.assert_pictures(self.run_script(script, path, "-o", out, *arguments), Path(out), names)

    def test_the_overview_says_what_to_see(self):
        """By hand: medians over trials 0.2 and 0.3 of a, 0.5 of b, 0.9 of c."""
        errors = {("a", "1"): (0.1, 0.2, 0.9), ("a", "2"): (0.3, 0.3, 0.3), ("b", "3"): (0.5, 0.4, 0.6), ("c", "4"): (0.9, np.nan, np.nan)}
        rows = pd.DataFrame([{"file": "f", "backend": backend, "case_id": case, "epsilon": error} for (backend, case), all in errors.items() for error in all])
        self.assertEqual(plot_overview.headline(rows, "epsilon", "heads"), "On heads, a errs 2.5 times less than b and 4.5 times less than c, each at its best")
        self.assertEqual(plot_overview.headline(rows[rows["backend"] != "c"], "epsilon", "heads"), "On heads, a errs 2.5 times less than b")
        for equal in (rows[rows["backend"] == "a"], rows.assign(epsilon=0.1), rows.assign(epsilon=np.nan)):
            self.assertEqual(plot_overview.headline(equal, "epsilon", "heads"), "Approximate attention: error and speed")

    def test_a_sweep_like_the_quickstart(self):
        rows = made.sweep(seq_lens=(512, 1024)) + made.sweep(seq_lens=(2048,), label="captured heads")
        path = self.write("quickstart", rows, timings=made.stage_timings(rows))
        self.picture("plot_error.py", path, ["error_vs_sample_size", "error_vs_bucket_count", "error_vs_seq_len"])
        self.picture("plot_error.py", path, ["error_vs_sample_size"], "--x", "sample_size", "--figure", "error_op")
        other_length = made.sweep(seq_lens=(512,), buckets=(16,)) + made.sweep(seq_lens=(2048,), buckets=(16,), label="captured heads")
        self.picture("plot_error.py", self.write("lengths", other_length), ["error_vs_sample_size"])
        self.picture("plot_overview.py", path, ["overview"])
        self.assert_refused(self.run_script("plot_overview.py", path, "--input", "dreams"), 2, "dreams", "captured heads")
        self.picture("plot_speedup.py", path, ["speedup"])
        self.picture("plot_stages.py", path, ["stages"])

    def test_both_passes_and_both_masks(self):
        rows = made.sweep(passes=("forward", "forward_backward"), causals=(0, 1), buckets=(64,), samples=(256,))
        path = self.write("passes", rows, timings=made.stage_timings(rows))
        self.picture("plot_speedup.py", path, ["speedup"])
        self.picture("plot_stages.py", path, ["stages"])

        self.picture("plot_causal.py", path, ["causal"])
        self.picture("plot_pareto.py", path, ["pareto"])

    def test_causal_levels_and_leaf_sizes(self):
        rows, levels = [], []
        for leaf in (512, 1024):
            for row in made.sweep(seq_lens=(2048, 4096), causals=(1,), buckets=(64,), samples=(128,), trials=2):
                row["case_id"] += str(leaf)
                row["min_seq_len"] = leaf if row["backend"] != "exact" else -1
                rows.append(row)
                if row["backend"] != "exact":
                    levels += [dict(case_id=row["case_id"], trial=row["trial"], level=level, epsilon=0.1, error_op=np.nan) for level in (0, 1)]
        path = self.write("levels", rows, levels=levels)
        self.picture("plot_causal.py", path, ["causal"])
        self.picture("plot_causal.py", path, ["causal"], "--figure", "error_op")

    def test_levels_are_placed_by_the_rows_of_their_nodes(self):
        row = made.trial(case_id="a1", backend="hyper", seq_len=4097, causal=1, min_seq_len=600, epsilon=0.2)
        levels = [dict(case_id="a1", trial=0, level=level, epsilon=0.1 * level, error_op=np.nan) for level in (1, 2, 3)]
        results = [hr.load(self.write("nodes", [row], levels=levels))]
        placed = plot_causal.level_rows(results, hr.finished(results).assign(input="made"), "epsilon")
        self.assertEqual(list(placed["node_rows"]), [513, 1025, 2049])

    def test_variants(self):
        rows = []
        for label in ("", "captured heads"):
            for row in made.sweep(seq_lens=(512,), buckets=(16,), samples=(64,), trials=2, label=label):
                rows.append(row)
                if row["backend"] == "hyper":
                    for index, change in enumerate(({"sampling": "prefix"}, {"buckets": "random"}, {"sample_size": 0}, {"mask": "none", "epsilon": np.nan})):
                        rows.append(dict(row, case_id=f"{row['case_id']}v{index}", **change))
        path = self.write("variants", rows)
        self.picture("plot_ablations.py", path, ["ablations"])
        self.picture("plot_pareto.py", path, ["pareto"])
        self.assert_refused(self.run_script("plot_ablations.py", self.write("plain", made.sweep())), 3, "no variants")

    def test_assumptions(self):
        rows = [dict(row, alpha=3.0 * row["seq_len"], log_kappa=np.inf) for row in made.sweep(trials=1)]
        extra = [("alpha", "f8"), ("log_kappa", "f8")]
        self.picture("plot_assumptions.py", self.write("alpha", rows, extra=extra), ["assumptions"])
        heads = [dict(case_id=row["case_id"], trial=row["trial"], head=head, level=-1, alpha=5.0 + head) for row in rows for head in (0, 1)]
        self.picture("plot_assumptions.py", self.write("heads", rows, extra=extra, heads=heads), ["assumptions"])
        self.assert_refused(self.run_script("plot_assumptions.py", self.write("none", made.sweep())), 3, "neither α nor κ")

    def test_bounds(self):
        extra = [(name, "f8") for name in ("epsilon_diagonal", "epsilon_product", "log_bound_diagonal", "bound_product", "bound_product_provable")]
        rows = [
            dict(row, epsilon_diagonal=0.1, epsilon_product=np.inf, log_bound_diagonal=900.0 if index % 2 else 3.0, bound_product=2.0, bound_product_provable=np.nan)
            for index, row in enumerate(made.sweep())
        ]
        path = self.write("bounds", rows, extra=extra)
        self.picture("plot_bounds.py", path, ["bounds_vs_sample_size", "bounds_vs_bucket_count", "bounds_vs_seq_len"])
        self.picture("plot_bounds.py", path, ["bounds_vs_sample_size"], "--x", "sample_size")
        trials = hr.load(path).trials
        self.assertRegex(plot_bounds.beyond_note(trials), f"in {(trials['log_bound_diagonal'] == 900).sum()} of {len(trials)} trials, up to e\\^900")
        self.assertEqual(plot_bounds.beyond_note(trials[trials["log_bound_diagonal"] < 900]), "")
        self.assert_refused(self.run_script("plot_bounds.py", path, "--x", "condition_number"), 2, "condition_number")
        self.assert_refused(self.run_script("plot_bounds.py", self.write("unbound", made.sweep())), 3, "measure bound")
        nothing = [dict(row, log_bound_diagonal=np.inf, bound_product=np.inf) for row in rows]
        self.assert_refused(self.run_script("plot_bounds.py", self.write("empty", nothing, extra=extra)), 3, "no finite bound")

    def test_loss_above_exact(self):
        """By hand: the same file's evaluation without replaced layers is subtracted, and lends its time as the baseline."""
        import hyperattn_results
        import plot_pareto

        rows = made.language_model_rows()
        results = [hyperattn_results.load(self.write("model_loss", [], language_model=rows))]
        found, figure = plot_pareto.model_trials(results)
        self.assertEqual(figure, "bits_per_byte_over_exact")
        self.assertGreater(len(found), 0)
        most = max(row["replaced"] for row in rows)
        self.assertEqual(set(found["replaced"]), {most})
        for _, row in found.iterrows():
            plain = next(other for other in rows if other["replaced"] == 0 and other["seq_len"] == row["seq_len"] and other["trial"] == row["trial"])
            self.assertAlmostEqual(row[figure], row["bits_per_byte"] - plain["bits_per_byte"])
            self.assertEqual(row["baseline_seconds"], plain["attention_seconds"])
        tokens = [dict(row, bits_per_byte=np.nan, bits_per_token=3 * row["bits_per_byte"]) for row in rows]
        results = [hyperattn_results.load(self.write("token_loss", [], language_model=tokens))]
        of_tokens, figure = plot_pareto.model_trials(results)
        self.assertEqual(figure, "bits_per_token_over_exact")
        np.testing.assert_allclose(of_tokens[figure], 3 * found["bits_per_byte_over_exact"], rtol=1e-12)

    def test_language_model(self):
        rows = made.language_model_rows()
        rows[4].update(status="failed", bits_per_byte=np.nan)
        path = self.write("language_model", [], language_model=rows)
        self.picture("plot_language_model.py", path, ["language_model"])
        self.picture("plot_language_model.py", path, ["language_model"], "--figure", "perplexity", "--loss-only")
        self.picture("plot_pareto.py", path, ["pareto_language_model"])
        self.picture("plot_pareto.py", path, ["pareto_language_model"], "--figure", "bits_over_exact")
        only_plain = self.write("plain_model", [], language_model=made.language_model_rows(layers=0))
        self.picture("plot_language_model.py", only_plain, ["language_model"])
        self.assert_refused(self.run_script("plot_pareto.py", only_plain), 3, "finished trial")
        self.assert_refused(self.run_script("plot_language_model.py", self.write("trials", made.sweep())), 3, "hyperattn lm")
        self.assert_refused(self.run_script("plot_language_model.py", path, "--figure", "charm"), 2, "charm")

    def test_a_model_is_shown_under_its_label(self):
        import hyperattn_results
        import plot_language_model

        for label in ("", "4-bit weights"):
            rows = [dict(row, input_label=label) for row in made.language_model_rows(lengths=(1024,))]
            ((_, figure),) = plot_language_model.pictures([hyperattn_results.load(self.write("labelled", [], language_model=rows))])
            words = " ".join(" ".join(text.get_text() for text in figure.texts).split())
            self.assertIn("model made (4-bit weights)." if label else "model made.", words)

    def test_causal_without_causal_trials(self):
        self.assert_refused(self.run_script("plot_causal.py", self.write("full", made.sweep())), 3, "causal")

    def test_failed_rows_and_figures_that_are_nan_are_left_out(self):
        rows = made.sweep(seq_lens=(512, 1024), trials=2)
        for index, row in enumerate(rows):
            if index % 3 == 0:
                row.update(status="failed", epsilon=np.nan, speedup=np.nan, seconds=np.nan)
            elif index % 3 == 1:
                row.update(epsilon=np.nan, error_fro_rel=np.inf)
        path = self.write("holes", rows, timings=made.stage_timings(rows))
        self.picture("plot_error.py", path, ["error_vs_sample_size"], "--x", "sample_size")
        self.picture("plot_error.py", path, ["error_vs_seq_len"], "--x", "seq_len", "--figure", "error_fro_rel")
        self.picture("plot_speedup.py", path, ["speedup"])
        self.picture("plot_stages.py", path, ["stages"])

    def test_a_single_point(self):
        rows = made.sweep(seq_lens=(1024,), buckets=(16,), samples=(64,), trials=1)
        path = self.write("point", rows, timings=made.stage_timings(rows))
        self.picture("plot_error.py", path, ["error_vs_seq_len"])
        self.picture("plot_speedup.py", path, ["speedup"])
        self.picture("plot_stages.py", path, ["stages"])

    def test_values_of_zero_and_of_many_magnitudes(self):
        rows = [
            made.trial(case_id=f"c{n}{t}", backend="hyper", seq_len=n, sample_size=m, block_size=8, epsilon=error, trial=t)
            for t in (0, 1)
            for n, m, error in ((64, 0, 0.0), (128, 8, 1e-9), (256, 64, 1e3))
        ]
        path = self.write("magnitudes", rows)
        self.picture("plot_error.py", path, ["error_vs_sample_size", "error_vs_seq_len"])

    def test_several_files(self):
        first = self.write("first", made.sweep(seq_lens=(512,), trials=1))
        second = self.write("second", made.sweep(seq_lens=(1024,), trials=1))
        with tempfile.TemporaryDirectory() as out:
            run = self.run_script("plot_error.py", first, second, "-o", out, "--x", "seq_len")
            self.assert_pictures(run, Path(out), ["error_vs_seq_len"])


if __name__ == "__main__":
    unittest.main()
