#!/usr/bin/env python3
"""Error of the approximate backends against sample size, bucket count, block size, length, condition number, spectrum or
min_seq_len: one picture for each of these that the sweep varies, or for those named with --x.

    plot_error.py RESULTS.h5 … -o DIR [--x sample_size] [--figure epsilon]
"""

import hyperattn_results as hr
import plot_style as style

AXES = ["sample_size", "bucket_count", "block_size", "seq_len", "condition_number", "spectrum", "min_seq_len"]


def choose_axes(trials, wanted):
    if wanted:
        missing = [x for x in wanted if not hr.distinct(trials, x)]
        if missing:
            raise hr.ResultsError(f"--x {missing[0]}: no trial has a value of it.", hr.EXIT_CALL)
        return wanted
    inputs = [rows for _, rows in trials.groupby("input")]
    return [x for x in AXES if any(varies(rows, x) for rows in inputs)] or ["seq_len"]


def varies(rows, x):
    """No sample beside one sample size is a choice, no axis."""
    return len(set(hr.distinct(rows, x)) - ({0} if x == "sample_size" else set())) > 1


def panels_of(trials, x):
    """(title, rows) for each input, length and mask of the problem; lengths share a panel where n is the x axis."""
    by = ["input", "causal"] + [column for column in ("seq_len", "key_len", "condition_number") if column != x]
    if x == "seq_len":
        by.remove("key_len")
    panels = []
    for _, rows in trials.groupby(by, dropna=False, sort=False):
        # Only inputs over which x varies, unless it varies nowhere.
        panels.append((panel_title(rows, trials, x), rows))
    varied = [panel for panel in panels if len(hr.distinct(panel[1], x)) > 1]
    return varied or panels


def panel_title(rows, trials, x):
    first = rows.iloc[0]
    parts = [str(first["input"])]
    if x != "seq_len":
        parts.append(f"n = {first['seq_len']}" if first["seq_len"] == first["key_len"] else f"{first['seq_len']} queries, {first['key_len']} keys")
    if x != "condition_number" and len(hr.distinct(trials, "condition_number")) > 1 and hr.distinct(rows, "condition_number"):
        parts.append(f"κ = {hr.number(first['condition_number'])}")
    if len(hr.distinct(trials, "causal")) > 1 or first["causal"]:
        parts.append("causal" if first["causal"] else "no mask")
    return ", ".join(parts)


def picture_over(x, results, trials, figure, title):
    panels = panels_of(trials, x)
    shown = trials.loc[[index for _, rows in panels for index in rows.index]]
    shown, styles, columns = style.with_series(shown, exclude=(x, "condition_number"))
    picture, axes = style.panel_grid(len(panels))
    labels = {}
    for one, (panel, rows) in zip(axes, panels):
        drawn_labels, _ = style.draw_lines(one, shown[shown.index.isin(rows.index)], x, figure, styles)
        labels.update(drawn_labels)
        style.measured_axis(one, shown[figure])  # linear or logarithmic in all panels alike
        one.set_title(panel, loc="left")
    style.label_rows(axes, style.figure_name(figure))
    note = hr.spread_note(shown)
    if len(results) > 1:
        note += " Files: " + ", ".join(one.path.name for one in results) + "."
    style.finish(
        picture,
        title or f"Error of approximate attention against {style.axis_name(x).split(' (')[0]}",
        hr.caption(shown, results, note, skip=(x, *columns, "seq_len" if len(hr.distinct(shown, "seq_len")) > 1 else "")),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    return picture


def pictures(results, axes=None, figure=None, title=None):
    """Yields (name, figure) for each axis. Raises ResultsError where there is nothing to plot."""
    trials = hr.finished(results).assign(input=hr.input_names)
    figure = hr.choose_figure(trials, figure)
    # The exact backends have rounding errors only, which would squeeze the rest of a log scale.
    trials = hr.approximate(trials[trials[figure].notna()])
    if trials.empty:
        raise hr.ResultsError(f"no finished trial has a value of {figure}.")
    for x in choose_axes(trials, axes):
        yield f"error_vs_{x}", picture_over(x, results, trials, figure, title)


def run():
    parser = hr.arguments(
        __doc__,
        x=dict(action="append", choices=AXES, help="the horizontal axis; may be given several times (default: all that vary)"),
        figure=dict(help=f"the column of /trials to plot (default: the first there is of {', '.join(hr.ERROR_FIGURES)})"),
    )
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    hr.save_pictures(pictures(results, arguments.x, arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
