#!/usr/bin/env python3
"""Causal attention: speedup and error against length, against min_seq_len (the size of an exact leaf of the
recursion) at the longest length, and the error of each level of the recursion. One column of panels for each input;
panels without data are left out.

    plot_causal.py RESULTS.h5 … -o DIR [--figure epsilon]
"""

import hyperattn_results as hr
import numpy as np
import plot_style as style

OVER_LEAF = ", over min_seq_len"  # what the legend calls lines along that axis


def level_rows(results, trials, figure):
    """/levels with the columns of the trial, for the longest length of each input, and the query rows of a level's
    nodes: half of the sequence at the last level, half as many at each level before."""
    levels = hr.joined(results, "levels")
    if levels.empty or figure not in levels:
        return levels.iloc[:0]
    if "head" in levels:  # -1: the maximum over heads
        levels = levels[levels["head"] == -1]
    levels = hr.with_trial_columns(levels, trials.drop(columns=[figure], errors="ignore"))
    levels = levels[levels["backend"].notna() & levels[figure].notna()]
    levels = levels[levels["seq_len"] == levels["seq_len"].max()] if len(levels) else levels
    above = levels.groupby(["file", "case_id", "trial"])["level"].transform("max") - levels["level"]
    return levels.assign(node_rows=np.ceil(levels["seq_len"] / 2.0 ** (above + 1)))


def pictures(results, figure=None, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    trials = hr.finished(results).assign(input=hr.input_names)
    trials = trials[trials["causal"] & ~trials["backend"].isin(hr.EXACT_BACKENDS)]
    if trials.empty:
        raise hr.ResultsError("the results hold no finished causal trial of an approximate backend.")
    if figure or any(name in trials and trials[name].notna().any() for name in hr.ERROR_FIGURES):
        figure = hr.choose_figure(trials, figure)
    trials, styles, columns = style.with_series(trials)

    panels = []  # (rows, x, y, head), input by input
    inputs = trials["input"].nunique()
    for name, rows in trials.groupby("input", sort=False):
        head = f"{name}: " if inputs > 1 else ""
        forward = rows[rows["pass"] == "forward"] if (rows["pass"] == "forward").any() else rows
        longest = rows[rows["seq_len"] == rows["seq_len"].max()]
        n = longest["seq_len"].iloc[0]
        if forward["speedup"].notna().any():
            panels.append((forward, "seq_len", "speedup", head + "speedup against length"))
        if figure and rows[figure].notna().any():
            panels.append((rows, "seq_len", figure, head + "error against length"))
        if len(hr.distinct(longest, "min_seq_len")) > 1:
            for column, what in (("speedup", "speedup"), (figure, "error")):
                if column and longest[column].notna().any():
                    panels.append((longest, "min_seq_len", column, f"{head}{what} at n = {n}"))
        levels = level_rows(results, rows, figure) if figure else rows.iloc[:0]
        if len(levels):
            panels.append((levels, "node_rows", figure, f"{head}error of each level at n = {n}"))
    if not panels:
        raise hr.ResultsError("the causal trials hold neither a speedup nor an error figure.")

    columns_of_inputs = inputs > 1 and len(panels) % inputs == 0
    if columns_of_inputs:  # as many of each: one row of panels for each quantity
        each = len(panels) // inputs
        panels = [panels[column * each + row] for row in range(each) for column in range(inputs)]
    picture, axes = style.panel_grid(len(panels), inputs if columns_of_inputs else None)
    labels = {}
    over_min, styles_over_min, _ = style.with_series(trials, exclude=("min_seq_len",))
    for one, (rows, x, y, head) in zip(axes, panels):
        looks = styles
        if x == "min_seq_len":  # there min_seq_len is no longer what tells series apart
            rows = rows.assign(series=over_min["series"].reindex(rows.index))
            looks = {key: {**look, "linestyle": "-", "marker": "P"} for key, look in styles_over_min.items()}
        drawn_labels, drawn = style.draw_lines(one, rows, x, y, looks)
        labels.update({label + OVER_LEAF * (x == "min_seq_len"): look for label, look in drawn_labels.items()})
        if y == "speedup":
            one.axhline(1.0, color="#000000", linewidth=0.9)
        style.measured_axis(one, drawn + ([1.0] if y == "speedup" else []))
        one.set_ylabel("speedup over the best exact backend" if y == "speedup" else style.figure_name(y))
        one.set_title(head, loc="left")
    style.finish(
        picture,
        title or "Causal attention by recursion",
        hr.caption(trials, results, hr.spread_note(trials), skip=("seq_len", "key_len", *columns)),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    yield "causal", picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the error column (default: the first there is of {', '.join(hr.ERROR_FIGURES)})"))
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    hr.save_pictures(pictures(results, arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
