"""Tensors as other programs leave them in HDF5: bfloat16 in its three forms, values never written, unknown filters."""

import unittest

import h5py
import numpy as np
from cli_test import CliTest


def round_to_bfloat16(values):
    """The bits of the nearest bfloat16, ties to even, by integer arithmetic on those of the float32."""
    bits = np.ascontiguousarray(values, "<f4").view("<u4").astype("u8")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def from_bfloat16(bits):
    return (bits.astype("<u4") << 16).view("<f4")


def float_type(order):
    """A float of 16 bits with 8 of exponent and 7 of mantissa."""
    made = h5py.h5t.IEEE_F32LE.copy()
    made.set_fields(15, 7, 8, 0, 7)
    made.set_size(2)
    made.set_ebias(127)
    made.set_order(order)
    return made


def write_bits(file, name, bits, form):
    if form == "opaque":  # what h5py makes of an ml_dtypes.bfloat16 array
        file[name] = bits.view("V2")
    elif form == "uint16":
        file[name] = bits
        file[name].attrs["dtype"] = "bfloat16"
    else:
        made = float_type(h5py.h5t.ORDER_BE if form == "big-endian" else h5py.h5t.ORDER_LE)
        group = file.require_group(name.rsplit("/", 1)[0])
        data = h5py.h5d.create(group.id, name.rsplit("/", 1)[1].encode(), made, h5py.h5s.create_simple(bits.shape))
        stored = bits.byteswap() if form == "big-endian" else bits
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(stored), made)


def read_bits(data, form):
    if form == "opaque":
        return data[()].view("<u2")
    if form == "uint16":
        return data[()]
    assert data.id.get_type().equal(float_type(h5py.h5t.ORDER_LE))
    return round_to_bfloat16(data[()])  # exact: h5py gives the value as a float32


def attention(q, k, v):
    scores = q.astype("f8") @ k.astype("f8").swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v.astype("f8")


class Bfloat16(CliTest):
    FORMS = ("opaque", "uint16", "little-endian", "big-endian")

    def setUp(self):
        super().setUp()
        random = np.random.default_rng(1)
        self.bits = {part: round_to_bfloat16(random.standard_normal((1, 2, 37, 16)) * 2) for part in "qkv"}
        self.values = {part: from_bfloat16(bits) for part, bits in self.bits.items()}

    def write(self, form):
        path = self.path("in.h5")
        with h5py.File(path, "w") as file:
            for part, bits in self.bits.items():
                write_bits(file, f"inputs/{part}", bits, form)
        return path

    def test_each_form_is_read(self):
        expected = attention(*(self.values[part] for part in "qkv"))
        for form in self.FORMS:
            with self.subTest(form):
                self.assert_outcome(self.call("attend", self.write(form), "-o", "out.h5", "backend=exact", "--force"), 0)
                with h5py.File(self.path("out.h5")) as file:
                    self.assertEqual(file["out"].dtype, np.float32)
                    np.testing.assert_allclose(file["out"][()], expected, atol=2e-6)

    def test_each_form_is_written_back(self):
        call = ["attend", "in.h5", "-o", "out.h5", "backend=exact", "--force", "--backward"]
        for form in self.FORMS:
            with self.subTest(form):
                with h5py.File(self.write(form), "r+") as file:
                    file["inputs/dout"] = self.values["v"]
                self.assert_outcome(self.call(*call), 0)
                with h5py.File(self.path("out.h5")) as file:
                    expected = {name: round_to_bfloat16(file[name][()]) for name in ("out", "dq", "dk", "dv")}
                    lse = file["lse"][()]
                self.assert_outcome(self.call(*call, "--keep-type"), 0)
                with h5py.File(self.path("out.h5")) as file:
                    np.testing.assert_array_equal(file["lse"][()], lse)
                    for name, bits in expected.items():
                        np.testing.assert_array_equal(read_bits(file[name], form), bits, name)

    def test_a_run_reads_rows_of_it(self):
        config = self.config("inputs: {source: file, path: in.h5, key_rows: [5, 30], query_rows: [2, 9]}\n"
                             "backends: [exact]\nmeasures: []\n")
        for form in self.FORMS:
            self.write(form)
            self.assert_outcome(self.call("run", config, "-o", "run.h5", "--force"), 0)

    def test_other_types_are_kept_and_what_they_cannot_hold_refused(self):
        for dtype in ("f2", "f4", "f8"):
            with self.subTest(dtype):
                path = self.write_inputs(**{part: values.astype(dtype) for part, values in self.values.items()})
                self.assert_outcome(self.call("attend", path, "-o", "a.h5", "backend=exact", "--force"), 0)
                self.assert_outcome(self.call("attend", path, "-o", "b.h5", "backend=exact", "--force", "--keep-type"), 0)
                with h5py.File(self.path("a.h5")) as plain, h5py.File(self.path("b.h5")) as kept:
                    self.assertEqual(kept["out"].dtype, np.dtype(dtype))
                    np.testing.assert_array_equal(kept["out"][()], plain["out"][()].astype(dtype))
        self.write_inputs(q=np.ones((1, 1, 4, 8), "i4"), k=np.ones((1, 1, 4, 8), "f4"), v=np.ones((1, 1, 4, 8), "f4"))
        self.assert_outcome(self.call("attend", "in.h5", "-o", "c.h5", "backend=exact", "--keep-type"), 2, "--keep-type", "/inputs/q", "int32")
        one_key = {part: np.ones((1, 1, 1, 8), "f2") for part in "kv"}  # whose gradient is the sum over the queries
        self.write_inputs(q=np.ones((1, 1, 4, 8), "f2"), **one_key, dout=np.full((1, 1, 4, 8), 6e4, "f2"))
        outcome = self.call("attend", "in.h5", "-o", "c.h5", "backend=exact", "--keep-type", "--backward")
        self.assert_outcome(outcome, 2, "'/dv' holds 240000", "beyond float16", "float32")
        self.assertFalse(self.path("c.h5").exists())

    def test_bits_that_say_nothing_are_refused(self):
        with h5py.File(self.write("opaque"), "r+") as file:
            del file["inputs/q"]
            made = h5py.h5t.create(h5py.h5t.OPAQUE, 2)
            made.set_tag(b"two bytes of mine")
            data = h5py.h5d.create(file["inputs"].id, b"q", made, h5py.h5s.create_simple((1, 2, 37, 16)))
            data.write(h5py.h5s.ALL, h5py.h5s.ALL, self.bits["q"], made)
        self.assert_outcome(self.call("attend", "in.h5", "-o", "c.h5", "backend=exact"), 3, "/inputs/q", "must hold float16, bfloat16")


class Unwritten(CliTest):
    """What was never written reads as zeros; a result of zeros looks like one."""

    def refused(self, *words, arguments=("backend=exact",)):
        self.assert_outcome(self.call("attend", "in.h5", "-o", "out.h5", *arguments), 3, "in.h5" if "mask" not in words[0] else "mask.h5", *words)
        self.assertFalse(self.path("out.h5").exists())

    def replace(self, name, path="in.h5", **options):
        """A dataset of the same shape and type, into which nothing is written."""
        with h5py.File(self.path(path), "r+") as file:
            shape, dtype = file[name].shape, file[name].dtype
            del file[name]
            file.create_dataset(name, shape, dtype, **options)

    def test_never_written(self):
        for part in "qkv":
            for options in ({}, {"chunks": (1, 1, 16, 16)}, {"chunks": True, "compression": "gzip"}):
                with self.subTest(part=part, options=options):
                    self.write_inputs()
                    self.replace(f"inputs/{part}", **options)
                    self.refused(f"/inputs/{part}", "written")

    def test_partly_written(self):
        self.write_inputs()
        self.replace("inputs/v", chunks=(1, 1, 10, 16))
        with h5py.File(self.path("in.h5"), "r+") as file:
            file["inputs/v"][:, :, :60] = 1
        self.refused("/inputs/v", "only 12 of its 14 chunks")
        with h5py.File(self.path("in.h5"), "r+") as file:
            file["inputs/v"][:, :, 60:] = 1
        self.assert_outcome(self.call("attend", "in.h5", "-o", "out.h5", "backend=exact"), 0)

    def test_a_fill_value_of_the_writers_own_is_a_value(self):
        self.write_inputs()
        self.replace("inputs/v", chunks=(1, 1, 10, 16), fillvalue=0.5)
        self.assert_outcome(self.call("attend", "in.h5", "-o", "out.h5", "backend=exact"), 0)
        with h5py.File(self.path("out.h5")) as file:
            np.testing.assert_allclose(file["out"][()], 0.5, rtol=1e-6)

    def test_masks_and_other_readers(self):
        self.write_inputs()
        self.write_mask(blocks=[[0, 64, 0, 64]])
        self.replace("mask/blocks", "mask.h5")
        self.refused("/mask/blocks", "written", arguments=("backend=lsh", "mask=file", "mask_path=mask.h5"))
        config = self.config("inputs: {source: file, path: in.h5}\nbackends: [exact]\nmeasures: [timing]\n")
        self.replace("inputs/k")
        self.assert_outcome(self.call("run", config, "-o", "out.h5"), 3, "/inputs/k", "written")
        self.write_inputs()
        self.assert_outcome(self.call("run", config, "-o", "out.h5"), 0)
        self.replace("trials", "out.h5")
        self.assert_outcome(self.call("show", "out.h5"), 3, "/trials", "written")


class Filters(CliTest):
    def test_a_filter_that_is_missing_is_named(self):
        self.write_inputs()
        with h5py.File(self.path("in.h5"), "r+") as file:
            values = file["inputs/k"][()]
            del file["inputs/k"]
            file.create_dataset("inputs/k", data=values, chunks=(1, 1, 16, 16), compression="lzf")
        self.assert_outcome(self.call("attend", "in.h5", "-o", "out.h5", "backend=exact"), 3, "/inputs/k", "'lzf' (number 32000)", "gzip")

    def test_one_that_only_its_number_names(self):
        """A dataset that says it went through zstd, which no library here has: nothing can be written to it, so its fill value stands."""
        self.write_inputs()
        with h5py.File(self.path("in.h5"), "r+") as file:
            del file["inputs/q"]
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((1, 1, 16, 16))
            properties.set_fill_value(np.array(1, "f4"))
            try:
                properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
                h5py.h5d.create(file["inputs"].id, b"q", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((1, 2, 64, 16)), properties)
            except (ValueError, OSError) as error:
                self.skipTest(f"this HDF5 library does not let one write such a file: {error}")
        self.assert_outcome(self.call("attend", "in.h5", "-o", "out.h5", "backend=exact"), 3, "/inputs/q", "'zstd' (number 32015)")

    def test_gzip_shuffle_and_checksums_are_read(self):
        random = np.random.default_rng(3)
        tensors = {part: random.standard_normal((1, 2, 64, 16)).astype("f4") for part in "qkv"}
        with h5py.File(self.path("in.h5"), "w") as file:
            for part, values in tensors.items():
                file.create_dataset(f"inputs/{part}", data=values, compression="gzip", shuffle=True, fletcher32=True)
        self.assert_outcome(self.call("attend", "in.h5", "-o", "out.h5", "backend=exact"), 0)


if __name__ == "__main__":
    unittest.main()
