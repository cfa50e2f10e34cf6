"""Sweeps by the program `hyperattn`, and the files that it writes."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Union

from .errors import EnvironmentError, InputError, UsageError
from .tables import require

if TYPE_CHECKING:  # imported where it is used, for it takes long
    import pandas

_SOME_FAILED = 4
_INTERRUPTED = 130


def _find_program(program):
    found = shutil.which(program or os.environ.get("HYPERATTN", "hyperattn"))
    if found:
        return found
    raise EnvironmentError(
        f"the program {program or 'hyperattn'} is not there; sweeps need it. Build and install it from the sources "
        "(cmake --install build/release --prefix DIR), put DIR/bin on PATH, or name it: sweep(…, program=PATH)"
    )


def _plain(value):
    """NumPy's numbers and arrays for JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise UsageError(f"the configuration holds {value!r}, which YAML has no word for")


def _wait(process):
    """Its standard error; Ctrl-C goes to it first, so that it can end as it should."""
    while True:
        try:
            return process.communicate()[1]
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)


def _run(command):
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        said = _wait(process).strip()
    if process.returncode == _INTERRUPTED:
        raise KeyboardInterrupt
    if process.returncode == _SOME_FAILED:
        warnings.warn(f"some trials failed, and their rows say why (column `status`): {said}", stacklevel=3)
    elif process.returncode != 0:
        blame = {2: UsageError, 3: InputError}.get(process.returncode, EnvironmentError)
        raise blame(said or f"{command[0]} ended with status {process.returncode}")


def sweep(
    config: Union[str, os.PathLike, dict],
    *changes: str,
    output: Union[None, str, os.PathLike] = None,
    group: Optional[str] = None,
    force: bool = False,
    resume: bool = False,
    threads: Optional[int] = None,
    program: Optional[str] = None,
) -> "pandas.DataFrame":
    """Runs a sweep by the program `hyperattn run` and returns its table: a row for each case and trial.

    config: a YAML file's path, or what would stand in one as a dict
    changes: "KEY=VALUE", by the YAML's own paths: "sweep.seq_len=[4096, 8192]"
    output: the results file to keep; None keeps none. An existing one needs `force` (replace it) or `resume`
    group, threads: as of the program
    program: the program's path; None is that of the environment variable HYPERATTN, or the one on PATH

    What the program refuses is raised in its words, by blame. Where some trials failed, their rows say why, and a
    warning is given.
    """
    require("h5py", "hyperattn.sweep")
    require("pandas", "hyperattn.sweep")
    command = [_find_program(program), "run"]
    for name, value in (("--group", group), ("--threads", threads)):
        if value is not None:
            command += [name, str(value)]
    command += ["--force"] * force + ["--resume"] * resume
    with contextlib.ExitStack() as stack:
        if output is None or isinstance(config, dict):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hyperattn-")))
        if isinstance(config, dict):
            path = folder / "config.yaml"
            path.write_text(json.dumps(config, default=_plain, indent=1), encoding="utf-8")  # JSON is YAML
            config = path
        results = folder / "results.h5" if output is None else Path(output)
        _run([*command, "-o", os.fspath(results), "--", os.fspath(config), *changes])
        return load(results).trials


def load(path: Union[str, os.PathLike]) -> Any:
    """A results file of the program: `.trials`, `.heads`, `.levels` and `.timings` as pandas tables,
    `.provenance`, `.cases` and `.config`. InputError if it is none, or cannot be read."""
    require("h5py", "hyperattn.load")
    require("pandas", "hyperattn.load")
    import hyperattn_results

    try:
        return hyperattn_results.load(path)
    except hyperattn_results.ResultsError as error:
        raise InputError(str(error)) from None
