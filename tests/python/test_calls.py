"""Calls: the same bits as the program's, gradients, threads, signals and forks."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from pathlib import Path

import h5py
import numpy as np
from cases import FIXED_PLAN, SMALL, arrays

import hyperattn

PROGRAM = os.environ["HYPERATTN"]

CALLS = [
    ("exact", {}),
    ("dense", {}),
    ("reference", {}),
    ("lsh", {"block_size": 16, "bucket_count": 4}),
    ("hyper", SMALL),
    ("hyper", {**SMALL, "residual": "centroids", "centre_keys": True}),
    ("hyper", {**SMALL, "residual": "moments"}),
    ("tree", {"levels": [32, 8], "beams": [2, 3]}),
    ("tree", {"levels": [32, 8], "beams": [2, 3], "tail": "plain"}),
    ("coreset", {"coreset_size": 20}),
    ("thinned", {"streaming": True, "stream_block": 16, "cache_size": 32}),
    ("thinned", {"compress_g": 1}),
]


class Changing:
    """A number that is another one in the next call, and yet the same object."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __float__(self):
        return float(self.value)


class Remembered(unittest.TestCase):
    """Calls with the same arguments are checked once; others must not pass for them."""

    def test_objects_that_change(self):
        q, k, v = arrays((2, 40, 16), (2, 40, 16), (2, 40, 8))
        for name, first, second in (("seed", 1, 2), ("trial", 1, 2), ("scale", 1, 2)):
            number = Changing(first)
            before = hyperattn.attention(q, k, v, **{name: number}, **SMALL).out
            number.value = second
            after = hyperattn.attention(q, k, v, **{name: number}, **SMALL).out
            self.assertFalse(np.array_equal(before, after), name)
            np.testing.assert_array_equal(after, hyperattn.attention(q, k, v, **{name: second}, **SMALL).out)

    def test_equal_values_of_other_types(self):
        q, k, v = arrays((2, 40, 16), (2, 40, 16), (2, 40, 8))
        hyperattn.attention(q, k, v, causal=True, seed=1, min_seq_len=32, **SMALL)
        with self.assertRaisesRegex(hyperattn.UsageError, "causal must be True or False, but is 1"):
            hyperattn.attention(q, k, v, causal=1, seed=1, min_seq_len=32, **SMALL)
        with self.assertRaisesRegex(hyperattn.UsageError, "seed must be an integer"):
            hyperattn.attention(q, k, v, causal=True, seed=True, min_seq_len=32, **SMALL)
        hyperattn.attention(q, k, v, **{**SMALL, "sample_size": 8})
        with self.assertRaisesRegex(hyperattn.UsageError, "sample_size"):
            hyperattn.attention(q, k, v, **{**SMALL, "sample_size": 8.5})


class Bits(unittest.TestCase):
    def attended(self, given, method, settings, causal, backward):
        """What the program writes for the same call."""
        with tempfile.TemporaryDirectory() as folder:
            with h5py.File(Path(folder, "in.h5"), "w") as file:
                for name, array in given.items():
                    file[f"inputs/{name}"] = array
            words = [f"{name}={str(value).lower()}" for name, value in settings.items()]
            command = [PROGRAM, "attend", "in.h5", "-o", "out.h5", f"backend={method}", f"causal={str(causal).lower()}",
                       "seed=7", "trial=2", *words, *["--backward"] * backward]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            with h5py.File(Path(folder, "out.h5")) as file:
                return {name: file[name][()] for name in file if isinstance(file[name], h5py.Dataset)}

    def test_those_of_the_program(self):
        q, k, v, dout = arrays((2, 4, 157, 16), (2, 2, 157, 16), (2, 2, 157, 9), (2, 4, 157, 9))
        without = hyperattn.methods().query("not gradient").index
        for method, settings in CALLS:
            for causal in (False, True):
                with self.subTest(method=method, settings=settings, causal=causal):
                    recursive = "min_seq_len" in hyperattn.describe(method).index and not settings.get("streaming")
                    options = {**settings, "min_seq_len": 32} if causal and recursive else settings
                    backward = method not in without and options.get("residual") != "moments"
                    written = self.attended({"q": q, "k": k, "v": v, "dout": dout}, method, options, causal, backward)
                    result = hyperattn.attention(q, k, v, method, causal, 7, trial=2, **options)
                    np.testing.assert_array_equal(result.out, written["out"])
                    np.testing.assert_array_equal(result.lse, written["lse"])
                    if backward:
                        for name, gradient in zip(("dq", "dk", "dv"), result.backward(dout)):
                            np.testing.assert_array_equal(gradient, written[name])

    def test_equal_for_any_number_of_threads(self):
        script = "import hyperattn, sys; from cases import *; sys.stdout.buffer.write(hyperattn.attention(*arrays((3, 300, 16), (3, 300, 16), (3, 300, 16)), **SMALL).out.tobytes())"
        seen = {
            subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": threads}, stdout=subprocess.PIPE, check=True).stdout
            for threads in ("1", "3")
        }
        self.assertEqual(len(seen), 1)

    def test_seed_and_trial_choose_the_random_numbers(self):
        given = arrays((157, 16), (157, 16), (157, 16))
        outs = [hyperattn.attention(*given, seed=seed, trial=trial, **SMALL).out for seed, trial in ((0, 0), (0, 0), (1, 0), (0, 1))]
        np.testing.assert_array_equal(outs[0], outs[1])
        self.assertFalse(np.array_equal(outs[0], outs[2]))
        self.assertFalse(np.array_equal(outs[0], outs[3]))


class Gradients(unittest.TestCase):
    def test_finite_differences_of_the_reference(self):
        """Along random directions; out is rounded to float32, so a step of 1e-2 leaves some 1e-4."""
        shapes = (4, 61, 8), (2, 83, 8), (2, 83, 5)
        for method, settings in (("exact", {}), ("hyper", FIXED_PLAN)):
            for causal in (False, True):
                options = dict(settings, causal=causal, engine="reference")
                given, step = arrays(*shapes), 1e-2
                dout, *directions = arrays((4, 61, 5), *shapes, seed=2)
                result = hyperattn.attention(*given, method, **options)
                for place, gradient in enumerate(result.backward(dout)):
                    with self.subTest(method=method, causal=causal, of="qkv"[place]):
                        moved = []
                        for sign in (1, -1):
                            there = list(given)
                            there[place] = given[place] + np.float32(sign * step) * directions[place]
                            out = hyperattn.attention(*there, method, **options).out.astype(np.float64)
                            moved.append((out * dout).sum())
                        expected = (moved[0] - moved[1]) / (2 * step)
                        seen = (gradient.astype(np.float64) * directions[place]).sum()
                        scale = np.linalg.norm(gradient.astype(np.float64) * directions[place])
                        self.assertLess(abs(seen - expected), 2e-3 * scale, (seen, expected))

    def test_engines_agree(self):
        given = arrays((4, 61, 8), (2, 83, 8), (2, 83, 5))
        fast, slow = (hyperattn.attention(*given, engine=engine, **FIXED_PLAN) for engine in ("cpu", "reference"))
        np.testing.assert_allclose(fast.out, slow.out, atol=3e-6)
        for a, b in zip(fast.backward(fast.out), slow.backward(fast.out)):
            np.testing.assert_allclose(a, b, atol=1e-5)


class Threads(unittest.TestCase):
    def test_two_at_once(self):
        given = [arrays((2, 301, 16), (2, 301, 16), (2, 301, 16), seed=seed) for seed in (1, 2)]
        expected = [hyperattn.attention(*one, **SMALL) for one in given]
        failures = []

        def work(which):
            for _ in range(30):
                seen = hyperattn.attention(*given[which], **SMALL)
                same = np.array_equal(seen.out, expected[which].out)
                gradients = seen.backward(seen.out), expected[which].backward(seen.out)
                if not same or not all(np.array_equal(a, b) for a, b in zip(*gradients)):
                    failures.append(which)

        threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_others_run_meanwhile(self):
        """With the GIL held, this thread would wake up once."""
        given = arrays((1200, 64), (1200, 64), (1200, 64))
        thread = threading.Thread(target=hyperattn.attention, args=(*given, "reference"))
        wakes = 0
        thread.start()
        while thread.is_alive():
            time.sleep(0.002)
            wakes += 1
        self.assertGreater(wakes, 5)


LONG_CALL = """
    import os, signal, sys, threading, time
    import numpy as np
    import hyperattn
    from cases import arrays
    long = arrays((30000, 64), (30000, 64), (30000, 64))
    def interrupt_soon():
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
"""


class Signals(unittest.TestCase):
    def run_script(self, text):
        script = textwrap.dedent(LONG_CALL) + textwrap.dedent(text)
        done = subprocess.run([sys.executable, "-c", script], text=True, capture_output=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_ctrl_c_ends_a_long_call(self):
        said = self.run_script("""
            interrupt_soon()
            start = time.monotonic()
            try:
                hyperattn.attention(*long, method="reference")
            except KeyboardInterrupt:
                print(f"interrupted after {time.monotonic() - start:.1f} s")
            small = [array[:64] for array in long]
            print(hyperattn.attention(*small, sample_size=8).out.shape)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                print("Python's own handler is back")
        """)
        self.assertRegex(said, r"interrupted after [0-5]\.\d s\n\(64, 64\)\nPython's own handler is back")

    def test_ctrl_c_ends_a_gradient_and_a_measurement(self):
        said = self.run_script("""
            result = hyperattn.attention(*long, method="exact")
            for work in (lambda: [result.backward(result.out) for _ in range(1000)],
                         lambda: [hyperattn.measure(*long, method="lsh") for _ in range(1000)]):
                interrupt_soon()
                try:
                    work()
                except KeyboardInterrupt:
                    print("interrupted")
        """)
        self.assertEqual(said, "interrupted\ninterrupted\n")

    def test_a_handler_that_does_not_raise_changes_nothing(self):
        self.run_script("""
            noted = []
            signal.signal(signal.SIGINT, lambda *_: noted.append(1))
            given = [array[:2000] for array in long]
            expected = hyperattn.attention(*given, method="reference").out
            threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
            seen = [hyperattn.attention(*given, method="reference").out for _ in range(2)]
            assert noted == [1], noted
            for out in seen:
                np.testing.assert_array_equal(out, expected)
        """)

    def test_other_threads_calls_go_on(self):
        self.run_script("""
            given = [array[:2000] for array in long]
            expected = hyperattn.attention(*given, method="reference").out
            seen = []
            other = threading.Thread(target=lambda: seen.extend(hyperattn.attention(*given, method="reference").out for _ in range(3)))
            other.start()
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                hyperattn.attention(*long, method="reference")
                raise SystemExit("not interrupted")
            except KeyboardInterrupt:
                pass
            other.join()
            assert len(seen) == 3
            for out in seen:
                np.testing.assert_array_equal(out, expected)
        """)


def attention_in_child(given, queue):
    queue.put(hyperattn.attention(*given, **SMALL).out)


class Forks(unittest.TestCase):
    def test_a_forked_process_computes(self):
        given = arrays((2, 301, 16), (2, 301, 16), (2, 301, 16))
        expected = hyperattn.attention(*given, **SMALL).out  # OpenMP's threads are there now
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=attention_in_child, args=(given, queue))
        child.start()
        try:
            np.testing.assert_array_equal(queue.get(timeout=60), expected)
        finally:
            child.kill()
            child.join()


if __name__ == "__main__":
    unittest.main()
