#!/usr/bin/env python3
"""Writes tests/experiments/files/hdf5_files/: small HDF5 files that our own writer cannot make (half precision, big-endian,
hostile). They are committed, so that the tests and the fuzz targets need no Python; run this to change them."""
import pathlib
import shutil

import h5py
import numpy as np

FOLDER = pathlib.Path(__file__).parent / "hdf5_files"


def new_file(name):
    return h5py.File(FOLDER / name, "w")


def ramp(kind):
    """(2, 1, 5, 3), values exact in half precision, some negative: (index - 7) / 4."""
    return ((np.arange(30) - 7) / 4).reshape(2, 1, 5, 3).astype(kind)


def number_types():
    with new_file("number_types.h5") as f:
        for kind in ["f2", "f4", "f8"]:
            f[f"little/{kind}"] = ramp("<" + kind)
            f[f"big/{kind}"] = ramp(">" + kind)
        for kind in ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]:
            f[f"integers/{kind}"] = np.arange(6).astype(kind).reshape(2, 3)
        f["integers/beyond"] = np.array([1, 2**63 + 5], dtype="u8")
        f["half_extremes"] = np.array([65504, -65504, 2**-24, np.inf, -np.inf, np.nan], "f2").reshape(1, 1, 6, 1)
        f.create_dataset("chunked", data=ramp("f4"), chunks=(1, 1, 2, 3), compression="gzip", shuffle=True)
        f.create_dataset("growing", data=ramp("f4"), maxshape=(None, 1, None, 3))


def attributes():
    with new_file("attributes.h5") as f:
        f.attrs["integer"] = 7
        f.attrs["unsigned"] = np.uint8(200)
        f.attrs["number"] = 0.125
        f.attrs["half"] = np.float16(1.5)
        f.attrs["yes"] = True
        f.attrs["no"] = np.bool_(False)
        f.attrs["text"] = "gray"
        f.attrs["fixed"] = np.bytes_("fixed")
        f.attrs["unicode"] = "κ ≥ 1"
        f.attrs["empty"] = ""
        f.attrs["list"] = [1, 2, 3]
        f.attrs["one_element"] = np.array([5])
        f.attrs["complex"] = 1 + 2j
        f.attrs["null"] = h5py.Empty("f8")
        f["text/variable"] = "first line\nsecond line\n"
        f["text/fixed"] = np.bytes_("fixed text")
        f["text/several"] = ["a", "b"]
        f["group/member"] = 1


def hostile():
    with new_file("hostile.h5") as f:
        f["rank3"] = np.zeros((2, 3, 4), "f4")
        f["zero"] = np.zeros((1, 1, 0, 4), "f4")
        f["scalar"] = 1.0
        f["complex"] = np.zeros((1, 1, 2, 2), "c8")
        f["texts"] = ["a", "b"]
        f["booleans"] = np.zeros((1, 1, 2, 2), "?")
        f["null"] = h5py.Empty("f4")
        f["long_double"] = np.zeros((1, 1, 2, 2), np.longdouble)
        f.create_dataset("huge", (2**20, 2**10, 2**20, 2**10), "f4", chunks=(1, 1, 16, 16))
        f.create_dataset("uncountable", (2**40, 2**40, 1, 1), "f4", chunks=(1, 1, 1, 1))
        f.create_dataset("never_written", (1, 1, 2**20, 1024), "f4", chunks=(1, 1, 1024, 64))
        f.create_dataset("far_chunks", (1, 1, 4, 4), "f4", chunks=(1, 1, 2**14, 2**14), maxshape=(1, 1, None, None))
        odd = h5py.h5t.IEEE_F32LE.copy()
        odd.set_fields(31, 20, 11, 0, 20)
        odd.set_ebias(1023)
        h5py.h5d.create(f.id, b"odd_float", odd, h5py.h5s.create_simple((1, 1, 2, 2)))
        f.create_dataset("external", (1, 1, 2, 2), "f4", external=[("hostile_values.bin", 0, 16)])
        layout = h5py.VirtualLayout((1, 1, 2, 2), "f4")
        layout[:] = h5py.VirtualSource("number_types.h5", "x", (1, 1, 2, 2))
        f.create_virtual_dataset("virtual", layout)
        f["link_outside"] = h5py.ExternalLink("number_types.h5", "/little/f4")
        f["soft"] = h5py.SoftLink("/rank3")
        f["soft_outside"] = h5py.SoftLink("/link_outside")
        f["dangling"] = h5py.SoftLink("/nowhere")
        f["loop"] = h5py.SoftLink("/loop")


def tables():
    with new_file("tables.h5") as f:
        row = np.dtype([("id", "S4"), ("n", "<i4"), ("x", ">f8"), ("h", "f2"), ("u", "u8")])
        f["table"] = np.array([(b"ab", -1, 0.5, 2, 3), (b"abcd", 7, np.nan, -1, 4)], row)
        f["empty"] = np.zeros(0, row)
        f["two_dimensional"] = np.zeros((2, 2), row)
        f["variable_text"] = np.array([("a", 1)], [("t", h5py.string_dtype()), ("n", "i4")])
        f["nested"] = np.zeros(2, [("inner", [("a", "i4")]), ("n", "i4")])
        f["array_member"] = np.zeros(2, [("v", "f4", (3,)), ("n", "i4")])
        f.create_dataset("huge", (2**50,), row, chunks=(16,))


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    number_types()
    attributes()
    hostile()
    tables()
    (FOLDER / "hostile_values.bin").write_bytes(bytes(16))
    (FOLDER / "not_hdf5.h5").write_text("This is a text file.\n")
    whole = (FOLDER / "tables.h5").read_bytes()
    (FOLDER / "truncated.h5").write_bytes(whole[: len(whole) // 2])
