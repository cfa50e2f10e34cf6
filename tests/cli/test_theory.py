"""Figures of whole sweeps: the halves bound the error wherever they are finite, and the results at the edges are defined."""

import unittest

import h5py
import numpy as np
from cli_test import SOURCE, CliTest

NORM_TOLERANCE = 1e-3  # of each of the three norms in ε, ε_diagonal and ε_product
MEASURES = "measures=[spectral_error, diagonal_error, product_error, alpha, kappa, mask_mass, bound]"
SMALL_THEORY = ["sweep.seq_len=[96, 200]", "sweep.bucket_count=[4, 32]", "sweep.sample_size=[8, 64]", "trials=2",
                "inputs.head_dim=16", MEASURES, "-o", "out.h5"]


class TheoryTest(CliTest):
    def trials(self, config, *arguments):
        self.assert_outcome(self.call_in(self.folder, "run", config, *arguments), 0)
        with h5py.File(self.path("out.h5")) as file:
            return file["trials"][:]

    def assert_halves_bound_the_error(self, trials):
        halves = trials["epsilon_diagonal"] + trials["epsilon_product"]
        finite = np.isfinite(halves)
        broken = finite & ~(trials["epsilon"] <= halves * (1 + 3 * NORM_TOLERANCE) + 1e-9)
        self.assertFalse(broken.any(), [(t["backend"], t["seq_len"], t["epsilon"], h) for t, h in zip(trials[broken], halves[broken])])
        self.assertTrue((trials["status"] == b"ok").all())
        self.assertTrue(np.isfinite(trials["epsilon"]).all())
        self.assertGreater(finite.sum(), len(trials) // 2)
        self.assertGreater((trials["epsilon"] > 1e-3).sum(), len(trials) // 2)  # where there is an error to bound

    def test_halves_bound_the_error(self):
        config = SOURCE / "configs/theory/everything.yaml"
        trials = self.trials(config, *SMALL_THEORY, "sweep.condition_number=[1, 1000]")
        self.assertEqual(len(trials), 2 * (4 + 4 * 2 + 4 * 2 * 2))
        self.assert_halves_bound_the_error(trials)

    def test_halves_bound_the_error_of_causal_problems_and_of_the_theory_estimator(self):
        config = SOURCE / "configs/theory/everything.yaml"
        backends = ("backends=[{name: lsh, block_size: 16, min_seq_len: 32}, {name: hyper, block_size: 16, min_seq_len: 32}, "
                    "{name: hyper, block_size: 16, min_seq_len: 32, estimator: theory}, "
                    "{name: hyper, block_size: 16, min_seq_len: 32, residual: centroids}]")
        trials = self.trials(config, *SMALL_THEORY, "sweep.condition_number=[1, 100]", "inputs.causal=true", "inputs.heads=2", backends)
        self.assertTrue((trials["causal"] == 1).all())
        self.assert_halves_bound_the_error(trials)

    def edge_trials(self, inputs):
        """Blocks, theory and masks that hold everything or half of the rows, on one input."""
        self.write_mask("all.h5", blocks=[[0, 64, 0, 64]])
        self.write_mask("half.h5", blocks=[[0, 32, 0, 64]])
        backends = [f"{{name: hyper, sample_size: 8, estimator: {estimator}, mask: {mask}}}"
                    for estimator in ("residual", "theory")
                    for mask in ("sort_lsh, block_size: 16", "file, mask_path: all.h5", "file, mask_path: half.h5")]
        text = f"inputs: {{source: file, path: {inputs}}}\nbackends: [{', '.join(backends)}]\n"
        return self.trials(self.config(text), MEASURES, "-o", "out.h5")

    def test_a_mask_of_the_users_own_and_its_gradient(self):
        """lsh attends to the mask's entries and nothing else, as blocks and as compressed sparse rows."""
        random = np.random.default_rng(5)
        q, k, v, dout = (random.standard_normal((1, 2, 64, 16)).astype("f4") for _ in range(4))
        self.write_inputs(q=q, k=k, v=v, dout=dout)
        mask = np.zeros((64, 64), bool)
        mask[0:20, 5:40] = mask[20:64, 0:7] = mask[30:50, 60:64] = True
        self.write_mask("blocks.h5", blocks=[[0, 20, 5, 40], [20, 64, 0, 7], [30, 50, 60, 64]])
        self.write_mask("rows.h5", indptr=np.r_[0, mask.sum(1).cumsum()], indices=np.nonzero(mask)[1])
        weights = np.where(mask, np.exp(0.25 * q.astype("f8") @ k.swapaxes(2, 3)), 0)
        p = weights / weights.sum(-1, keepdims=True)
        out = p @ v
        ds = p * (dout @ v.swapaxes(2, 3) - (dout * out).sum(-1, keepdims=True))
        expected = {"out": out, "lse": np.log(weights.sum(-1)), "dq": 0.25 * ds @ k, "dk": 0.25 * ds.swapaxes(2, 3) @ q, "dv": p.swapaxes(2, 3) @ dout}
        for name in ("blocks.h5", "rows.h5"):
            call = ["attend", "in.h5", "-o", "out.h5", "--force", "--backward", "backend=lsh", "mask=file", f"mask_path={name}"]
            self.assert_outcome(self.call(*call), 0)
            with h5py.File(self.path("out.h5")) as file:
                for dataset, values in expected.items():
                    self.assertLess(np.abs(file[dataset][:] - values).max(), 1e-5, (name, dataset))

    def test_values_of_zero(self):
        trials = self.edge_trials(self.write_inputs(v=np.zeros((1, 2, 64, 16), "f4")))
        for name in ("epsilon", "error_op", "error_op_rel", "error_fro_rel", "error_max", "norm_value", "srank_value"):
            self.assertTrue((trials[name] == 0).all(), (name, trials[name]))
        for name in ("epsilon_diagonal", "epsilon_product", "log_bound_diagonal", "bound_product", "bound_product_provable"):
            self.assertFalse(np.isnan(trials[name]).any(), (name, trials[name]))
        self.assertTrue((trials["epsilon_product"][:5] == 0).all(), trials["epsilon_product"])
        self.assertTrue((trials["bound_product_provable"][:5] == 0).all(), trials["bound_product_provable"])

    def test_rows_without_unmasked_keys(self):
        blocks, whole, half, theory_blocks, theory_whole, theory_half = self.edge_trials(self.write_inputs())
        for row in (whole, theory_whole, half, theory_half):
            self.assertEqual(row["log_kappa"], np.inf)
            self.assertEqual(row["log_bound_diagonal"], np.inf)
        self.assertLess(whole["epsilon"], 1e-6)  # nothing is left to the sample
        self.assertAlmostEqual(whole["mask_mass_min"], 1, places=5)
        self.assertLess(theory_whole["epsilon_diagonal"], 1e-5)  # D̃ is exact, the product is sampled all the same
        self.assertGreater(theory_whole["epsilon_product"], 0.1)
        self.assertEqual(half["mask_mass_min"], 0)
        self.assertTrue(np.isfinite(blocks["log_kappa"]) and np.isfinite(theory_blocks["log_bound_diagonal"]))


if __name__ == "__main__":
    unittest.main()
