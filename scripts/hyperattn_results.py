"""The one loader of results files (docs/results-format.md) for the plots, the report and notebooks.

    results = load("results/quickstart/quickstart.h5")
    results.trials        # pandas table, one row per case and trial, text decoded, case parameters attached
    results.timings       # every repeat of every stage
    results.provenance    # machine, compiler, commit, ... as a dict

Errors are a ResultsError with one sentence and the exit code that a script should end with.
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

SCHEMA = "hyperattn.results/1"
EXIT_CALL = 2  # the call is wrong
EXIT_INPUT = 3  # a file is missing, unreadable or not a results file

# What tells one case from another, in the order in which labels and captions name it: (column, symbol). A test holds
# this list, CHOICES and USUAL to what the program declares.
PARAMETERS = [
    ("estimator", "estimator"),
    ("residual", "residual"),
    ("column_share", "column share"),
    ("mask", "mask"),
    ("buckets", "buckets"),
    ("bucket_count", "buckets"),
    ("centre_keys", "centred keys"),
    ("query_blocks", "query blocks"),
    ("block_size", "b"),
    ("sample_size", "m"),
    ("min_seq_len", "min_seq_len"),
    ("bucket_order", "order"),
    ("sampling", "sampling"),
    ("collisions", "collisions"),
    ("blocks", "blocks"),
    ("band_width", "band width"),
    ("approx_kappa", "approx_kappa"),
    ("approx_epsilon", "approx_epsilon"),
    ("clip_constant", "clip"),
    ("condition_number", "κ"),
    ("spectrum", "spectrum"),
]
ERROR_FIGURES = ["epsilon", "error_op_rel", "error_fro_rel", "error_op", "error_max"]

# Choices of the method, as opposed to its sizes.
CHOICES = ["estimator", "residual", "mask", "buckets", "query_blocks", "centre_keys", "bucket_order", "sampling", "collisions", "blocks"]

# Values that captions leave out when no case has another: the paper's method as it is by default.
USUAL = {
    "heads": 1,
    "batch": 1,
    "estimator": "residual",
    "residual": "sample",
    "mask": "sort_lsh",
    "buckets": "lsh",
    "bucket_order": "gray",
    "sampling": "uniform",
    "collisions": "mask",
    "blocks": "aligned",
    "query_blocks": "by_rank",
    "centre_keys": 0,
}

# What a parameter is for: where the other one has another value it has no effect, so it does not apply.
ONLY_WITH = {
    "column_share": ("residual", "columns+centroids"),
    "band_width": ("mask", "band"),
    "approx_kappa": ("estimator", "theory"),
    "approx_epsilon": ("estimator", "theory"),
    "clip_constant": ("estimator", "theory"),
}


class ResultsError(Exception):
    def __init__(self, message, exit_code=EXIT_INPUT):
        super().__init__(message)
        self.exit_code = exit_code


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
    """Adds the case parameters that are no columns of the table yet, by their last name (`residual`)."""
    if trials.empty or not cases or "case_id" not in trials:
        return trials
    wanted = {}
    for case_id, parameters in cases.items():
        for key, value in flatten(parameters).items():
            name = key.rsplit(".", 1)[-1]
            if name in trials.columns or name == "name":
                continue
            wanted.setdefault(name, {})[case_id] = value if np.isscalar(value) or value is None else json.dumps(value)
    added = {name: trials["case_id"].map(values) for name, values in wanted.items()}
    return pd.concat([trials, pd.DataFrame(added, index=trials.index)], axis=1) if added else trials


def without_ineffective(trials):
    """The trials with NaN for parameters that have no effect on their case (ONLY_WITH)."""
    for column, (other, value) in ONLY_WITH.items():
        if column in trials and other in trials:
            trials[column] = trials[column].where(trials[other] == value, np.nan)
    return trials


READ = []  # the results files that were loaded, which no output may destroy


def write_output(path, data):
    """Writes bytes where a path leads: whole or not at all, through symbolic links, with the permissions that a file
    there has, and never over a results file that was read."""
    path = Path(path)
    for read in READ:
        if path.exists() and read.exists() and path.samefile(read):
            raise ResultsError(f"{path}: is the results file {read}, which is read; name another output.", EXIT_CALL)
    place = Path(os.path.realpath(path))
    if place.exists() and not place.is_file():  # a pipe or a device
        place.write_bytes(data)
        return
    partial = place.with_name(place.name + ".partial")
    try:
        partial.write_bytes(data)
        if place.exists():
            shutil.copymode(place, partial)
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


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
    return [load(path) for path in paths]


def joined(results, table="trials"):
    """The same table of several files as one, with a column `file`; `ok` means the finished trials."""
    frames = []
    for one in results:
        frame = getattr(one, table)
        if len(frame):
            frames.append(frame.assign(file=one.path.stem))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def finished(results):
    """The finished trials of several files. Raises ResultsError if there are none."""
    trials = joined(results)
    if len(trials):
        trials = trials[trials["status"] == "ok"]
    if trials.empty:
        raise ResultsError("the results hold no finished trial, so there is nothing to plot.")
    return trials


EXACT_BACKENDS = ["exact", "dense", "reference"]


def approximate(trials):
    """The rows of approximate backends; all rows where there are none."""
    rows = trials[~trials["backend"].isin(EXACT_BACKENDS)]
    return rows if len(rows) else trials


def choose_figure(trials, wanted=None):
    """The error column to plot: the wanted one, else the first of ERROR_FIGURES that holds a value."""
    if wanted:
        if wanted not in trials or trials[wanted].dtype.kind not in "fiu":
            raise ResultsError(f"--figure {wanted}: the results have no such column of numbers.", EXIT_CALL)
        return wanted
    for figure in ERROR_FIGURES:
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


def applies(values):
    """Which entries hold a value: not NaN, not -1 among integers, not an empty text."""
    if values.dtype.kind in "iu":
        return values != -1
    if values.dtype.kind in "fb":
        return values.notna()
    return values.notna() & (values.astype(str) != "") & (values.astype(str) != "nan") & (values.astype(str) != "None")


def distinct(frame, column):
    """The sorted distinct values of a column, without those that do not apply."""
    if column not in frame or frame.empty:
        return []
    values = frame[column][applies(frame[column])].unique().tolist()
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def varying(frame, exclude=()):
    """The parameters of PARAMETERS that take several values within one backend, `exclude` left out."""
    found = []
    for column, _ in PARAMETERS:
        if column in exclude or column not in frame:
            continue
        if any(len(distinct(group, column)) > 1 for _, group in frame.groupby("backend")):
            found.append(column)
    return found


def method_columns(frame):
    """The parameters that name a method: its CHOICES that vary, and what varies among cases of equal choices."""
    choices = [column for column in varying(frame) if column in CHOICES]
    within = set()
    for _, cases in frame.groupby(["backend", *choices] if choices else "backend", dropna=False) if len(frame) else ():
        # Without a sample m is no size but a choice, which `short` names.
        within |= set(varying(cases[cases["sample_size"] != 0] if "sample_size" in cases else cases))
    return [column for column, _ in PARAMETERS if column in choices or column in within]


def number(value):
    """4096 -> 4096, 0.5 -> 0.5, 1e6 -> 1e+06, text as it is."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def short(column, value):
    """'m = 256' for (sample_size, 256); 'random buckets' for (buckets, random)."""
    if column in ("mask", "residual") and value == "none":
        return f"no {column}"
    if column == "sample_size" and value == 0:
        return "no sample"
    if column == "centre_keys":
        return "centred keys"
    if column == "query_blocks":
        return f"query blocks {number(value)}"
    if column in ("buckets", "blocks", "residual", "sampling", "estimator", "mask"):
        return f"{number(value)} {'mask' if column == 'mask' else column}"
    if column == "bucket_count":
        return f"{number(value)} buckets"
    symbol = dict(PARAMETERS).get(column, column)
    return f"{symbol} = {number(value)}"


def label_of(row, columns):
    """'hyper, 64 buckets, m = 256': the backend of a row with those parameters that apply to it; of the method's
    choices only those that are not the usual ones."""
    parts = [str(row["backend"])]
    for column in columns:
        value = row.get(column)
        if column in CHOICES and value == USUAL[column]:
            continue
        if value is None or (isinstance(value, str) and value in ("", "nan")):
            continue
        if isinstance(value, (int, np.integer)) and value == -1:
            continue
        if isinstance(value, (float, np.floating)) and np.isnan(value):
            continue
        parts.append(short(column, value))
    return ", ".join(parts)


def method_label(row, columns):
    """'hyper, no sample': a row's method, by `method_columns`."""
    without = row.get("sample_size") == 0 and "sample_size" not in columns
    return label_of(row, [*columns, "sample_size"] if without else columns)


def input_names(frame):
    """A name for the input of each row: its label where it has one, else its source."""
    source = frame["source"].astype(str) if "source" in frame else pd.Series("input", index=frame.index)
    if "input_label" not in frame:
        return source
    return frame["input_label"].astype(str).where(applies(frame["input_label"]), source)


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
    facts = []
    fixed = [("seq_len", "n"), ("key_len", "n_k"), ("head_dim", "d"), ("value_dim", "d_v"), ("heads", "heads"), ("batch", "batch")]
    for column, symbol in fixed + PARAMETERS:
        values = distinct(frame, column)
        if column in skip or not values or values == [USUAL.get(column)]:
            continue
        if column == "key_len" and (frame["key_len"] == frame["seq_len"]).all():
            continue
        if column == "value_dim" and (frame["value_dim"] == frame["head_dim"]).all():
            continue
        if column == "min_seq_len" and not frame.get("causal", pd.Series([True])).any():
            continue
        shown = values if len(values) <= 6 else [values[0], "…", values[-1]]
        written = ", ".join(number(value) for value in shown)
        if column == "bucket_count":
            facts.append(f"{written} buckets")
        elif column in ("buckets", "blocks"):
            facts.append(f"{column}: {written}")
        else:
            facts.append(f"{symbol} = {written}")
    if "trial" in frame and len(frame):
        trials = frame["trial"].nunique()
        facts.append(f"{trials} trial{'' if trials == 1 else 's'}")
    lines = [", ".join(facts) + "."] if facts else []
    if note:
        lines.append(note.strip())
    machine = machine_line(results)
    if machine:
        lines.append(machine + ".")
    return " ".join(lines)


def arguments(description, **options):
    """The command line that all plots share: RESULTS.h5 … -o DIR [--title TEXT]."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS.h5", help="results files of hyperattn run")
    parser.add_argument("-o", "--output", default=".", metavar="DIR", help="folder for the pictures (default: .)")
    parser.add_argument("--title", help="title in place of the default one")
    for name, option in options.items():
        parser.add_argument("--" + name.replace("_", "-"), **option)
    return parser


def save_pictures(pictures, directory):
    """Saves what a script's `pictures` yields: (name, figure)."""
    import plot_style

    for name, figure in pictures:
        plot_style.save(figure, directory, name)


def main(run):
    """Runs a script's main function and turns its errors into one sentence and an exit code."""
    try:
        run()
    except ResultsError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(1)
