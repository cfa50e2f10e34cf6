"""Cells of tables: which hold a value, what values a column has, the words for columns, and how values are written."""

import numpy as np

from hyperattn_plots.declarations import DECLARED

# Words for parameters, in the order in which labels and captions name them. A parameter that is not here goes by its own
# name, after these.
WORDS = {
    "seq_len": "n",
    "key_len": "n_k",
    "head_dim": "d",
    "value_dim": "d_v",
    "heads": "heads",
    "kv_heads": "key-value heads",
    "batch": "batch",
    "scale": "scale",
    "estimator": "estimator",
    "residual": "residual",
    "column_share": "column share",
    "mask": "mask",
    "buckets": "buckets",
    "bucket_count": "buckets",
    "centre_keys": "centred keys",
    "query_blocks": "query blocks",
    "block_size": "b",
    "sample_size": "m",
    "min_seq_len": "min_seq_len",
    "bucket_order": "order",
    "sampling": "sampling",
    "collisions": "collisions",
    "blocks": "blocks",
    "band_width": "band width",
    "approx_kappa": "approx_kappa",
    "approx_epsilon": "approx_epsilon",
    "clip_constant": "clip",
    "condition_number": "κ",
    "spectrum": "spectrum",
}


def in_order(columns):
    """The columns in the order of WORDS, then the others."""
    columns = list(columns)
    return [column for column in WORDS if column in columns] + [column for column in columns if column not in WORDS]


def word(column):
    return WORDS.get(column, column.replace("_", " ") if column not in ("min_seq_len", "approx_kappa", "approx_epsilon") else column)


def applies(values):
    """Which entries hold a value: not NaN, not -1 among integers, not an empty text."""
    if values.dtype.kind in "iu":
        return values != -1
    if values.dtype.kind == "f" and DECLARED.columns.get(values.name, {}).get("kind") == "integer":  # with holes
        return values.notna() & (values != -1)
    if values.dtype.kind in "fb":
        return values.notna()
    return values.notna() & ~values.astype(str).isin(["", "nan", "None"])


def distinct(frame, column):
    """The sorted distinct values of a column, without those that do not apply."""
    if column not in frame or frame.empty:
        return []
    values = frame[column][applies(frame[column])].unique().tolist()
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=str)


def comparable(values):
    """A column with one value, None, for all that does not apply."""
    return values.astype(object).where(applies(values), None)


def cases_of(frame):
    """One row for each case."""
    keys = [key for key in ("file", "case_id") if key in frame]
    return frame.drop_duplicates(keys) if keys else frame


def is_absent(value):
    if value is None or (isinstance(value, str) and value in ("", "nan")):
        return True
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, (int, np.integer)):
        return value == -1
    return isinstance(value, (float, np.floating)) and np.isnan(value)


def whole(value):
    """256.0 of a column that has holes -> 256."""
    if isinstance(value, (float, np.floating)) and np.isfinite(value) and float(value).is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def number(value):
    """4096 -> 4096, 0.5 -> 0.5, 1e6 -> 1e+06, text as it is: a measured number."""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return f"{value:.4g}"
    return str(value)


def exact(value):
    """The same for a parameter: as many digits as tell it from any other."""
    text = number(value)
    if isinstance(value, (float, np.floating)) and np.isfinite(value) and float(text) != float(value):
        return repr(float(value))
    return text
