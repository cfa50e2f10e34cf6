"""The one loader of results files (docs/results-format.md) for the plots, the report and notebooks.

    results = load("results/quickstart/quickstart.h5")
    results.trials        # pandas table, one row per case and trial, text decoded, case parameters attached
    results.timings       # every repeat of every stage
    results.provenance    # machine, compiler, commit, ... as a dict

Errors are a ResultsError with one sentence and the exit code that a script should end with.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from hyperattn_plots.command import EXIT_CALL, EXIT_INPUT, READ, ResultsError, arguments, main, write_output
from hyperattn_plots.declarations import DECLARED
from hyperattn_plots.labels import (
    applies,
    by_problem,
    cases_of,
    choices_among,
    distinct,
    facts,
    input_names,
    label_of,
    method_columns,
    method_label,
    number,
    panels_of,
    problem_text,
    problem_varying,
    tell_apart,
    varying,
    with_first,
)

__all__ = [
    "EXIT_CALL", "EXIT_INPUT", "Results", "ResultsError", "applies", "approximate", "arguments", "by_problem", "caption", "cases_of",
    "choices_among", "choose_figure", "distinct", "error_figures", "facts", "file_names", "finished", "input_names", "is_exact", "joined",
    "label_of", "load", "load_all", "machine_line", "main", "method_columns", "method_label", "number", "panels_of", "problem_text",
    "problem_varying", "spread_note", "tell_apart", "varying", "with_first", "with_trial_columns", "write_output",
]  # fmt: skip

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


def text(value):
    """Bytes, numpy text or anything else as str."""
    if isinstance(value, (bytes, np.bytes_)):
        return value.decode("utf-8", errors="replace")
    return str(value)


def plain(value):
    """An HDF5 attribute as a plain Python value."""
    if isinstance(value, (bytes, np.bytes_, str)):
        return text(value)
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value.tolist()]
    return value.item() if isinstance(value, np.generic) else value


def read_table(file, name, path):
    """A compound dataset as a table with decoded text; an empty table where the file has none."""
    if name not in file:
        return pd.DataFrame()
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.names is None:
        raise ResultsError(f"{path}: /{name} must be a table (a compound dataset), but is not.")
    rows = dataset[:]
    columns = {}
    for column in rows.dtype.names:
        values = rows[column]
        if values.ndim > 1:
            values = list(values)
        elif values.dtype.kind in "SO":
            values = [text(value) for value in values]
        columns[column] = values
    return pd.DataFrame(columns)


def read_declarations(file, path):
    try:
        declared = json.loads(text(file["declarations"][()]))
        if isinstance(declared, dict):
            return declared
    except (ValueError, AttributeError) as error:
        raise ResultsError(f"{path}: /declarations is not JSON ({error}).") from error
    raise ResultsError(f"{path}: /declarations must be a JSON object.")


def read_sessions(file):
    """/provenance, then /provenance/2, … as dicts; one empty dict where there is none."""
    if "provenance" not in file:
        return [{}]
    first = file["provenance"]
    groups = [first] + [first[name] for name in sorted((name for name in first if name.isdigit()), key=int)]
    return [{key: plain(value) for key, value in group.attrs.items()} for group in groups]


def read_cases(file, path):
    """case_id -> its resolved parameters."""
    table = read_table(file, "cases", path)
    if table.empty:
        return {}
    other = [column for column in table.columns if column != "case_id"]
    column = "parameters" if "parameters" in other else (other[0] if other else None)
    if column is None or "case_id" not in table.columns:
        raise ResultsError(f"{path}: /cases must have the columns case_id and parameters, but has {list(table.columns)}.")
    cases = {}
    for case_id, parameters in zip(table["case_id"], table[column]):
        try:
            cases[case_id] = json.loads(parameters)
        except ValueError as error:
            raise ResultsError(f"{path}: /cases: the parameters of case {case_id} are not JSON ({error}).") from error
    return cases


def flatten(parameters, prefix=""):
    """{"backend": {"name": "hyper"}} -> {"backend.name": "hyper"}."""
    flat = {}
    for key, value in parameters.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat


def attach_case_parameters(trials, cases):
    """Adds the case parameters that are no columns of the table yet: under the name of their column where they are
    declared, else by their last name."""
    if trials.empty or not cases or "case_id" not in trials:
        return trials
    wanted = {}
    for case_id, parameters in cases.items():
        for key, value in flatten(parameters).items():
            name = key.rsplit(".", 1)[-1]
            if key.startswith("inputs."):
                name = DECLARED.column_of("inputs", parameters.get("source"), name)
            if name in trials.columns or name in ("name", "schema", "inputs", "parameters"):
                continue
            if isinstance(value, list):
                value = json.dumps(value)
            wanted.setdefault(name, {})[case_id] = int(value) if isinstance(value, bool) else value
    added = {name: trials["case_id"].map(values) for name, values in wanted.items()}
    return pd.concat([trials, pd.DataFrame(added, index=trials.index)], axis=1) if added else trials


def plain_value(value, parameter):
    """A cell as the declaration has it: True for 1 of a truth value, 8 for 8.0, None for what does not apply; the default
    where a column of numbers has no place for its word."""
    default = parameter.get("default")
    if pd.isna(value) or value == "" or (value == -1 and not isinstance(value, str)):
        return default if isinstance(default, str) else None
    if parameter["type"] == "boolean":
        return bool(value)
    return value.item() if isinstance(value, np.generic) else value


def without_ineffective(trials):
    """The trials with NaN for parameters that have no effect on their case, and the word for those that have one and
    hold it, such as `auto`."""
    if trials.empty or "backend" not in trials or "case_id" not in trials:
        return trials
    blanks, words = {}, {}
    for index, row in trials.drop_duplicates("case_id").iterrows():
        specs = DECLARED.of_backend(row["backend"])
        values = {name: plain_value(row[spec["column"]], spec) for name, spec in specs.items() if spec["column"] in trials}
        values["causal"] = bool(row["causal"]) if "causal" in trials else None
        for name, spec in specs.items():
            column = spec["column"]
            if column not in trials:
                continue
            if not DECLARED.has_effect(spec, values, specs):
                blanks.setdefault(column, set()).add(row["case_id"])
            elif spec["type"] in ("integer", "number") and isinstance(values[name], str):
                words.setdefault(column, {})[row["case_id"]] = values[name]
    changed = {}
    for column in dict.fromkeys([*blanks, *words]):
        cells = trials[column].where(applies(trials[column]) & ~trials["case_id"].isin(blanks.get(column, ())), np.nan)
        if column in words and len(cases_with_words(trials, cells, words[column])):
            cells = cells.astype(object).where(~trials["case_id"].isin(words[column]), trials["case_id"].map(words[column]))
        changed[column] = cells
    return trials.assign(**changed)


def cases_with_words(trials, cells, words):
    """The cases whose word is to be shown: only beside a number is it worth a column of mixed values."""
    return list(words) if len(cells[applies(cells)]) else []


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


def is_exact(trials):
    """Which rows are of backends without an error to measure."""
    return trials["backend"].isin(DECLARED.exact_backends())


def error_figures():
    """The columns that say how wrong a result is, the ones that most readers want first."""
    return DECLARED.error_figures()


def approximate(trials):
    """The rows of approximate backends; all rows where there are none."""
    rows = trials[~is_exact(trials)]
    return rows if len(rows) else trials


def choose_figure(trials, wanted=None):
    """The error column to plot: the wanted one, else the first of the error figures that holds a value."""
    if wanted:
        if wanted not in trials or trials[wanted].dtype.kind not in "fiu":
            raise ResultsError(f"--figure {wanted}: the results have no such column of numbers.", EXIT_CALL)
        return wanted
    for figure in error_figures():
        if figure in trials and trials[figure].notna().any():
            return figure
    raise ResultsError("the results hold no error figure: run with the measure spectral_error.")


SPREAD_NOTE = "Lines: median over trials; bands and whiskers: smallest to largest."


def spread_note(trials):
    return SPREAD_NOTE if trials["trial"].nunique() > 1 else ""


def with_trial_columns(frame, trials):
    """Rows of /heads, /levels or /timings with the columns of their trial beside them."""
    if frame.empty or trials.empty:
        return frame
    keys = [key for key in ("file", "case_id", "trial") if key in frame and key in trials]
    extra = [column for column in trials.columns if column not in frame.columns or column in keys]
    return frame.merge(trials[extra], on=keys, how="left")


def machine_line(results):
    """'AMD EPYC, avx512, 2 threads, commit 1a2b3c4': where and with what it ran, from the provenance."""
    parts = []
    for provenance in (session for one in results for session in one.sessions):
        words = []
        for key in ("processor", "instruction_set"):
            if provenance.get(key):
                words.append(" ".join(str(provenance[key]).split()))
        threads = provenance.get("threads")
        if threads is not None:
            words.append(f"{threads} thread{'' if str(threads) == '1' else 's'}")
        if provenance.get("commit"):
            words.append(f"commit {str(provenance['commit'])[:10]}")
        line = ", ".join(words)
        if line and line not in parts:
            parts.append(line)
    return "; ".join(parts)


def caption(frame, results, note="", skip=()):
    """One paragraph on what is held fixed (n, d, b, m, buckets, heads, trials) and on which machine it ran."""
    held = facts(frame, skip)
    lines = [held + "."] if held else []
    if note:
        lines.append(note.strip())
    machine = machine_line(results)
    if machine:
        lines.append(machine + ".")
    return " ".join(lines)
