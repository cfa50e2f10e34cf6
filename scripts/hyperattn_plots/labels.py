"""What tells the methods of a table's cases apart, and the words for it. One rule for legends, panels, captions and
tables: what differs between the cases that are shown names them, and what does not is said once, in the caption."""

import pandas as pd

from hyperattn_plots.cells import cases_of, comparable, distinct, exact, in_order, is_absent, whole, word
from hyperattn_plots.declarations import DECLARED

# Settings that make a backend what others published, by the name that they go by.
NAMED_SETTINGS = {
    "tree after MoBA": {"backend": "tree", "order": "position", "gate": "mean", "tail": "none"},
    "tree after multipole attention": {"backend": "tree", "order": "kmeans", "gate": "mean", "tail": "plain"},
}


def varying(frame, exclude=()):
    """The parameters of the methods that take several values within one backend, `exclude` left out."""
    found = []
    for column in in_order(DECLARED.method_columns()):
        if column in exclude or column not in frame:
            continue
        if any(len(distinct(group, column)) > 1 for _, group in frame.groupby("backend")):
            found.append(column)
    return found


def choices_among(columns):
    """Those of the columns that choose among methods; the others are sizes."""
    return [column for column in columns if DECLARED.is_choice(column)]


def method_columns(frame):
    """The parameters that name a method: its choices that vary, and what varies among cases of equal choices."""
    choices = choices_among(varying(frame))
    within = set()
    for _, cases in frame.groupby(["backend", *choices] if choices else "backend", dropna=False) if len(frame) else ():
        # Without a sample m is no size but a choice, which `short` names.
        within |= set(varying(cases[cases["sample_size"] != 0] if "sample_size" in cases else cases))
    return [column for column in in_order(DECLARED.method_columns()) if column in choices or column in within]


def short(column, value):
    """'m = 256' for (sample_size, 256); 'random buckets' for (buckets, random)."""
    if column in ("mask", "residual") and value == "none":
        return f"no {column}"
    if column == "sample_size" and value == 0:
        return "no sample"
    if column == "centre_keys":
        return "centred keys" if value else "keys not centred"
    if column == "query_blocks":
        return f"query blocks {value}"
    if column in ("buckets", "blocks", "residual", "sampling", "estimator", "mask"):
        return f"{value} {column}"
    if column == "bucket_count":
        return f"{value} buckets"
    if column == "file":
        return f"file {value}"
    if column == "case_id":
        return f"case {value}"
    return f"{word(column)} = {exact(value)}"


def named_settings(row, columns):
    """(name, its columns): what a row's settings are known as where the columns hold them all; else its backend."""
    for name, settings in NAMED_SETTINGS.items():
        if all(row.get(column) == value and column in [*columns, "backend"] for column, value in settings.items()):
            return name, list(settings)
    return str(row["backend"]), []


def label_of(row, columns):
    """'hyper, 64 buckets, m = 256': the backend of a row, or what its settings are known as, with those parameters that
    apply to it; of the method's choices only those that are not the default."""
    name, said = named_settings(row, columns)
    parts = [name]
    for column in columns:
        value = row.get(column)
        if column in said:
            continue
        if is_absent(value):
            continue
        default = DECLARED.default_in(column, row) if DECLARED.depends_on_others(column) else DECLARED.default_of(column)
        if DECLARED.is_choice(column) and whole(value) == default:
            continue
        parts.append(short(column, whole(value)))
    return ", ".join(parts)


def method_label(row, columns):
    """'hyper, no sample': a row's method, by `method_columns`."""
    without = row.get("sample_size") == 0 and "sample_size" not in columns
    return label_of(row, [*columns, "sample_size"] if without else columns)


def with_first(columns, first):
    """The columns with these before the others."""
    return [*first, *(column for column in columns if column not in first)]


def tell_apart(frame, columns, x=None, within=()):
    """The columns, and `file` or `case_id` behind them where several cases would still have one label and one place on
    the x axis within a panel."""
    cases = cases_of(frame)
    keys = ["backend", *within, *columns] + ([x] if x and x in cases else [])
    keys = [key for key in keys if key in cases]
    labels = pd.Series(list(zip(*(comparable(cases[key]).map(repr) for key in keys))), index=cases.index)
    for more in ("file", "case_id"):
        if more not in cases or labels.is_unique:
            break
        with_more = pd.Series(list(zip(labels, cases[more])), index=cases.index)
        if with_more.nunique() > labels.nunique():
            columns, labels = [*columns, more], with_more
    return columns
