#!/usr/bin/env python3
"""What the paper's guarantee assumes to be small, measured against length: α (with and without the first columns),
α/n, and log κ; a dot for each head where the results have figures of single heads. A column of panels for each problem;
figures that depend on the mask have a line for each method.

    plot_assumptions.py RESULTS.h5 … -o DIR
"""

import hyperattn_results as hr
import numpy as np
import plot_style as style

# (panel's title, y label, columns with their legend, whether divided by n)
PANELS = [
    ("α: largest column norm of P", "α", [("alpha", "all columns"), ("alpha_skip", "without the first columns"), ("alpha_node", "causal nodes")], False),
    ("α over n (the paper: falls with n)", "α / n", [("alpha", "all columns"), ("alpha_skip", "without the first columns")], True),
    ("κ: ratio of unmasked row sums", "log κ", [("log_kappa", "mask in use"), ("log_kappa_empty", "empty mask"), ("log_kappa_node", "causal nodes")], False),
]
# Figures of exact attention: equal for all methods on one problem.
OF_PROBLEM = ["alpha", "alpha_skip", "log_kappa_empty"]
# One curve often lies on another: the lower one is wide, the upper one narrow and dashed.
WIDE, DASHED = {"linewidth": 4.0, "linestyle": "-", "markersize": 8}, {"linewidth": 1.4, "linestyle": (0, (4, 2)), "markersize": 4}
LOOKS = {
    "all columns": {"color": "#D55E00", "marker": "o", **WIDE},
    "without the first columns": {"color": "#0072B2", "marker": "s", **DASHED},
    "causal nodes": {"color": "#009E73", "marker": "^", "linestyle": "-"},
    "mask in use": {"color": "#CC79A7", "marker": "D", **WIDE},
    "empty mask": {"color": "#000000", "marker": "v", **DASHED},
}


def rows_of(results):
    """Figures of single heads where there are any, else those of whole trials; once for each head, length, input and mask."""
    trials = hr.finished(results).assign(input=hr.input_names)
    heads = hr.joined(results, "heads")
    columns = {column for _, _, members, _ in PANELS for column, _ in members}
    if len(heads) and columns & set(heads.columns):
        rows = hr.with_trial_columns(heads, trials.drop(columns=[column for column in columns if column in trials]))
        rows = rows[rows["backend"].notna()]
        if any(column in rows and np.isfinite(rows[column].astype(float)).any() for column in columns):
            return rows, trials, True
    return trials, trials, False


def present(rows, column):
    return column in rows and np.isfinite(rows[column].astype(float)).any()


def curves_of(rows, members, labels):
    """(column, legend, rows, look) of each curve: the rows of one method, or of any where all have the same figures."""
    curves = []
    for column, legend in members:
        values = rows[np.isfinite(rows[column].astype(float))]
        if column in OF_PROBLEM:
            keys = [key for key in ("seq_len", "trial", "head", "level") if key in values]
            curves.append((column, legend, values.drop_duplicates([*keys, column]), LOOKS[legend]))
            continue
        methods = alike(values, column, labels)
        for names, mine in methods:
            shown = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more alike"
            look = LOOKS[legend] if len(methods) == 1 else {**LOOKS[legend], **style.method_look(legend, shown)}
            curves.append((column, legend if len(methods) == 1 else f"{legend}: {shown}", mine, look))
    return curves


def alike(rows, column, labels):
    """(methods, rows of the first) of each curve: methods with one mask have the same figures at the last bit."""
    keys = [key for key in ("seq_len", "trial", "head", "level") if key in rows] + [column]
    groups = {}
    for method in dict.fromkeys(labels.loc[rows.index]):
        mine = rows[labels.loc[rows.index] == method]
        groups.setdefault(frozenset(mine[keys].itertuples(index=False, name=None)), []).append((method, mine))
    return [([method for method, _ in group], group[0][1]) for group in groups.values()]


def cut_by_length(rows):
    """The columns that cut an input's rows where each length has one cut: longer problems are cut from longer windows."""
    cuts = [column for column in ("query_rows", "key_rows") if column in rows]
    return [column for column in cuts if (rows.astype({column: str}).groupby(["input", "seq_len"])[column].nunique() <= 1).all()]


def panels_of(rows):
    """(title, y label, rows, members, whether divided by n) of every panel that has a finite value, problem by problem."""
    problems = hr.panels_of(rows, "seq_len", exclude=cut_by_length(rows))
    panels = []
    for problem, mine in problems:
        for head, label, members, by_length in PANELS:
            members = [(column, legend) for column, legend in members if present(mine, column)]
            if members:
                panels.append((f"{problem}: {head}" if len(problems) > 1 else head, label, mine, members, by_length))
    return panels


def draw_panel(axes, curves, label, by_length):
    drawn = []
    for index, (column, legend, rows, look) in enumerate(curves):
        y = rows[column] / (rows["seq_len"] if by_length else 1.0)
        grouped = y.groupby(rows["seq_len"])
        style.draw_series(axes, [n for n, _ in grouped], [group for _, group in grouped], look, legend)
        axes.scatter(rows["seq_len"] * 2 ** (0.05 * (index % 3 - 1)), y, s=7, color=look["color"], alpha=0.35, linewidth=0)
        drawn += list(y)
    if label == "log κ":
        axes.set_ylim(bottom=min(0, min(drawn)))
    else:
        style.measured_axis(axes, drawn)


def pictures(results, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    rows, trials, single_heads = rows_of(results)
    panels = panels_of(rows)
    if not panels:
        raise hr.ResultsError("the results hold neither α nor κ: run with the measures alpha and kappa.")
    problems = hr.problem_varying(rows, cut_by_length(rows), "seq_len")
    columns = hr.tell_apart(rows, hr.varying(rows), "seq_len", problems)
    labels = rows.apply(lambda row: hr.label_of(row, columns), axis=1)
    note = (f"Lines: median over {'heads and trials' if single_heads else 'trials'}; bands: smallest to largest; dots: each. "
            "The paper assumes that α and κ grow more slowly than any power of n.")
    caption = hr.caption(trials, results, note, skip=("seq_len", *columns, *problems))
    for name, page in style.pages("assumptions", panels):
        yield name, picture_of(page, labels, title, caption)


def picture_of(panels, labels, title, caption):
    picture, axes = style.panel_grid(len(panels))
    looks = {}
    for one, (_, label, rows, members, by_length) in zip(axes, panels):
        curves = curves_of(rows, members, labels)
        looks.update({legend: look for _, legend, _, look in curves})
        draw_panel(one, curves, label, by_length)
        style.value_axis(one.xaxis, hr.distinct(rows, "seq_len"))
        one.set_xlabel(style.axis_name("seq_len"))
        one.set_ylabel(label)
    style.set_titles(axes, [head for head, *_ in panels])
    style.finish(picture, title or "The paper's assumptions, measured", caption, style.legend_handles(looks))
    return picture


def run():
    arguments = hr.arguments(__doc__).parse_args()
    style.save_pictures(pictures(hr.load_all(arguments.results), arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
