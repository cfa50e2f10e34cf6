"""Tables and attributes of a results file (docs/results-format.md) as pandas tables and plain values."""

import json

import h5py
import numpy as np
import pandas as pd

from hyperattn_plots.command import ResultsError


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
