"""Lines through medians with bands, a style for each method, and what a point tells under the mouse."""

import math

import numpy as np

from hyperattn_plots.axes import note_empty, value_axis
from hyperattn_plots.cells import applies, distinct
from hyperattn_plots.labels import label_of, tell_apart, varying
from hyperattn_plots.looks import axis_name, series_styles, variant_places
from hyperattn_plots.problems import goes_in_step


def dodge(positions, index, count):
    """Moves the only position of a series aside, so that the whiskers of several series do not cover each other."""
    return [position * 2 ** (0.09 * (index - (count - 1) / 2)) for position in positions]


def hover(artist, tips):
    """In SVG, each point of the artist (or the artist itself, for a bar) shows its text under the mouse."""
    figure = artist.figure
    texts = getattr(figure, "hover_texts", None)
    if texts is None:
        texts = figure.hover_texts = {}
    gid = f"hover-{len(texts)}"
    artist.set_gid(gid)
    texts[gid] = list(tips)


def spread(values):
    """Median, smallest and largest of the finite values."""
    values = np.asarray(values, dtype=float)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return math.nan, math.nan, math.nan
    return float(np.median(values)), float(values.min()), float(values.max())


def draw_series(axes, x, groups, style, label, x_values=None):
    """A line through the medians with a band from the smallest to the largest of each group; a single point gets
    whiskers. `x_values` are written under the mouse where they differ from the positions. Returns False where nothing
    is finite."""
    points = [(float(at), *spread(group), float(value)) for at, group, value in zip(x, groups, x_values or x)]
    points = [point for point in points if math.isfinite(point[1])]
    if not points:
        return False
    position, median, low, high, values = (np.array(column) for column in zip(*sorted(points)))
    (line,) = axes.plot(position, median, **style)
    tips = []
    for value, middle, smallest, largest in zip(values, median, low, high):
        between = f" ({smallest:.4g} to {largest:.4g})" if largest > smallest else ""
        tips.append(f"{label}\n{value:g}: {middle:.4g}{between}")
    hover(line, tips)
    if len(position) == 1:
        axes.errorbar(position, median, yerr=[median - low, high - median], color=style["color"], capsize=3, fmt="none")
    elif (high > low).any():
        axes.fill_between(position, low, high, color=style["color"], alpha=0.16, linewidth=0)
    return True


def with_series(trials, x=None, within=()):
    """The rows, sorted, with a column `series` (a label for the legend) that tells the methods apart within the problems
    that `within` tells apart, a line style for each (backend, series), and the names of the columns that vary."""
    columns = [column for column in varying(trials, exclude=(x,)) if not (x and goes_in_step(trials, column, x))]
    columns = tell_apart(trials, columns, x, within)
    trials = trials.assign(series=[label_of(row, columns) for _, row in trials.iterrows()])
    trials = trials.sort_values(["backend"] + columns, kind="stable", key=sortable)
    return trials, series_styles(zip(trials["backend"], trials["series"]), variant_places(trials, columns)), columns


def sortable(values):
    """A column of numbers and words in an order."""
    return values.map(lambda value: (isinstance(value, str), value if isinstance(value, str) else 0, 0 if isinstance(value, str) else value)) if values.dtype == object else values


def draw_lines(axes, rows, x, figure, styles):
    """A line over x for each series of the rows; a backend that x does not concern (lsh over the sample size) is a level
    line. Sets the x axis. Returns the styles drawn by label and the values drawn."""
    labels, drawn = {}, []
    single = len(distinct(rows, x)) == 1
    all_series = list(rows.groupby(["backend", "series"], sort=False))
    for index, ((backend, label), series) in enumerate(all_series):
        look = styles[(backend, label)]
        has_x = applies(series[x])
        ok = False
        if has_x.any():
            grouped = series[has_x].groupby(x)[figure]
            keys = [key for key, _ in grouped]
            positions = dodge(keys, index, len(all_series)) if single else keys
            ok = draw_series(axes, positions, [group for _, group in grouped], look, label, keys)
        if not has_x.all():
            median, low, high = spread(series.loc[~has_x, figure])
            level = {**look, "marker": "none"}
            if math.isfinite(median):
                axes.axhline(median, **level)
                axes.axhspan(low, high, color=look["color"], alpha=0.1, linewidth=0)
                look = look if ok else level
                ok = True
        if ok:
            labels[label] = look
            drawn.extend(series[figure])
    if not labels:
        note_empty(axes)
    value_axis(axes.xaxis, distinct(rows, x))
    axes.set_xlabel(axis_name(x))
    return labels, drawn


def in_style_order(styles, labels):
    """The labels that were drawn, in the order of the styles, then the others."""
    ordered = {label: labels[label] for _, label in styles if label in labels}
    return {**ordered, **labels}
