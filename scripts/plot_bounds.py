#!/usr/bin/env python3
"""Measured ε, its two halves (denominators and product), and the ε that theory promises, against sample size, condition
number, bucket count or length: one picture for each of these that the sweep varies, or for those named with --x.

    plot_bounds.py RESULTS.h5 … -o DIR [--x sample_size]
"""

import hyperattn_results as hr
import numpy as np
import plot_style as style

AXES = ["sample_size", "condition_number", "bucket_count", "seq_len"]
MEASURED, PROMISED = "-", "--"
# (legend, column, line style, colour, marker)
CURVES = [
    ("measured ε", "epsilon", MEASURED, "#000000", "o"),  # wide, because often one of its halves lies on it
    ("measured, denominators (2)", "epsilon_diagonal", MEASURED, "#0072B2", "s"),
    ("measured, product (3)", "epsilon_product", MEASURED, "#D55E00", "^"),
    ("promised by Lemma 1", "bound_diagonal", PROMISED, "#0072B2", "s"),
    ("promised by Lemma 2", "bound_product", PROMISED, "#D55E00", "^"),
    ("proven for the product, 99 %", "bound_product_provable", PROMISED, "#009E73", "D"),
]
LARGEST = 1e12  # a promise beyond this is not drawn: it would squeeze all else


def bounds_of(results):
    trials = hr.finished(results).assign(input=hr.input_names)
    if "log_bound_diagonal" in trials:
        trials = trials.assign(bound_diagonal=np.exp(np.minimum(trials["log_bound_diagonal"].astype(float), 700.0)))
    for _, column, _, _, _ in CURVES:
        if column in trials:
            values = trials[column].astype(float)
            trials[column] = values.where(np.isfinite(values) & (values > 0) & (values < LARGEST))
    columns = [column for _, column, _, _, _ in CURVES if column in trials]
    promised = [column for _, column, look, _, _ in CURVES if look == PROMISED and column in trials]
    if not promised or trials[promised].isna().all(axis=None):
        raise hr.ResultsError("the results hold no finite bound: run with the measure bound.")
    return hr.approximate(trials[trials[columns].notna().any(axis=1)])


def beyond_note(trials):
    """What Lemma 1 promises where that is too large to be drawn."""
    if "log_bound_diagonal" not in trials:
        return ""
    logs = trials["log_bound_diagonal"].astype(float)
    beyond = logs[np.isfinite(logs) & (logs >= np.log(LARGEST))]
    return f"Not drawn: what Lemma 1 promises in {len(beyond)} of {len(logs)} trials, up to e^{beyond.max():.0f}. " if len(beyond) else ""


def choose_axes(trials, wanted):
    if wanted:
        missing = [x for x in wanted if not hr.distinct(trials, x)]
        if missing:
            raise hr.ResultsError(f"--x {missing[0]}: no trial has a value of it.", hr.EXIT_CALL)
        return wanted
    return [x for x in AXES if len(hr.distinct(trials, x)) > 1] or ["seq_len"]


def draw_panel(axes, rows, x, labels):
    """Returns the values drawn."""
    drawn = []
    for name, column, line, colour, marker in CURVES:
        if column not in rows or rows[column].isna().all():
            continue
        grouped = rows[rows[column].notna()].groupby(x)[column]
        look = {"color": colour, "marker": marker, "linestyle": line, "linewidth": 3.2 if column == "epsilon" else 1.5}
        if style.draw_series(axes, [key for key, _ in grouped], [group for _, group in grouped], look, name):
            labels[name] = look
            drawn += list(rows[column].dropna())
    axes.axhline(1.0, color="#000000", linewidth=0.8)
    style.value_axis(axes.xaxis, hr.distinct(rows, x))
    axes.set_xlabel(style.axis_name(x))
    return drawn + [1.0]


def pictures(results, axes=None, title=None):
    """Yields (name, figure) for each axis. Raises ResultsError where there is nothing to plot."""
    trials = bounds_of(results)
    for x in choose_axes(trials, axes):
        shown = trials[hr.applies(trials[x])]
        others = [other for other in AXES if other != x and len(hr.distinct(shown, other)) > 1]
        for other in others:  # one slice of a wide sweep: the largest value of what is not on the axis, κ the smallest
            shown = shown[shown[other] == (shown[other].min() if other == "condition_number" else shown[other].max())]
        problems = hr.problem_varying(shown, x=x)
        shown, _, columns = style.with_series(shown, x, problems)
        panels = [
            (f"{problem}: {series}", cases)
            for problem, rows in hr.panels_of(shown, x)
            for (_, series), cases in rows.groupby(["backend", "series"], sort=False)
        ]
        for name, page in style.pages(f"bounds_vs_{x}", panels):
            yield name, picture_of(results, shown, page, x, title, skip=(x, *columns, *problems))


def picture_of(results, shown, panels, x, title, skip):
    picture, grid = style.panel_grid(len(panels))
    labels, drawn = {}, []
    for one, (_, rows) in zip(grid, panels):
        drawn += draw_panel(one, rows, x, labels)
    style.set_titles(grid, [head for head, _ in panels])
    style.same_measured_axis(grid, drawn)
    style.label_rows(grid, "relative error in operator norm")
    note = ("The lemmas' unknown constants are taken for 1. Above the line at 1 a promise is empty: the answer 0 does "
            "no worse. " + beyond_note(shown) + hr.spread_note(shown))
    style.finish(
        picture,
        title or f"Measured and promised error against {style.axis_name(x).split(' (')[0]}",
        hr.caption(shown, results, note, skip),
        style.legend_handles({name: labels[name] for name, *_ in CURVES if name in labels}),
    )
    return picture


def run():
    parser = hr.arguments(__doc__, x=dict(action="append", choices=AXES, help="the horizontal axis; may be given several times (default: all that vary)"))
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    style.save_pictures(pictures(results, arguments.x, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
