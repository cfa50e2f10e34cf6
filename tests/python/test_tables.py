"""Tables: what there is, measures, sweeps by the program, and the stubs."""

import ast
import inspect
import os
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
from cases import SMALL, arrays, exact

import hyperattn
from hyperattn import _core

SWEEP = {
    "name": "small",
    "seed": 5,
    "trials": 2,
    "timing": {"warmup": 0, "repeats": np.int64(1)},
    "inputs": {"source": "gaussian", "head_dim": 16},
    "sweep": {"seq_len": np.array([64, 96])},
    "backends": [{"name": "exact"}, {"name": "hyper", "bucket_count": 4, "block_size": 16, "sample_size": 8}],
    "measures": ["timing", "spectral_error"],
}


class Declared(unittest.TestCase):
    def test_methods(self):
        methods = hyperattn.methods()
        self.assertGreaterEqual(set(methods.index), {"exact", "dense", "reference", "lsh", "hyper"})
        self.assertEqual(methods.loc["dense", "engine"], "dense")
        self.assertFalse(methods.loc["dense", "gradient"])
        self.assertTrue(methods.loc["hyper", "gradient"])

    def test_every_method_describes_settings_that_it_takes(self):
        given = arrays((300, 16), (300, 16), (300, 16))
        methods = hyperattn.methods()
        can_run = hyperattn.engines()["available"]
        for method in methods.index[methods["engine"].map(can_run).astype(bool)]:
            settings = hyperattn.describe(method)
            always = settings[(settings["effect_only_with"] == "") & settings["default"].notna()]
            result = hyperattn.attention(*given, method=method, **always["default"].to_dict())
            np.testing.assert_array_equal(result.out, hyperattn.attention(*given, method=method).out)
        settings = hyperattn.describe("hyper")
        self.assertEqual(settings.loc["block_size", "default"], 256)
        self.assertIn("sort_lsh", settings.loc["mask", "allowed"])
        self.assertEqual(settings.loc["band_width", "effect_only_with"], "mask: band")
        with self.assertRaisesRegex(hyperattn.UsageError, "no method 'hypr'"):
            hyperattn.describe("hypr")

    def test_engines_and_figures(self):
        self.assertTrue(hyperattn.engines().loc["cpu", "available"])
        figures = hyperattn.figures()
        self.assertEqual(figures[figures["measure"] == "alpha"].index[0], "alpha")


class Measures(unittest.TestCase):
    def test_error_by_the_formula(self):
        """‖E‖/(‖P‖‖V‖) by dense algebra; ‖P‖ is found to a relative 1e-3."""
        q, k, v = arrays((2, 157, 16), (2, 157, 16), (2, 157, 9))
        table = hyperattn.measure(q, k, v, figures=["epsilon", "error_max"], **SMALL)
        out = hyperattn.attention(q, k, v, **SMALL).out
        identity = np.broadcast_to(np.eye(157), (2, 157, 157))
        softmax, right = exact(q, k, identity)[0], exact(q, k, v)[0]
        for head in range(2):
            error = right[head] - out[head]
            expected = np.linalg.norm(error, 2) / (np.linalg.norm(softmax[head], 2) * np.linalg.norm(v[head], 2))
            self.assertAlmostEqual(table.loc[f"head {head}", "epsilon"] / expected, 1, delta=2e-3)
            self.assertAlmostEqual(table.loc[f"head {head}", "error_max"], np.abs(error).max(), delta=1e-5)
        self.assertEqual(table.loc["all", "epsilon"], table["epsilon"].max())
        self.assertEqual(set(table.columns), {"epsilon", "error_max", "norm_status"})
        self.assertEqual(set(table["norm_status"]), {"converged"})

    def test_headlines_and_levels(self):
        given = arrays((157, 16), (157, 16), (157, 9))
        table = hyperattn.measure(*given, causal=True, min_seq_len=32, **SMALL)
        self.assertIn("alpha", table.columns)
        levels = table[table.index.str.startswith("level")]
        self.assertEqual(list(levels.index), ["level 1", "level 2", "level 3"])
        self.assertGreater(levels["epsilon"].max(), 0)

    def test_whole_measures_and_their_settings(self):
        given = arrays((64, 16), (64, 16), (64, 16))
        table = hyperattn.measure(*given, figures="bound", **SMALL)
        declared = hyperattn.figures().query("measure == 'bound'").index
        self.assertGreaterEqual(set(declared) | {"norm_status"}, set(table.columns))
        self.assertGreater(len(table.columns), 1)

    def test_refusals(self):
        given = arrays((64, 16), (64, 16), (64, 16))
        refused = lambda words: self.assertRaisesRegex(hyperattn.UsageError, words)
        with refused("no figure 'epsilom'; did you mean 'epsilon'"):
            hyperattn.measure(*given, figures=["epsilom"])
        with refused("'speedup' is measured by sweeps only"):
            hyperattn.measure(*given, figures=["speedup"])
        with refused("'bound', which is no measure of the figures asked for"):
            hyperattn.measure(*given, figures=["alpha"], measure_settings={"bound": {}})
        with refused("measure 'alpha' has no setting 'rows'"):
            hyperattn.measure(*given, figures=["alpha"], measure_settings={"alpha": {"rows": 3}})


class Sweeps(unittest.TestCase):
    def test_a_dict_is_a_configuration(self):
        table = hyperattn.sweep(SWEEP)
        self.assertEqual(len(table), 8)
        self.assertEqual(set(table["status"]), {"ok"})
        self.assertGreater(table[table["backend"] == "hyper"]["epsilon"].min(), 0)

    def test_a_file_with_changes_and_its_results(self):
        with tempfile.TemporaryDirectory() as folder:
            config, output = Path(folder, "sweep.yaml"), Path(folder, "out.h5")
            config.write_text("inputs: {source: gaussian, head_dim: 16, seq_len: 64}\nbackends: [{name: exact}]\nmeasures: [timing]\n")
            table = hyperattn.sweep(config, "inputs.seq_len=96", "trials=1", output=output)
            self.assertEqual(list(table["seq_len"]), [96])
            self.assertEqual(list(hyperattn.load(output).trials["seq_len"]), [96])
            with self.assertRaisesRegex(hyperattn.UsageError, "--force"):
                hyperattn.sweep(config, output=output)

    def test_blame(self):
        with self.assertRaisesRegex(hyperattn.UsageError, "hypr"):
            hyperattn.sweep({**SWEEP, "backends": [{"name": "hypr"}]})
        with self.assertRaisesRegex(hyperattn.InputError, "/nowhere.h5"):
            hyperattn.sweep({**SWEEP, "inputs": {"source": "file", "path": "/nowhere.h5"}, "sweep": {}})
        with self.assertRaisesRegex(hyperattn.UsageError, "YAML has no word for"):
            hyperattn.sweep({**SWEEP, "seed": object()})
        with self.assertRaisesRegex(hyperattn.InputError, "nowhere.h5"):
            hyperattn.load("/nowhere.h5")

    def test_without_the_program(self):
        with mock.patch.dict(os.environ, {"HYPERATTN": "hyperattn-that-is-not-there"}):
            with self.assertRaisesRegex(hyperattn.EnvironmentError, "cmake --install"):
                hyperattn.sweep(SWEEP)

    def test_without_h5py(self):
        with mock.patch.dict("sys.modules", {"h5py": None}):
            with self.assertRaisesRegex(hyperattn.EnvironmentError, "hyperattn.load needs the module h5py"):
                hyperattn.load("results.h5")

    def test_failed_trials_warn(self):
        failing = {**SWEEP, "inputs": {"source": "gaussian", "head_dim": 16, "scale": 3e38}}
        with self.assertWarnsRegex(UserWarning, "some trials failed"):
            table = hyperattn.sweep(failing)
        self.assertIn("failed", set(table["status"]))


class Stubs(unittest.TestCase):
    def test_names_and_arguments_are_those_of_the_module(self):
        stub = ast.parse(Path(hyperattn.__file__).with_name("_core.pyi").read_text())
        functions = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
        classes = {node.name: node for node in stub.body if isinstance(node, ast.ClassDef)}
        public = {name for name in dir(_core) if not name.startswith("_")}
        self.assertEqual(functions | set(classes) | {"version"}, public)
        methods = {node.name for node in classes["Run"].body if isinstance(node, ast.FunctionDef)} - {"__init__"}
        self.assertEqual(methods, {name for name in dir(_core.Run) if not name.startswith("_")})

    def test_everything_public_is_told(self):
        for name in hyperattn.__all__:
            if not name.startswith("__"):
                self.assertTrue(inspect.getdoc(getattr(hyperattn, name)), name)


if __name__ == "__main__":
    unittest.main()
