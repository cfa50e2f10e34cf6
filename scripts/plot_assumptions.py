#!/usr/bin/env python3
"""What the paper's guarantee assumes to be small, measured against length: α (with and without the first columns),
α/n, and log κ; a dot for each head where the results have figures of single heads.

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


def pictures(results, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    rows, trials, single_heads = rows_of(results)
    inputs = list(dict.fromkeys(rows["input"]))
    panels = []
    for name in inputs:
        mine = rows[rows["input"] == name]
        for head, label, members, by_length in PANELS:
            present = [(column, legend) for column, legend in members if column in mine and np.isfinite(mine[column].astype(float)).any()]
            if present:
                panels.append((f"{name}: {head}" if len(inputs) > 1 else head, label, mine, present, by_length))
    if not panels:
        raise hr.ResultsError("the results hold neither α nor κ: run with the measures alpha and kappa.")

    picture, axes = style.panel_grid(len(panels))
    labels = {}
    for one, (head, label, mine, members, by_length) in zip(axes, panels):
        drawn = []
        for index, (column, legend) in enumerate(members):
            look = LOOKS[legend]
            values = mine[np.isfinite(mine[column].astype(float))]
            y = values[column] / (values["seq_len"] if by_length else 1.0)
            grouped = y.groupby(values["seq_len"])
            lengths = [n for n, _ in grouped]
            style.draw_series(one, lengths, [group for _, group in grouped], look, legend)
            spread = values["seq_len"] * 2 ** (0.05 * (index - 1))
            one.scatter(spread, y, s=7, color=look["color"], alpha=0.35, linewidth=0)
            labels[legend] = look
            drawn += list(y)
        style.value_axis(one.xaxis, hr.distinct(mine, "seq_len"))
        if label == "log κ":
            one.set_ylim(bottom=min(0, min(drawn)))
        else:
            style.measured_axis(one, drawn)
        one.set_xlabel(style.axis_name("seq_len"))
        one.set_ylabel(label)
        one.set_title(head, loc="left")
    note = f"Lines: median over {'heads and trials' if single_heads else 'trials'}; bands: smallest to largest; dots: each. The paper assumes that α and κ grow more slowly than any power of n."
    style.finish(picture, title or "The paper's assumptions, measured", hr.caption(trials, results, note, skip=("seq_len", "key_len")), style.legend_handles(labels))
    yield "assumptions", picture


def run():
    arguments = hr.arguments(__doc__).parse_args()
    hr.save_pictures(pictures(hr.load_all(arguments.results), arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
