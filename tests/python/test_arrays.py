"""Arrays in and out: shapes, types, strides, and what is refused."""

import unittest

import numpy as np
from cases import SMALL, arrays, exact

import hyperattn
from hyperattn.arrays import as_floats

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None


class Shapes(unittest.TestCase):
    def assert_exact(self, q, k, v, **options):
        result = hyperattn.attention(q, k, v, method="exact", **options)
        as_heads = [array.reshape((-1,) + array.shape[-2:]) for array in (q, k, v)]
        out, lse = exact(*as_heads, **options)
        self.assertEqual(result.out.shape, q.shape[:-1] + v.shape[-1:])
        self.assertEqual(result.lse.shape, q.shape[:-1])
        np.testing.assert_allclose(result.out, out.reshape(result.out.shape), atol=3e-6)
        np.testing.assert_allclose(result.lse, lse.reshape(result.lse.shape), atol=3e-6)

    def test_two_three_and_four_axes(self):
        for leading in ((), (3,), (2, 3)):
            self.assert_exact(*arrays(leading + (37, 8), leading + (53, 8), leading + (53, 5)))

    def test_grouped_queries(self):
        self.assert_exact(*arrays((6, 37, 8), (2, 53, 8), (2, 53, 5)))

    def test_causal_with_other_numbers_of_keys(self):
        self.assert_exact(*arrays((2, 37, 8), (2, 53, 8), (2, 53, 5)), causal=True)
        self.assert_exact(*arrays((1, 1, 8), (1, 53, 8), (1, 53, 5)), causal=True)

    def test_scale(self):
        self.assert_exact(*arrays((37, 8), (53, 8), (53, 5)), scale=0.7)

    def test_rows_before_the_first_key(self):
        result = hyperattn.attention(*arrays((5, 8), (3, 8), (3, 4)), method="exact", causal=True)
        np.testing.assert_array_equal(result.out[:2], 0)
        np.testing.assert_array_equal(result.lse[:2], -np.inf)

    def test_window(self):
        q, k, v = arrays((9, 8), (9, 8), (9, 4))
        result = hyperattn.attention(q, k, v, method="exact", causal=True, window=3)
        np.testing.assert_allclose(result.out[6], exact(q[None, 6:7], k[None, 4:7], v[None, 4:7])[0][0, 0], atol=3e-6)
        with self.assertRaisesRegex(hyperattn.UsageError, "window"):
            hyperattn.attention(q, k, v, causal=True, window=3)


class Types(unittest.TestCase):
    def assert_as_float32(self, dtype, view=None):
        given = [array.astype(dtype) for array in arrays((2, 64, 16), (2, 64, 16), (2, 64, 16))]
        seen = hyperattn.attention(*given, **SMALL)
        expected = hyperattn.attention(*(array.astype(np.float32) for array in given), **SMALL)
        self.assertEqual(seen.out.dtype, np.float32)
        np.testing.assert_array_equal(seen.out, expected.out)
        dout = given[0]
        for a, b in zip(seen.backward(dout), expected.backward(dout.astype(np.float32))):
            np.testing.assert_array_equal(a, b)

    def test_other_floats_are_converted(self):
        for dtype in (np.float16, np.float64, ">f4", ">f8"):
            with self.subTest(dtype):
                self.assert_as_float32(dtype)

    def test_precision(self):
        q, k, v = arrays((300, 64), (300, 64), (300, 64))
        single, half = (hyperattn.attention(q, k, v, method="exact", precision=name).out for name in ("fp32", "bf16"))
        difference = np.abs(half - single).max()
        self.assertGreater(difference, 1e-5)
        self.assertLess(difference, 2**-6)

    @unittest.skipIf(ml_dtypes is None, "ml_dtypes is not installed")
    def test_bfloat16(self):
        self.assert_as_float32(ml_dtypes.bfloat16)

    def test_types_may_differ(self):
        q, k, v = arrays((64, 16), (64, 16), (64, 16))
        mixed = hyperattn.attention(q.astype(np.float64), k, v, **SMALL)
        np.testing.assert_array_equal(mixed.out, hyperattn.attention(q, k, v, **SMALL).out)

    def test_lists(self):
        result = hyperattn.attention([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[1.0], [3.0]], method="exact", scale=0.0)
        np.testing.assert_array_equal(result.out, [[2.0]])

    def test_others_are_refused(self):
        q, k, v = arrays((4, 2), (4, 2), (4, 2))
        for wrong, words in (
            (q.astype(np.int64), "v must hold float16, bfloat16, float32 or float64, but holds int64"),
            (q.astype(complex), "v must hold .* but holds complex128"),
            (np.array([["a", "b"]] * 4), "v must hold .* but holds str"),
            ([[1.0, 2.0], [3.0]], "v "),
            (None, "v must hold .* but holds object"),
            (np.ma.masked_array(v, v > 0), "v is a masked array"),
        ):
            with self.subTest(words), self.assertRaisesRegex(hyperattn.InputError, words):
                hyperattn.attention(q, k, wrong)

    def test_numbers_beyond_float32(self):
        q, k, v = arrays((4, 2), (4, 2), (4, 2), dtype=np.float64)
        k[2, 1] = 1e39
        with self.assertRaisesRegex(hyperattn.InputError, "k holds a value beyond the range of float32"):
            hyperattn.attention(q, k, v)


class Memory(unittest.TestCase):
    def test_contiguous_floats_are_not_copied(self):
        array = arrays((2, 64, 16))[0]
        self.assertIs(as_floats("q", array), array)
        self.assertIs(as_floats("q", array[1:]).base, array)

    def test_strides_are_copied(self):
        rows_first = arrays((64, 2, 16), (64, 2, 16), (64, 2, 16))
        seen = hyperattn.attention(*(array.transpose(1, 0, 2) for array in rows_first), **SMALL)
        copied = hyperattn.attention(*(np.ascontiguousarray(array.transpose(1, 0, 2)) for array in rows_first), **SMALL)
        np.testing.assert_array_equal(seen.out, copied.out)
        q, k, v = arrays((64, 32), (128, 16), (64, 16))
        seen = hyperattn.attention(q[:, ::2], k[::-2], v, **SMALL)
        np.testing.assert_array_equal(seen.out, hyperattn.attention(q[:, ::2].copy(), k[::-2].copy(), v, **SMALL).out)

    def test_unaligned_memory_is_copied(self):
        q, k, v = arrays((64, 16), (64, 16), (64, 16))
        shifted = np.frombuffer(b"\0" + q.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(q.shape)
        self.assertFalse(shifted.flags.aligned)
        np.testing.assert_array_equal(hyperattn.attention(shifted, k, v, **SMALL).out, hyperattn.attention(q, k, v, **SMALL).out)

    def test_read_only_arrays_are_taken_and_results_are_such(self):
        q, k, v = arrays((64, 16), (64, 16), (64, 16))
        q.flags.writeable = False
        result = hyperattn.attention(q, k, v, **SMALL)
        with self.assertRaises(ValueError):
            result.out[0, 0] = 1

    def test_results_outlive_everything(self):
        out = hyperattn.attention(*arrays((64, 16), (64, 16), (64, 16)), method="exact").out
        expected = exact(*(array[None] for array in arrays((64, 16), (64, 16), (64, 16))))[0][0]
        np.testing.assert_allclose(out, expected, atol=3e-6)


class Refusals(unittest.TestCase):
    def assert_refused(self, error, words, *given, **options):
        with self.assertRaisesRegex(error, words) as caught:
            hyperattn.attention(*given, **options)
        self.assertIsInstance(caught.exception, ValueError)
        self.assertIsInstance(caught.exception, hyperattn.Error)

    def test_shapes(self):
        refused = lambda words, *shapes: self.assert_refused(hyperattn.InputError, words, *arrays(*shapes))
        refused(r"q must have 2, 3 or 4 axes, .* has the shape \(4,\)", (4,), (4,), (4,))
        refused(r"q must have 2, 3 or 4 axes", (1, 1, 1, 4, 2), (4, 2), (4, 2))
        refused(r"same number of axes, but q has the shape \(4, 2\) and v \(1, 4, 2\)", (4, 2), (4, 2), (1, 4, 2))
        refused("same head dimension", (4, 3), (4, 2), (4, 2))
        refused("same number of rows", (4, 2), (4, 2), (5, 2))
        refused("must not be empty", (0, 2), (4, 2), (4, 2))
        refused("multiple", (3, 4, 2), (2, 4, 2), (2, 4, 2))
        refused("between 1 and 256", (4, 257), (4, 257), (4, 2))

    def test_values_that_are_not_finite(self):
        for place in range(3):
            given = arrays((2, 9, 4), (2, 9, 4), (2, 9, 4))
            given[place][1, 3, 2] = np.nan if place else np.inf
            self.assert_refused(hyperattn.InputError, rf"{'qkv'[place]} holds a non-finite value .*\[0, 1, 3, 2\]", *given, **SMALL)

    def test_calls(self):
        given = arrays((64, 16), (64, 16), (64, 16))
        refused = lambda words, **options: self.assert_refused(hyperattn.UsageError, words, *given, **options)
        refused("no method 'hypr'; did you mean 'hyper'", method="hypr")
        refused("method must be text, but is 3", method=3)
        refused("no engine 'cpus'; did you mean 'cpu'", engine="cpus")
        refused("'lsh' cannot run on engine 'dense'", method="lsh", engine="dense")
        refused("'dense' is exact attention on engine 'dense'", method="dense", engine="cpu")
        refused("no setting 'sampel_size'; did you mean 'sample_size'", sampel_size=4)
        refused("sample_size must be an integer, but is 2.5", sample_size=2.5)
        refused("sample_size must be between 0 and 2147483647, but is -1", sample_size=-1)
        refused("bucket_count must be a power of two, but is 96", bucket_count=96)
        refused("band_width has effect only with mask: band, but mask is sort_lsh", band_width=3)
        refused("'exact' has no settings, but 'precision' is given", method="exact", engine="reference", precision="fp32")
        refused("precision of engine 'cpu' must be one of fp32, bf16, but is 'fp16'", method="exact", precision="fp16")
        refused("precision has effect only with engine: cpu or cuda, but engine is reference", engine="reference", precision="bf16")
        refused(r"levels must fall, .* but are \[16, 64\]", method="tree", levels=[16, 64], beams=[1, 1])
        refused("levels must be a list of integers, but is x", method="tree", levels="x")
        refused("setting 'sample_size' must be an integer, .* but is None", sample_size=None)
        refused("setting 'sample_size' is 1267650600228229401496703205376, which", sample_size=2**100)
        refused("seed must be an integer from 0 to 18446744073709551615, but is -1", seed=-1)
        refused("seed must be an integer", seed=1.5)
        refused("trial must be an integer from 0 to 4294967295", trial=2**32)
        refused("causal must be True or False, but is 'no'", causal="no")
        refused("scale must be a number, but is 'big'", scale="big")

    def test_scale_that_is_not_finite(self):
        self.assert_refused(hyperattn.InputError, "scale must be finite", *arrays((4, 2), (4, 2), (4, 2)), scale=np.nan)

    def test_dout(self):
        result = hyperattn.attention(*arrays((4, 2), (4, 2), (4, 3)), method="exact")
        with self.assertRaisesRegex(hyperattn.InputError, r"dout must have the shape of out, \(4, 3\), but has \(3, 4\)"):
            result.backward(np.zeros((3, 4)))
        with self.assertRaisesRegex(hyperattn.InputError, "dout holds a non-finite value"):
            result.backward(np.full((4, 3), np.nan))

    def test_a_method_without_a_gradient(self):
        result = hyperattn.attention(*arrays((4, 2), (4, 2), (4, 2)), method="dense")
        with self.assertRaisesRegex(hyperattn.UsageError, "'dense' has no"):
            result.backward(result.out)

    def test_numbers_of_numpy_are_settings(self):
        given = arrays((64, 16), (64, 16), (64, 16))
        plain = hyperattn.attention(*given, **SMALL, seed=3)
        numpys = hyperattn.attention(*given, **{name: np.int32(value) for name, value in SMALL.items()}, seed=np.uint8(3))
        np.testing.assert_array_equal(plain.out, numpys.out)


if __name__ == "__main__":
    unittest.main()
