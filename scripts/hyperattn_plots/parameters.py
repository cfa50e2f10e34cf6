"""The parameters of cases as columns of the table of trials, and only where they have an effect."""

import json

import numpy as np
import pandas as pd

from hyperattn_plots.cells import applies
from hyperattn_plots.declarations import DECLARED


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
