"""Grouped queries and causal problems of unequal lengths, through `attend` and through sweeps."""

import unittest

import h5py
import numpy as np
from cli_test import CliTest

SPARSE = ["bucket_count=8", "block_size=16", "min_seq_len=20"]
METHODS = [
    ["exact"],
    ["exact", "engine=reference"],
    ["dense"],
    ["lsh", *SPARSE],
    ["lsh", "mask=band", "band_width=5", "min_seq_len=20"],
    ["hyper", *SPARSE, "sample_size=24"],
    ["hyper", *SPARSE, "sample_size=24", "sampling=value_norm"],
    ["hyper", *SPARSE, "sample_size=24", "residual=calibrated_centroids", "query_blocks=by_bucket"],
    ["hyper", *SPARSE, "sample_size=24", "residual=moments"],
    ["hyper", *SPARSE, "sample_size=24", "residual=clt_sample", "base_sample=8"],
    ["tree", "levels=[16,4]", "beams=[2,3]", "min_seq_len=20"],
    ["coreset", "coreset_size=10", "min_seq_len=20"],
    ["thinned", "compress_g=0", "min_seq_len=20"],
    ["thinned", "streaming=true", "stream_block=8", "cache_size=12"],
]
WITHOUT_GRADIENT = ("dense", "residual=moments", "tree", "coreset")
MEASURES = "[spectral_error, diagonal_error, product_error, alpha, kappa, mask_mass, bound]"


def attention(q, k, v, causal):
    """(out, lse) in double: row i sees the keys up to i + n_k - n_q."""
    group = q.shape[1] // k.shape[1]
    k, v = (np.repeat(part.astype("f8"), group, 1) for part in (k, v))
    scores = q.astype("f8") @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    rows, keys = scores.shape[-2:]
    if causal:
        scores = np.where(np.arange(keys) <= np.arange(rows)[:, None] + keys - rows, scores, -np.inf)
    largest = np.maximum(scores.max(-1, keepdims=True), -1e30)
    weights = np.exp(scores - largest)
    total = weights.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return weights @ v / np.maximum(total, 1e-300), (largest + np.log(total))[..., 0]


class ProblemForms(CliTest):
    def write(self, name, rows, keys, heads=6, kv_heads=2, seed=1):
        random = np.random.default_rng(seed)
        shapes = {"q": (2, heads, rows, 16), "k": (2, kv_heads, keys, 16), "v": (2, kv_heads, keys, 9), "dout": (2, heads, rows, 9)}
        tensors = {part: random.standard_normal(shape).astype("f4") for part, shape in shapes.items()}
        self.write_tensors(name, **tensors)
        return tensors

    def write_tensors(self, name, **tensors):
        with h5py.File(self.path(name), "w") as file:
            for part, values in tensors.items():
                file[f"inputs/{part}"] = values

    def attend(self, name, method, causal, *more):
        arguments = [a for a in method[1:] if causal or not a.startswith("min_seq_len")]
        outcome = self.call("attend", name, "-o", "out.h5", f"backend={method[0]}", *arguments, f"causal={str(causal).lower()}",
                            "--force", *more)
        self.assert_outcome(outcome, 0)
        with h5py.File(self.path("out.h5")) as file:
            return {part: file[part][()] for part in file}

    def test_attend_answers_grouped_queries_as_repeated_keys(self):
        for rows, keys in ((97, 97), (61, 150)):
            tensors = self.write("grouped.h5", rows, keys)
            repeated = {part: np.repeat(tensors[part], 3, 1) for part in "kv"}
            self.write_tensors("repeated.h5", **{**tensors, **repeated})
            for causal in (False, True):
                for method in METHODS:
                    backward = [] if set(method) & set(WITHOUT_GRADIENT) else ["--backward"]
                    with self.subTest(rows=rows, keys=keys, causal=causal, method=method):
                        seen = self.attend("grouped.h5", method, causal, *backward)
                        expected = self.attend("repeated.h5", method, causal, *backward)
                        np.testing.assert_allclose(seen["out"], expected["out"], atol=1e-5)
                        np.testing.assert_allclose(seen["lse"], expected["lse"], atol=1e-5)
                        if backward:
                            np.testing.assert_allclose(seen["dq"], expected["dq"], atol=1e-4)
                            for part in ("dk", "dv"):
                                whole = expected[part].reshape(2, 2, 3, *expected[part].shape[2:]).sum(2)
                                np.testing.assert_allclose(seen[part], whole, atol=3e-4)

    def test_attend_answers_exactly_for_any_lengths_and_groups(self):
        for rows, keys, heads, kv_heads in ((1, 97, 6, 1), (97, 1, 4, 4), (150, 61, 6, 3), (61, 150, 4, 2)):
            tensors = self.write("in.h5", rows, keys, heads, kv_heads)
            for causal in (False, True):
                out, lse = attention(*(tensors[part] for part in "qkv"), causal)
                for method in (["exact"], ["dense"], ["reference"]):
                    with self.subTest(rows=rows, keys=keys, causal=causal, method=method):
                        seen = self.attend("in.h5", method, causal)
                        np.testing.assert_allclose(seen["out"], out, atol=1e-5)
                        np.testing.assert_allclose(seen["lse"], lse, atol=1e-5)

    def test_rows_before_key_0_give_nothing_and_have_no_gradient(self):
        self.write("in.h5", 150, 61)
        for method in METHODS:
            backward = [] if set(method) & set(WITHOUT_GRADIENT) else ["--backward"]
            with self.subTest(method):
                seen = self.attend("in.h5", method, True, *backward)
                self.assertTrue((seen["out"][:, :, :89] == 0).all() and (seen["out"][:, :, 89:] != 0).any())
                self.assertTrue((seen["lse"][:, :, :89] == -np.inf).all() and np.isfinite(seen["lse"][:, :, 89:]).all())
                if backward:
                    self.assertTrue((seen["dq"][:, :, :89] == 0).all())

    def test_last_rows_of_an_autoregressive_square_problem_keep_their_bits(self):
        tensors = self.write("square.h5", 150, 150)
        self.write_tensors("last.h5", **{**tensors, "q": tensors["q"][:, :, 101:]})
        for method in (["exact"], METHODS[4], ["hyper", *SPARSE, "sample_size=24", "query_blocks=by_bucket"]):
            with self.subTest(method):
                square = self.attend("square.h5", method, True)
                np.testing.assert_array_equal(self.attend("last.h5", method, True)["out"], square["out"][:, :, 101:])

    def sweep(self, source, backends="[exact, {name: hyper, bucket_count: 4, block_size: 16, sample_size: 8, min_seq_len: 20}]"):
        self.config(f"timing: {{warmup: 0, repeats: 1}}\ninputs: {source}\nbackends: {backends}\nmeasures: {MEASURES}\n")
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5", "--force"), 0)
        with h5py.File(self.path("r.h5")) as file:
            return file["trials"][()]

    def assert_same_figures(self, seen, expected, skip=()):
        for name in seen.dtype.names:
            if seen[name].dtype.kind == "f" and "seconds" not in name and name not in ("speedup", "gflops", *skip):
                np.testing.assert_allclose(seen[name], expected[name], rtol=1e-3, atol=1e-6, err_msg=name)

    def test_measures_see_grouped_queries_as_repeated_keys(self):
        tensors = self.write("grouped.h5", 61, 150)
        self.write_tensors("repeated.h5", **{**tensors, **{part: np.repeat(tensors[part], 3, 1) for part in "kv"}})
        seen, expected = (self.sweep(f"{{source: file, path: {name}.h5, causal: true}}") for name in ("grouped", "repeated"))
        self.assertEqual([seen["kv_heads"].tolist(), expected["kv_heads"].tolist()], [[2, 2], [-1, -1]])
        self.assert_same_figures(seen, expected)

    def test_measures_leave_out_rows_that_see_no_key(self):
        tensors = self.write("long.h5", 150, 61)
        self.write_tensors("square.h5", **{**tensors, "q": tensors["q"][:, :, 89:]})
        seen, expected = (self.sweep(f"{{source: file, path: {name}.h5, causal: true}}") for name in ("long", "square"))
        self.assertEqual(set(seen["norm_status"]), {b"converged"})
        self.assertTrue(np.isfinite(seen["mask_mass_mean"][1]) and np.isfinite(seen["srank_softmax"]).all())
        by_rows = ("alpha", "alpha_node", "log_bound_diagonal")  # alpha divides by n_q
        self.assert_same_figures(seen[:1], expected[:1], by_rows)
        np.testing.assert_allclose(seen["alpha"] * 150, expected["alpha"] * 61, rtol=1e-5)

    def test_made_inputs_are_grouped_by_kv_heads(self):
        for source in ("gaussian", "clustered", "conditioned, condition_number: 50, key_len: 80", "gaussian, spectrum: 9"):
            with self.subTest(source):
                trials = self.sweep(f"{{source: {source}, heads: 6, kv_heads: 3, seq_len: 64, head_dim: 16}}", "[exact, lsh]")
                self.assertEqual(trials["heads"].tolist(), [6, 6])
                self.assertEqual(trials["kv_heads"].tolist(), [3, 3])
                if "conditioned" in source:
                    np.testing.assert_allclose(trials["log_kappa_empty"], np.log(50), rtol=1e-3)

    def test_an_axis_of_kv_heads_tells_cases_apart(self):
        self.config("timing: {warmup: 0, repeats: 1, pass: forward_backward}\n"
                    "inputs: {source: gaussian, heads: 6, head_dim: 8, seq_len: 50, causal: true}\nbackends: exact\n"
                    "sweep: {kv_heads: [1, 2, 6], key_len: [50, 70, 30], where: kv_heads * 2 < heads or key_len == 50}\n"
                    "measures: [spectral_error]\n")
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5"), 0)
        shown = self.call("show", "r.h5").stdout
        rows = [line for line in shown.splitlines() if line.startswith("exact")]
        self.assertEqual(len(rows), 7, shown)
        self.assertIn("kv_heads", shown)

    def test_heads_that_do_not_fit_are_refused(self):
        self.config("inputs: {source: clustered, heads: 6, kv_heads: 4, seq_len: 32}\nbackends: exact\nmeasures: [timing]\n")
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5"), 2, "heads must be a multiple of kv_heads", "6", "4")
        self.config("inputs: {source: clustered, heads: 2, kv_heads: 4, seq_len: 32}\nbackends: exact\nmeasures: [timing]\n")
        self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5"), 2, "heads must be a multiple of kv_heads")
        for heads, kv_heads in ((6, 4), (2, 4)):
            self.write("in.h5", 16, 16, heads, kv_heads)
            self.assert_outcome(self.call("attend", "in.h5", "-o", "o.h5", "backend=exact"), 3, "in.h5", f"(2, {kv_heads}, 16, 16)")
            self.config("inputs: {source: file, path: in.h5}\nbackends: exact\nmeasures: [timing]\n")
            self.assert_outcome(self.call("run", "sweep.yaml", "-o", "r.h5"), 3, "in.h5", f"(2, {kv_heads}, 16, 16)")


if __name__ == "__main__":
    unittest.main()
