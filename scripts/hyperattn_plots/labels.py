"""What tells the cases of a table apart, and the words for it. One rule for legends, panels, captions and tables: what
differs between the cases that are shown names them, and what does not is said once, in the caption."""

import numpy as np
import pandas as pd

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
# Settings that make a backend what others published, by the name that they go by.
NAMED_SETTINGS = {
    "tree after MoBA": {"backend": "tree", "order": "position", "gate": "mean", "tail": "none"},
    "tree after multipole attention": {"backend": "tree", "order": "kmeans", "gate": "mean", "tail": "plain"},
}
# Values of shapes that captions leave out.
USUAL_SHAPES = {"heads": 1, "batch": 1}


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


def cases_of(frame):
    """One row for each case."""
    keys = [key for key in ("file", "case_id") if key in frame]
    return frame.drop_duplicates(keys) if keys else frame


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


# ---------------------------------------------------------------------------------------------------- methods


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
        if is_absent(value) or (DECLARED.is_choice(column) and whole(value) == DECLARED.default_of(column)):
            continue
        parts.append(short(column, whole(value)))
    return ", ".join(parts)


def method_label(row, columns):
    """'hyper, no sample': a row's method, by `method_columns`."""
    without = row.get("sample_size") == 0 and "sample_size" not in columns
    return label_of(row, [*columns, "sample_size"] if without else columns)


# --------------------------------------------------------------------------------------------------- problems


def input_names(frame):
    """A name for the input of each row: its label where it has one, else its source."""
    source = frame["source"].astype(str) if "source" in frame else pd.Series("input", index=frame.index)
    if "input_label" not in frame:
        return source
    return frame["input_label"].astype(str).where(applies(frame["input_label"]), source)


def comparable(values):
    """A column with one value, None, for all that does not apply."""
    return values.astype(object).where(applies(values), None)


def follows(frame, column, other):
    """Whether each value of `other` has one value of the column."""
    return pd.DataFrame({"of": comparable(frame[other]), "is": comparable(frame[column])}).drop_duplicates()["of"].is_unique


def goes_in_step(frame, column, x):
    """Whether the column is no axis of its own but goes with x, as in `zip` of a sweep: one value for each of x."""
    return x in frame and distinct(frame, x) != [] and len(distinct(frame, x)) > 1 and follows(frame, column, x)


def problem_varying(frame, exclude=(), x=None):
    """The columns that tell the problems of the cases apart: what is computed, and on which inputs. `input` is their
    name; what follows from it is left out. So is what goes in step with `x`, and a square problem's number of keys."""
    cases = cases_of(frame)
    if cases.empty:
        return []
    if "input" not in cases:
        cases = cases.assign(input=input_names(cases))
    found = ["input"] if cases["input"].nunique() > 1 and "input" not in exclude else []
    for column in in_order(DECLARED.problem_columns()):
        if column in exclude or column not in cases or column == x:
            continue
        if comparable(cases[column]).nunique(dropna=False) < 2:
            continue
        if column == "key_len" and (cases["key_len"] == cases["seq_len"]).all():
            continue
        if column == "value_dim" and (cases["value_dim"] == cases["head_dim"]).all():
            continue
        if found[:1] == ["input"] and column not in ("seq_len", "key_len") and follows(cases, column, "input"):
            continue
        if column != "source" and "source" in cases and len(distinct(cases, column)) < 2 and follows(cases, column, "source"):
            continue  # a parameter of one source
        if x and goes_in_step(cases, column, x):
            continue
        found.append(column)
    return found


PASSES = {"forward": "forward", "forward_backward": "forward + backward"}


def problem_part(row, column):
    """'n = 4096', '4 heads', 'causal', 'scale = 0.5' for one column; nothing for what is usual, which no other value is
    written like."""
    value = row.get(column)
    if column == "input":
        return str(value)
    if column == "causal":
        return "causal" if value else "no causal mask"
    if is_absent(value) or USUAL_SHAPES.get(column) == whole(value):
        return ""
    if (column == "key_len" and value == row.get("seq_len")) or (column == "value_dim" and value == row.get("head_dim")):
        return ""
    value = whole(value)
    if column == "pass":
        return PASSES.get(value, str(value))
    if column == "key_len":
        return f"{value} keys"
    if column == "heads":
        return f"{value} heads"
    if column == "kv_heads":
        return f"{value} key-value heads"
    if column == "batch":
        return f"batch of {value}"
    if column in ("source", "construction"):
        return str(value)
    return f"{word(column)} = {exact(value)}"


def problem_text(row, columns):
    """'captured heads, n = 4096, 4 heads, causal': the problem of a row, by `problem_varying`."""
    return ", ".join(part for column in columns if (part := problem_part(row, column)))


def by_problem(frame, columns):
    """(row, rows) of each problem that the columns tell apart, in the order of the table; `row` is its first."""
    if frame.empty:
        return []
    if not columns:
        return [(frame.iloc[0], frame)]
    keys = pd.Series(list(zip(*(comparable(frame[column]) for column in columns))), index=frame.index)
    return [(frame.loc[index[0]], frame.loc[index]) for index in keys.groupby(keys.map(repr), sort=False).groups.values()]


def panels_of(frame, x=None, always=("input",), exclude=()):
    """(title, rows) of each problem: a panel for what no axis and no line tells apart. `always` is told in any case."""
    columns = problem_varying(frame, exclude, x)
    told = with_first(columns, [column for column in always if column != x])
    return [(problem_text(first, told), rows) for first, rows in by_problem(frame, columns)]


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


# -------------------------------------------------------------------------------------------------- captions


def caption_part(frame, column, values):
    shown = [whole(value) for value in values]
    shown = shown if len(shown) <= 6 else [shown[0], "…", shown[-1]]
    written = ", ".join(exact(value) for value in shown)
    if column == "bucket_count":
        return f"{written} buckets"
    if column in ("buckets", "blocks"):
        return f"{column}: {written}"
    return f"{word(column)} = {written}"


def is_said_elsewhere(frame, column):
    if column == "key_len":
        return (frame["key_len"] == frame["seq_len"]).all()
    if column == "value_dim":
        return (frame["value_dim"] == frame["head_dim"]).all()
    return column in ("source", "causal", "pass") and len(distinct(frame, column)) > 0


def facts(frame, skip=()):
    """'n = 4096, d = 64, m = 128, 3 trials': the parameters of the rows, without `skip` and without defaults."""
    found = []
    for column in in_order([*DECLARED.problem_columns(), *DECLARED.method_columns()]):
        values = distinct(frame, column)
        if column in skip or not values or is_said_elsewhere(frame, column):
            continue
        usual = USUAL_SHAPES.get(column, None if column in WORDS and not DECLARED.is_choice(column) else DECLARED.default_of(column))
        if [whole(value) for value in values] == [usual]:
            continue
        found.append(caption_part(frame, column, values))
    if "trial" in frame and len(frame):
        trials = frame["trial"].nunique()
        found.append(f"{trials} trial{'' if trials == 1 else 's'}")
    return ", ".join(found)
