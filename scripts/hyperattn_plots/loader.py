"""Loads results files, one or several."""

from dataclasses import dataclass, field
from pathlib import Path

import h5py
import pandas as pd

from hyperattn_plots.command import READ, ResultsError
from hyperattn_plots.declarations import DECLARED
from hyperattn_plots.parameters import attach_case_parameters, without_ineffective
from hyperattn_plots.tables import plain, read_cases, read_declarations, read_sessions, read_table, text

SCHEMA = "hyperattn.results/1"


@dataclass
class Results:
    """One results file. Tables that the file does not have are empty."""

    path: Path
    attributes: dict
    config: str
    provenance: dict  # of the first session
    sessions: list  # of every session that wrote to the file (a resumed run, a merged shard)
    cases: dict  # case_id -> resolved parameters
    trials: pd.DataFrame
    heads: pd.DataFrame = field(default_factory=pd.DataFrame)
    levels: pd.DataFrame = field(default_factory=pd.DataFrame)
    timings: pd.DataFrame = field(default_factory=pd.DataFrame)
    language_model: pd.DataFrame = field(default_factory=pd.DataFrame)  # the rows of /trials that `hyperattn lm` made

    @property
    def name(self):
        return str(self.attributes.get("name") or self.path.stem)

    @property
    def ok(self):
        """The trials that finished."""
        return self.trials[self.trials["status"] == "ok"] if len(self.trials) else self.trials


def load(path):
    """Reads one results file. Raises ResultsError (exit code 3) if it is missing or not a results file."""
    path = Path(path)
    if not path.exists():
        raise ResultsError(f"{path}: no such file.")
    READ.append(path)
    try:
        with h5py.File(path, "r") as file:
            attributes = {key: plain(value) for key, value in file.attrs.items()}
            schema = attributes.get("schema")
            if schema != SCHEMA:
                found = f"has the schema '{schema}'" if schema else "has no attribute 'schema'"
                raise ResultsError(f"{path}: not a results file that these scripts read: it {found}; '{SCHEMA}' is needed.")
            if "trials" not in file:
                raise ResultsError(f"{path}: the results file has no table /trials.")
            if "declarations" in file:
                DECLARED.learn(read_declarations(file, path))
            trials = read_table(file, "trials", path)
            cases = read_cases(file, path)
            sessions = read_sessions(file)
            results = Results(
                path=path,
                attributes=attributes,
                config=text(file["config"][()]) if "config" in file else "",
                provenance=sessions[0],
                sessions=sessions,
                cases=cases,
                trials=without_ineffective(attach_case_parameters(trials, cases)),
                heads=read_table(file, "heads", path),
                levels=read_table(file, "levels", path),
                timings=read_table(file, "timings", path),
            )
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read as HDF5 ({error}).") from error
    if len(results.trials) and "status" not in results.trials:
        raise ResultsError(f"{path}: /trials has no column 'status'.")
    if "replaced" in results.trials:
        whole_model = results.trials["replaced"] >= 0
        results.language_model = results.trials[whole_model].reset_index(drop=True)
        results.trials = results.trials[~whole_model].reset_index(drop=True)
    if "causal" in results.trials:
        results.trials["causal"] = results.trials["causal"].astype(int).astype(bool)
    return results


def load_all(paths):
    """Every file once, also where two of the paths lead to it."""
    results, seen = [], set()
    for path in paths:
        place = Path(path).resolve()
        if place not in seen:
            results.append(load(path))
            seen.add(place)
    return results


def file_names(results):
    """A name for each file that no other has: its stem, with as many folders before it as that takes."""
    places = [one.path.resolve().with_suffix("") for one in results]
    names = []
    for place in places:
        length = 1
        while sum(other.parts[-length:] == place.parts[-length:] for other in set(places)) > 1:
            length += 1
        names.append("/".join(place.parts[-length:]))
    return names


def joined(results, table="trials"):
    """The same table of several files as one, with a column `file`; `ok` means the finished trials."""
    frames = []
    for one, name in zip(results, file_names(results)):
        frame = getattr(one, table)
        if len(frame):
            frames.append(frame.assign(file=name))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def finished(results):
    """The finished trials of several files. Raises ResultsError if there are none."""
    trials = joined(results)
    if len(trials):
        trials = trials[trials["status"] == "ok"]
    if trials.empty:
        raise ResultsError("the results hold no finished trial, so there is nothing to plot.")
    return trials
