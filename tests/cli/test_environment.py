"""What the program meets around it: closed descriptors, limits of OpenMP, a shell that takes a printed command."""

import os
import shlex
import signal
import subprocess
import time
import unittest

import h5py
from cli_test import PROGRAM, SMALL, SMALL_TRIALS, CliTest

# Far more than is done before it is stopped.
LONG = SMALL.replace("trials: 2", "trials: 20").replace("[64, 96, 128]", "[256, 320, 384]").replace(
    "repeats: 2", "repeats: 200")


class EnvironmentTest(CliTest):
    def wait_for_records(self, journal):
        deadline = time.monotonic() + 60
        while (not journal.exists() or journal.read_bytes().count(b"\n") < 6) and time.monotonic() < deadline:
            time.sleep(0.02)


class PrintedCommands(EnvironmentTest):
    WHERE = "sweep.where=backend == 'hyper' and seq_len > 60"
    OUTPUT = "it's $HOME; --force (1).h5"

    def test_interrupted_and_resumed_by_the_printed_command(self):
        arguments = ["run", "--threads", "1", "--force", "-o", self.OUTPUT, "--", str(self.config(LONG)), self.WHERE]
        run = subprocess.Popen([PROGRAM, *arguments], cwd=self.folder, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
        self.wait_for_records(self.path(self.OUTPUT + ".journal"))
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 130, errors)
        command = errors.strip().splitlines()[-1].split("go on with: ")[1]
        self.assertEqual(shlex.split(command), ["hyperattn", "run", "--resume"] + [a for a in arguments[1:] if a != "--force"])
        done = subprocess.run(["bash", "-c", command.replace("hyperattn", shlex.quote(PROGRAM), 1)], cwd=self.folder, text=True,
                              capture_output=True, timeout=120)
        self.assert_outcome(done, 0)
        with h5py.File(self.path(self.OUTPUT)) as file:
            self.assertTrue(file.attrs["complete"])
            first = file["provenance"].attrs["command_line"].decode()
        self.assertEqual(shlex.split(first), ["hyperattn", *arguments])


class ClosedDescriptors(EnvironmentTest):
    def test_a_run_without_them_is_the_run_with_them(self):
        for closed in ("0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"):
            with self.subTest(closed):
                command = f"{shlex.quote(PROGRAM)} run {self.config()} -o out.h5 --force {closed}"
                done = subprocess.run(["bash", "-c", command], cwd=self.folder, text=True, capture_output=True, timeout=120)
                self.assert_outcome(done, 0)
                with h5py.File(self.path("out.h5")) as file:
                    self.assertEqual(len(file["trials"]), SMALL_TRIALS)

    def test_the_journal_of_a_killed_run_holds_records_only(self):
        config = self.config(LONG)
        command = f"exec {shlex.quote(PROGRAM)} run {config} -o out.h5 1>&- 2>&-"
        run = subprocess.Popen(["bash", "-c", command], cwd=self.folder)
        journal = self.path("out.h5.journal")
        self.wait_for_records(journal)
        run.kill()
        run.wait()
        whole = journal.read_bytes().splitlines()[1:-1]
        self.assertGreater(len(whole), 2)
        for line in whole:
            self.assertRegex(line, rb'^[0-9a-f]{8} \{"details"')
        self.assert_outcome(self.call("run", config, "-o", "out.h5", "--resume"), 0)

    def test_files_of_other_commands(self):
        self.write_inputs()
        for closed in ("0<&-", "0<&- 1>&- 2>&-"):
            command = f"{shlex.quote(PROGRAM)} attend in.h5 -o out.h5 backend=exact --force {closed}"
            self.assertEqual(subprocess.run(["bash", "-c", command], cwd=self.folder, timeout=60).returncode, 0)
            with h5py.File(self.path("out.h5")) as file:
                self.assertEqual(file["out"].shape, (1, 2, 64, 16))


class FileSystemWithoutLocks(CliTest):
    """A library that takes flock's place says what such a file system says."""

    def environment(self, error):
        source = self.path("noflock.c")
        source.write_text(f"#include <errno.h>\nint flock(int fd, int op) {{ (void)fd; (void)op; errno = {error}; return -1; }}\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", self.path("noflock.so"), source], check=True)
        return {**os.environ, "LD_PRELOAD": str(self.path("noflock.so"))}

    def test_everything_runs_and_a_run_warns(self):
        self.write_inputs()
        config = self.config(SMALL.replace("source: gaussian, head_dim: 16", "source: file, path: in.h5").replace("[64, 96, 128]", "[32, 64]"))
        for error in ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL"):
            with self.subTest(error):
                locks = self.environment(error)
                self.assert_outcome(self.call("attend", "in.h5", "-o", "a.h5", "backend=exact", "--force", env=locks), 0)
                self.assert_outcome(self.call("run", config, "-o", "r.h5", "--force", env=locks), 0, "can't be locked")
                self.assert_outcome(self.call("run", config, "-o", "r.h5", "--resume", env=locks), 0, "can't be locked")
                self.assert_outcome(self.call("merge", "m.h5", "r.h5", "--force", env=locks), 0)
                self.assert_outcome(self.call("show", "m.h5", env=locks), 0)


class Threads(CliTest):
    def recorded(self, *arguments, **environment):
        changed = {**os.environ, "OMP_NUM_THREADS": "2", **environment}
        outcome = self.call("run", self.config(), "-o", "out.h5", "--force", *arguments, env=changed)
        self.assert_outcome(outcome, 0)
        with h5py.File(self.path("out.h5")) as file:
            threads = set(file["trials"]["threads"])
            self.assertEqual(threads, {file["provenance"].attrs["threads"]})
        return threads.pop(), outcome.stderr

    def test_those_that_compute_are_recorded(self):
        self.assertEqual(self.recorded()[0], 2)
        self.assertEqual(self.recorded(OMP_THREAD_LIMIT="1")[0], 1)
        self.assertEqual(self.recorded(OMP_MAX_ACTIVE_LEVELS="0")[0], 1)
        self.assertEqual(self.recorded(OMP_DYNAMIC="true")[0], 2)

    def test_a_limit_below_what_is_asked_for_is_told(self):
        threads, errors = self.recorded("--threads", "3", OMP_THREAD_LIMIT="2")
        self.assertEqual(threads, 2)
        self.assertIn("--threads 3 is more than OpenMP's environment allows", errors)
        self.assertIn("2 threads are used", errors)


if __name__ == "__main__":
    unittest.main()
