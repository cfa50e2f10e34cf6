#!/usr/bin/env python3
"""Error of the approximate backends against sample size, bucket count, block size, length, condition number or any other
parameter that is a number: one picture for each that the sweep varies, or for those named with --x. A panel for each
problem, a line for each method.

    plot_error.py RESULTS.h5 … -o DIR [--x sample_size] [--figure epsilon]
"""

import hyperattn_results as hr
import plot_style as style
from hyperattn_plots.declarations import DECLARED
from pandas.api.types import is_bool_dtype, is_numeric_dtype

# Those that most readers look for come first; sizes that follow from others, or that only multiply the work, are no axes
# unless they are asked for.
FIRST = ["sample_size", "bucket_count", "block_size", "seq_len", "condition_number", "spectrum", "min_seq_len"]
ASKED_FOR = ["key_len", "value_dim", "heads", "kv_heads", "batch"]


def numbers(trials):
    """The columns of parameters that are numbers."""
    columns = [*FIRST, *DECLARED.method_columns(), *DECLARED.problem_columns()]
    found = [name for name in dict.fromkeys(columns) if name in trials and is_numeric_dtype(trials[name]) and not is_bool_dtype(trials[name])]
    return [name for name in found if not DECLARED.is_choice(name)]


def choose_axes(trials, wanted):
    if wanted:
        unknown = [x for x in wanted if x not in numbers(trials)]
        if unknown:
            raise hr.ResultsError(f"--x {unknown[0]}: is no parameter that is a number; these are: {', '.join(numbers(trials))}.", hr.EXIT_CALL)
        missing = [x for x in wanted if not hr.distinct(trials, x)]
        if missing:
            raise hr.ResultsError(f"--x {missing[0]}: no trial has a value of it.", hr.EXIT_CALL)
        return wanted
    inputs = [rows for _, rows in trials.groupby("input")]
    axes = [x for x in numbers(trials) if x not in ASKED_FOR]
    return [x for x in axes if any(varies(rows, x) for rows in inputs)] or ["seq_len"]


def varies(rows, x):
    """No sample beside one sample size is a choice, no axis."""
    return len(set(hr.distinct(rows, x)) - ({0} if x == "sample_size" else set())) > 1


def panels_of(trials, x):
    """(title, rows) for each problem; lengths share a panel where n is the x axis."""
    panels = hr.panels_of(trials, x, always=("input", "seq_len"))
    varied = [panel for panel in panels if len(hr.distinct(panel[1], x)) > 1]  # unless it varies nowhere
    return varied or panels


def picture_over(x, results, trials, panels, figure, title):
    shown = trials.loc[[index for _, rows in panels for index in rows.index]]
    problems = hr.problem_varying(shown, x=x)
    shown, styles, columns = style.with_series(shown, x, problems)
    picture, axes = style.panel_grid(len(panels))
    labels = {}
    for one, (_, rows) in zip(axes, panels):
        drawn_labels, _ = style.draw_lines(one, shown[shown.index.isin(rows.index)], x, figure, styles)
        labels.update(drawn_labels)
        style.measured_axis(one, shown[figure])  # linear or logarithmic in all panels alike
    style.set_titles(axes, [panel for panel, _ in panels])
    style.label_rows(axes, style.figure_name(figure))
    note = hr.spread_note(shown)
    if len(results) > 1:
        note += " Files: " + ", ".join(hr.file_names(results)) + "."
    style.finish(
        picture,
        title or f"Error of approximate attention against {style.axis_name(x).split(' (')[0]}",
        hr.caption(shown, results, note, skip=(x, *columns, *problems)),
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
        for name, panels in style.pages(f"error_vs_{x}", panels_of(trials, x)):
            yield name, picture_over(x, results, trials, panels, figure, title)


def run():
    parser = hr.arguments(
        __doc__,
        x=dict(action="append", help="the horizontal axis, such as sample_size; may be given several times (default: all that vary)"),
        figure=dict(help=f"the column of /trials to plot (default: the first there is of {', '.join(hr.error_figures())})"),
    )
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    style.save_pictures(pictures(results, arguments.x, arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
