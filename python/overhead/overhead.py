#!/usr/bin/env python3
"""What a call costs from Python beyond the same call from C++, at 1024 rows of 64; both in this process, in turn, and
each first in every other round, since a call finds memory as the one before it left it.

    cmake --build --preset release --target hyperattn_overhead
    OMP_NUM_THREADS=1 PYTHONPATH=build/release/python/overhead python3 python/overhead/overhead.py

Exit code 1 where the median of a method is over 50 µs. Give it a quiet machine.
"""

import ctypes
import sys
import time

import numpy as np

import hyperattn

ROWS, DIM, CALLS, LIMIT = 1024, 64, 1000, 50e-6


def c_call(arrays, approximate):
    function = ctypes.CDLL(hyperattn._core.__file__).seconds_of_call
    function.restype = ctypes.c_double
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
    return lambda: function(*pointers, ctypes.c_int64(ROWS), ctypes.c_int64(DIM), ctypes.c_int(approximate))


def python_call(arrays, method, settings):
    def seconds():
        start = time.perf_counter()
        result = hyperattn.attention(*arrays, method=method, **settings)
        del result
        return time.perf_counter() - start

    return seconds


def round_of(one, other, swapped):
    if not swapped:
        return one(), other()
    later = other()
    return one(), later


def main():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((ROWS, DIM), dtype=np.float32) for _ in "qkv"]
    over = False
    for method, settings in (("exact", {}), ("hyper", {"block_size": 128, "sample_size": 128})):
        calls = python_call(arrays, method, settings), c_call(arrays, method == "hyper")
        seconds = np.array([round_of(*calls, swapped=i % 2 == 1) for i in range(CALLS + 10)][10:])
        assert (seconds > 0).all()
        extra = np.median(seconds[:, 0] - seconds[:, 1])
        lowest = seconds.min(axis=0)
        print(
            f"{method:6} Python {np.median(seconds[:, 0]) * 1e6:8.1f} µs, C++ {np.median(seconds[:, 1]) * 1e6:8.1f} µs, "
            f"median difference {extra * 1e6:6.1f} µs, of the fastest {(lowest[0] - lowest[1]) * 1e6:6.1f} µs"
        )
        over = over or extra > LIMIT
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
