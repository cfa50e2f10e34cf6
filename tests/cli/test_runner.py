"""A run that is resumed, interrupted, killed, sharded, starved of disk or of time loses nothing and says what happened."""

import os
import random
import resource
import shutil
import signal
import subprocess
import time
import unittest

import h5py
from cli_test import PROGRAM, SMALL, SMALL_TRIALS, CliTest, differing_columns

# Some hundred milliseconds in each of many trials: long enough to be hit in the middle.
LONG = SMALL.replace("trials: 2", "trials: 4").replace("[64, 96, 128]", "[256, 320, 384]").replace(
    "repeats: 2", "repeats: 200")


class RunnerTest(CliTest):
    def run_sweep(self, output, *arguments, config=None, **options):
        return self.call("run", config or self.config(), "-o", output, *arguments, **options)

    def statuses(self, name):
        with h5py.File(self.path(name)) as file:
            return [(row["status"].decode(), row["message"].decode()) for row in file["trials"][:]]

    def start(self, config, output, *arguments):
        return subprocess.Popen([PROGRAM, "run", str(config), "-o", str(output), *arguments], cwd=self.folder,
                                text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


class Progress(RunnerTest):
    def test_a_line_says_what_was_measured(self):
        for measures, end in (("timing, spectral_error", r": [\d.]+ ms, [\d.]+ x exact, epsilon [\d.e-]+"), ("timing", r": [\d.]+ ms, [\d.]+ x exact"),
                              ("spectral_error", r": epsilon [\d.e-]+"), ("mask_mass", "")):
            with self.subTest(measures):
                config = self.config(SMALL.replace("timing, spectral_error", measures))
                outcome = self.run_sweep("out.h5", "--force", config=config)
                self.assert_outcome(outcome, 0)
                self.assertRegex(outcome.stdout + outcome.stderr, r"(?m)hyper .* seq_len=64, trial 0" + end + "$")


class Existing(RunnerTest):
    def test_refused_resumed_replaced(self):
        self.assert_outcome(self.run_sweep("out.h5"), 0)
        self.assert_outcome(self.run_sweep("out.h5"), 2, "out.h5", "--resume", "--force")
        again = self.run_sweep("out.h5", "--resume")
        self.assert_outcome(again, 0)
        self.assertIn("0 trials stored", again.stdout)
        self.assert_outcome(self.run_sweep("out.h5", "--force"), 0)
        self.assertEqual(len(self.statuses("out.h5")), SMALL_TRIALS)

    def test_changed_configuration_shows_the_difference(self):
        self.assert_outcome(self.run_sweep("out.h5"), 0)
        outcome = self.run_sweep("out.h5", "--resume", "seed=6")
        self.assert_outcome(outcome, 2, "- seed: 5", "+ seed: 6", "out.h5")
        self.assertEqual(len(self.statuses("out.h5")), SMALL_TRIALS)

    def test_dry_run_writes_nothing_and_counts_what_is_done(self):
        outcome = self.run_sweep("out.h5", "--dry-run", "sweep.where=[seq_len < 128]")
        self.assert_outcome(outcome, 0)
        self.assertIn("dropped", outcome.stdout)
        self.assertIn("6 cases, 12 trials, of which 0", outcome.stdout)
        self.assertFalse(self.path("out.h5").exists())
        self.assert_outcome(self.run_sweep("out.h5"), 0)
        self.assertIn("18 trials, of which 18 are", self.run_sweep("out.h5", "--dry-run").stdout)

    def test_dry_run_counts_what_resume_would_take(self):
        self.assert_outcome(self.run_sweep("out.h5", "--shard", "0/2"), 0)
        before = self.path("out.h5").read_bytes()
        for change, words in (("name=other", ["- name: small", "+ name: other"]), ("seed=7", ["+ seed: 7"]),
                              ("timing.repeats=3", ["+   repeats: 3"]), ("--shard=1/2", ["shard '0/2'", "shard '1/2'"])):
            with self.subTest(change):
                call = ["out.h5", "--shard", "0/2", change] if "=" in change and change[0] != "-" else ["out.h5", change]
                dry = self.run_sweep(*call, "--dry-run")
                self.assert_outcome(dry, 0)
                self.assertIn("of which 0 are in", dry.stdout)
                for word in ("note: 'out.h5' can't be resumed", *words):
                    self.assertIn(word, dry.stdout)
                self.assert_outcome(self.run_sweep(*call, "--resume"), 2, *words)
        self.assertEqual(self.path("out.h5").read_bytes(), before)
        forced = self.run_sweep("out.h5", "--dry-run", "--force", "name=other")
        self.assertNotIn("note", forced.stdout)


class ForeignOutput(RunnerTest):
    """What is no results file of ours is neither resumed nor changed."""

    def refused(self, name, *words):
        before = self.path(name).read_bytes()
        self.assert_outcome(self.run_sweep(name, "--resume"), 3, name, *words)
        self.assertEqual(self.path(name).read_bytes(), before)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), [name, "sweep.yaml"])
        self.assert_outcome(self.call("show", name), 3, name, *words)

    def test_no_hdf5(self):
        self.path("out.h5").write_text("a poem")
        self.refused("out.h5", "not an HDF5 file")

    def test_another_hdf5_file(self):
        with h5py.File(self.path("out.h5"), "w") as file:
            file["x"] = 1
        self.refused("out.h5", "not a results file", "schema")

    def test_another_schema(self):
        self.assert_outcome(self.run_sweep("out.h5"), 0)
        with h5py.File(self.path("out.h5"), "r+") as file:
            file.attrs["schema"] = "hyperattn.results/9"
        self.refused("out.h5", "hyperattn.results/9", "hyperattn.results/1")

    def test_truncated(self):
        self.assert_outcome(self.run_sweep("out.h5"), 0)
        whole = self.path("out.h5").read_bytes()
        for share in (0.999, 0.5, 0.1):
            self.path("out.h5").write_bytes(whole[: int(len(whole) * share)])
            self.refused("out.h5")

    def test_a_missing_file_is_begun(self):
        self.assert_outcome(self.run_sweep("out.h5", "--resume"), 0)
        self.assertEqual(len(self.statuses("out.h5")), SMALL_TRIALS)


class Failures(RunnerTest):
    BAD = "sweep.seq_len=[64, 30000000, 96]"

    def test_a_failing_case_is_a_row(self):
        outcome = self.run_sweep("out.h5", self.BAD, "inputs.head_dim=256", "trials=1")
        self.assert_outcome(outcome, 4, "3 trials failed", "memory")
        rows = self.statuses("out.h5")
        self.assertEqual([status for status, _ in rows].count("ok"), 6)
        for status, message in rows:
            self.assertEqual("memory" in message, status == "failed", message)

    def test_fail_fast(self):
        outcome = self.run_sweep("out.h5", self.BAD, "inputs.head_dim=256", "trials=1", "--fail-fast")
        self.assert_outcome(outcome, 4, "--fail-fast", "--resume")
        self.assertEqual(len(self.statuses("out.h5")), 6)

    def test_case_timeout(self):
        outcome = self.run_sweep("out.h5", "sweep.seq_len=[64, 16384]", "trials=1", "--case-timeout", "1",
                                 "backends=[exact]", "measures=[timing]", "timing.repeats=100")
        self.assert_outcome(outcome, 4, "--case-timeout", "1")
        self.assertEqual([status for status, _ in self.statuses("out.h5")], ["ok", "failed"])


class Measuring(RunnerTest):
    def test_noisy_timings_are_told_and_stored(self):
        # No median of three repeats is certain to a millionth.
        auto = "timing={repeats: auto, relative_error: 1e-6, min_repeats: 2, max_repeats: 3}"
        outcome = self.run_sweep("out.h5", auto)
        self.assert_outcome(outcome, 0, "of 18 trials are noisy", "timing.max_repeats (3)")
        with h5py.File(self.path("out.h5")) as file:
            warnings = file["provenance"].attrs["warnings"].decode()
        self.assertIn("trials are noisy", warnings.splitlines()[-1])
        shown = [line for line in self.call("show", "out.h5").stdout.splitlines() if line.startswith("warning: ")]
        self.assertEqual(shown, ["warning: " + line for line in warnings.splitlines()])

    def test_more_threads_than_cores(self):
        outcome = self.run_sweep("out.h5", "--threads", "64", "--pin", "sweep.seq_len=[64]", "trials=1")
        self.assert_outcome(outcome, 0, "64 threads share", "use --threads")
        with h5py.File(self.path("out.h5")) as file:
            attributes = dict(file["provenance"].attrs)
        self.assertIn("64 threads share", attributes["warnings"].decode())
        self.assertTrue(attributes["pinned"])
        self.assertEqual(attributes["threads"], 64)


class Shards(RunnerTest):
    def test_shards_merge_to_the_whole(self):
        config = self.config()
        self.assert_outcome(self.run_sweep("whole.h5", config=config), 0)
        shards = []
        for i in (1, 2):
            shards.append(f"shard{i}.h5")
            self.assert_outcome(self.run_sweep(shards[-1], "--shard", f"{i}/2", config=config), 0)
        self.assert_outcome(self.call("merge", "merged.h5", *shards), 0)
        self.assertEqual(differing_columns(self.path("whole.h5"), self.path("merged.h5")), [])
        self.assert_outcome(self.call("merge", "merged.h5", *shards), 2, "merged.h5", "--force")
        part = self.call("merge", "part.h5", shards[0])
        self.assert_outcome(part, 4, "missing", "case")
        self.assert_outcome(self.run_sweep(shards[0], "--shard", "2/2", "--resume", config=config), 2, "shard")

    def test_mixed_configurations_are_refused(self):
        self.assert_outcome(self.run_sweep("a.h5"), 0)
        self.assert_outcome(self.run_sweep("b.h5", "seed=6"), 0)
        self.assert_outcome(self.call("merge", "merged.h5", "a.h5", "b.h5"), 2, "- seed: 5", "+ seed: 6")
        self.assertFalse(self.path("merged.h5").exists())

    def test_compare(self):
        self.assert_outcome(self.run_sweep("a.h5"), 0)
        self.assert_outcome(self.run_sweep("b.h5"), 0)
        outcome = self.call("show", "--compare", "a.h5", "b.h5")
        self.assert_outcome(outcome, 0)
        self.assertIn("9 cases in common", outcome.stdout)
        self.assertIn("equal to the last bit", outcome.stdout)


class Interrupted(RunnerTest):
    def test_interrupt_and_resume(self):
        config = self.config(LONG)
        process = self.start(config, "out.h5")
        for line in process.stderr:
            if line.startswith("["):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, errors)
        self.assertIn("--resume", errors)
        self.assertGreater(len(self.statuses("out.h5")), 0)
        self.assertFalse(self.path("out.h5.journal").exists())
        self.assert_outcome(self.run_sweep("out.h5", "--resume", config=config), 0)
        self.assertEqual(len(self.statuses("out.h5")), 36)

    def test_termination_and_impatience(self):
        """SIGTERM is an interrupt; a second one ends the process at once, and nothing is lost either way."""
        config = self.config(LONG)
        for signals in ([signal.SIGTERM], [signal.SIGINT, signal.SIGINT]):
            with self.subTest(signals):
                process = self.start(config, "out.h5", "--force")
                for line in process.stderr:
                    if line.startswith("["):
                        break
                for number in signals:
                    process.send_signal(number)
                    time.sleep(0.002)
                _, errors = process.communicate(timeout=60)
                self.assertEqual(process.returncode, 130, errors)
                resumed = self.run_sweep("out.h5", "--resume", config=config)
                self.assert_outcome(resumed, 0)
                self.assertLess(int(resumed.stdout.split()[0]), 36, "the trial that was reported is lost")
                self.assertEqual(len(self.statuses("out.h5")), 36)

    def test_killed_at_random_moments(self):
        config = self.config(LONG)
        began = time.monotonic()
        self.assert_outcome(self.run_sweep("whole.h5", config=config), 0)
        duration = time.monotonic() - began
        moments = random.Random(20240607)
        kills = 0
        while kills < int(os.environ.get("HYPERATTN_KILLS", 10)):  # scripts/kill_test.sh makes more
            process = self.start(config, "out.h5", *(["--resume"] if self.path("out.h5").exists() else []))
            time.sleep(moments.uniform(0, duration / 2))
            process.kill()
            _, errors = process.communicate(timeout=60)
            if process.returncode == 0:  # it was done before the kill: begin anew
                self.path("out.h5").unlink()
                continue
            self.assertEqual(process.returncode, -signal.SIGKILL, errors)
            kills += 1
            if self.path("out.h5").exists():
                self.statuses("out.h5")  # opens and reads
        resume = ["--resume"] if self.path("out.h5").exists() else []
        self.assert_outcome(self.run_sweep("out.h5", *resume, config=config), 0)
        self.assertEqual(differing_columns(self.path("whole.h5"), self.path("out.h5")), [])

    def test_a_journal_without_trials_is_nothing_to_lose(self):
        """What a run leaves that is killed between its journal and the first state of its output."""
        run, journal = self.started_with_trials(self.config(LONG, "long.yaml"))
        run.kill()
        run.communicate()
        description = journal.read_bytes().splitlines(keepends=True)[0]
        self.assert_outcome(self.run_sweep("part.h5"), 0)
        for writing in (lambda: self.run_sweep("out.h5", "--dry-run"), lambda: self.run_sweep("out.h5"),
                        lambda: self.call("merge", "out.h5", "part.h5")):
            self.path("out.h5").unlink(missing_ok=True)
            journal.write_bytes(description)
            self.assert_outcome(writing(), 0)
        self.assertFalse(journal.exists())
        self.assertEqual(len(self.statuses("out.h5")), SMALL_TRIALS)

    def started_with_trials(self, config):
        """A run into out.h5 that has stored some trials, and its journal."""
        run = self.start(config, "out.h5")
        journal = self.path("out.h5.journal")
        deadline = time.monotonic() + 60
        while (not journal.exists() or journal.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
            time.sleep(0.01)
        return run, journal

    def test_merge_does_not_write_where_a_run_does_and_replaces_its_journal(self):
        for part in (0, 1):
            self.assert_outcome(self.run_sweep(f"part{part}.h5", "--shard", f"{part}/2"), 0)
        merge = ("merge", "out.h5", "part0.h5", "part1.h5")
        run, journal = self.started_with_trials(self.config(LONG, "long.yaml"))
        run.send_signal(signal.SIGSTOP)
        self.assert_outcome(self.call(*merge, "--force"), 1, "another process is writing")
        run.kill()
        run.communicate()
        self.path("out.h5").unlink()
        self.assert_outcome(self.call(*merge), 2, "a run that was killed left", "out.h5.journal", "--force")
        self.assertFalse(self.path("out.h5").exists())
        self.assert_outcome(self.call(*merge, "--force"), 0)
        self.assertFalse(journal.exists())
        self.assertEqual(len(self.statuses("out.h5")), SMALL_TRIALS)
        self.assertNotIn("journal", self.call("show", "out.h5").stdout)

    def test_what_a_killed_run_left_is_shown_and_merged(self):
        config = self.config(LONG)
        run, journal = self.started_with_trials(config)
        run.kill()
        run.communicate()
        trials = journal.read_bytes().count(b"\n") - 1
        for file_is_there in (True, False):
            if not file_is_there:
                self.path("out.h5").unlink()
            shown = self.call("show", "out.h5")
            self.assert_outcome(shown, 0)
            self.assertIn(f" {trials} trials, {trials} ok", shown.stdout)
            self.assertIn(f"note: {trials} trials are from the journal", shown.stdout)
            self.assert_outcome(self.call("merge", "merged.h5", "out.h5", "--force"), 4, "missing")
            self.assertEqual(len(self.statuses("merged.h5")), trials)
        refused = self.run_sweep("out.h5", config=config)
        self.assert_outcome(refused, 2, f"a run that was killed left {trials} trials in the journal 'out.h5.journal'", "--resume")
        self.assert_outcome(self.run_sweep("out.h5", "--resume", config=config), 0)
        self.assertEqual(len(self.statuses("out.h5")), 36)

    def test_reported_trials_survive_a_kill(self):
        config = self.config(LONG)
        process = self.start(config, "out.h5")
        reported = 0
        for line in process.stderr:
            reported += line.startswith("[")
            if reported == 7:
                break
        process.kill()
        process.communicate(timeout=60)
        outcome = self.run_sweep("out.h5", "--dry-run", config=config)
        self.assert_outcome(outcome, 0)
        counted = int(outcome.stdout.split("of which ")[1].split()[0])
        self.assertGreaterEqual(counted, reported, "the journal's trials are not counted")
        resumed = self.run_sweep("out.h5", "--resume", config=config)
        self.assert_outcome(resumed, 0)
        self.assertEqual(int(resumed.stdout.split()[0]), 36 - counted)


class Starved(RunnerTest):
    def test_write_limit(self):
        """A limit on the size of files stands for a full disk."""
        config = self.config()
        self.assert_outcome(self.run_sweep("whole.h5", config=config), 0)
        size = self.path("whole.h5").stat().st_size

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

        self.assert_outcome(self.run_sweep("out.h5", config=config, preexec_fn=limit), 1, "out.h5")
        resume = ["--resume"] if self.path("out.h5").exists() else []
        self.assert_outcome(self.run_sweep("out.h5", *resume, config=config), 0)
        self.assertEqual(differing_columns(self.path("whole.h5"), self.path("out.h5")), [])

    def test_earlier_results_survive_a_write_limit(self):
        self.assert_outcome(self.run_sweep("out.h5"), 0)
        before = self.path("out.h5").read_bytes()

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

        self.assert_outcome(self.run_sweep("out.h5", "--force", preexec_fn=limit), 1, "out.h5")
        self.assertEqual(self.path("out.h5").read_bytes(), before)

    def test_output_folder_removed(self):
        config = self.config(LONG)
        process = self.start(config, "gone/out.h5")
        for line in process.stderr:
            if line.startswith("["):
                break
        shutil.rmtree(self.path("gone"))
        _, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, errors)
        self.assertIn("gone/out.h5", errors)


if __name__ == "__main__":
    unittest.main()
