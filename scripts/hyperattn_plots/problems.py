"""What tells the problems of a table's cases apart, the words for it, and what is said once because it varies nowhere."""

import pandas as pd

from hyperattn_plots.cells import WORDS, applies, cases_of, comparable, distinct, exact, in_order, is_absent, whole, word
from hyperattn_plots.declarations import DECLARED
from hyperattn_plots.labels import with_first

# Values of shapes that captions leave out.
USUAL_SHAPES = {"heads": 1, "batch": 1}
PASSES = {"forward": "forward", "forward_backward": "forward + backward"}


def input_names(frame):
    """A name for the input of each row: its label where it has one, else its source."""
    source = frame["source"].astype(str) if "source" in frame else pd.Series("input", index=frame.index)
    if "input_label" not in frame:
        return source
    return frame["input_label"].astype(str).where(applies(frame["input_label"]), source)


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


def is_at_other_default(frame, column):
    """Whether all rows that have a value of the column are at their own default, which depends on other parameters."""
    if not DECLARED.depends_on_others(column):
        return False
    rows = frame[applies(frame[column])].drop_duplicates("case_id" if "case_id" in frame else None)
    return all(row[column] == DECLARED.default_in(column, row) for _, row in rows.iterrows())


def facts(frame, skip=()):
    """'n = 4096, d = 64, m = 128, 3 trials': the parameters of the rows, without `skip` and without defaults."""
    found = []
    for column in in_order([*DECLARED.problem_columns(), *DECLARED.method_columns()]):
        values = distinct(frame, column)
        if column in skip or not values or is_said_elsewhere(frame, column):
            continue
        usual = USUAL_SHAPES.get(column, None if column in WORDS and not DECLARED.is_choice(column) else DECLARED.default_of(column))
        if [whole(value) for value in values] == [usual] or is_at_other_default(frame, column):
            continue
        found.append(caption_part(frame, column, values))
    if "trial" in frame and len(frame):
        trials = frame["trial"].nunique()
        found.append(f"{trials} trial{'' if trials == 1 else 's'}")
    return ", ".join(found)
