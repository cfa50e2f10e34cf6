#!/usr/bin/env python3
"""Causal attention: speedup and error against length, against min_seq_len (the size of an exact leaf of the
recursion) at the longest length, and the error of each level of the recursion. One column of panels for each problem;
panels without data are left out.

    plot_causal.py RESULTS.h5 … -o DIR [--figure epsilon]
"""

import hyperattn_results as hr
import numpy as np
import pandas as pd
import plot_style as style

MOST_PROBLEMS = 8  # of one picture
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
    trials = trials[trials["causal"] & ~hr.is_exact(trials)]
    if trials.empty:
        raise hr.ResultsError("the results hold no finished causal trial of an approximate backend.")
    if figure or any(name in trials and trials[name].notna().any() for name in hr.error_figures()):
        figure = hr.choose_figure(trials, figure)
    problems = [(problem, panels) for problem, rows in problems_of(trials) if (panels := panels_of(results, rows, figure))]
    if not problems:
        raise hr.ResultsError("the causal trials hold neither a speedup nor an error figure.")
    for name, page in style.pages("causal", problems, MOST_PROBLEMS):
        yield name, picture_of(results, trials, page, title)


def problems_of(trials):
    """(title, rows) of each problem; a study that times the backward pass, too, is shown forward."""
    forward = trials[trials["pass"] == "forward"] if (trials["pass"] == "forward").any() else trials
    return hr.panels_of(forward, "seq_len")


def panels_of(results, rows, figure):
    """(rows, x, y, title without the problem) of one problem."""
    panels = []
    longest = rows[rows["seq_len"] == rows["seq_len"].max()]
    n = longest["seq_len"].iloc[0]
    if rows["speedup"].notna().any():
        panels.append((rows, "seq_len", "speedup", "speedup against length"))
    if figure and rows[figure].notna().any():
        panels.append((rows, "seq_len", figure, "error against length"))
    if len(hr.distinct(longest, "min_seq_len")) > 1:
        for column, what in (("speedup", "speedup"), (figure, "error")):
            if column and longest[column].notna().any():
                panels.append((longest, "min_seq_len", column, f"{what} at n = {n}"))
    levels = level_rows(results, rows, figure) if figure else rows.iloc[:0]
    if len(levels):
        panels.append((levels, "node_rows", figure, f"error of each level at n = {n}"))
    return panels


def picture_of(results, trials, problems, title):
    panels = [(rows, x, y, f"{problem}: {head}" if len(problems) > 1 else head) for problem, mine in problems for rows, x, y, head in mine]
    each = {len(mine) for _, mine in problems}
    across = len(problems) if len(problems) > 1 and len(each) == 1 and len(problems) <= 4 else None
    if across:  # as many of each: one row of panels for each quantity
        count = each.pop()
        panels = [panels[column * count + row] for row in range(count) for column in range(across)]
    told = hr.problem_varying(trials, x="seq_len")
    names, styles, columns = style.with_series(trials, "seq_len", told)
    leaves, leaf_styles, _ = style.with_series(trials, "min_seq_len", [*told, "seq_len"])
    leaf_styles = {key: {**look, "linestyle": "-", "marker": "P"} for key, look in leaf_styles.items()}
    picture, axes = style.panel_grid(len(panels), across)
    labels = {}
    for one, (rows, x, y, _) in zip(axes, panels):
        # Where min_seq_len is the axis, it is no longer what tells series apart.
        series, looks = (leaves, leaf_styles) if x == "min_seq_len" else (names, styles)
        drawn_labels, drawn = style.draw_lines(one, with_names(rows, series), x, y, looks)
        labels.update({label + OVER_LEAF * (x == "min_seq_len"): look for label, look in drawn_labels.items()})
        if y == "speedup":
            one.axhline(1.0, color="#000000", linewidth=0.9)
        style.measured_axis(one, drawn + ([1.0] if y == "speedup" else []))
        one.set_ylabel("speedup over the best exact backend" if y == "speedup" else style.figure_name(y))
    style.set_titles(axes, [head for *_, head in panels])
    style.finish(
        picture,
        title or "Causal attention by recursion",
        hr.caption(trials, results, hr.spread_note(trials), skip=("seq_len", *columns, *(told if len(problems) > 1 else ()))),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    return picture


def with_names(rows, named):
    """The rows with the series that `named` gives the trial of each."""
    keys = ["file", "case_id"]
    series = named.drop_duplicates(keys).set_index(keys)["series"]
    return rows.assign(series=series.reindex(pd.MultiIndex.from_frame(rows[keys])).to_numpy())


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the error column (default: the first there is of {', '.join(hr.error_figures())})"))
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    style.save_pictures(pictures(results, arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
