"""Panels, the scales of their axes, and the numbers at the ticks."""

import math

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from hyperattn_plots.looks import plt

PANEL_WIDTH, PANEL_HEIGHT = 4.0, 3.1  # inches
SINGLE_PANEL = (6.8, 3.9)
MAX_COLUMNS = 3


def panel_grid(count, columns=None):
    """A figure with `count` panels, at most MAX_COLUMNS beside each other unless told otherwise; returns it and the
    axes in order."""
    columns = min(columns or (2 if count == 4 else MAX_COLUMNS), max(count, 1))
    rows = math.ceil(max(count, 1) / columns)
    width, height = SINGLE_PANEL if count <= 1 else (PANEL_WIDTH * columns, PANEL_HEIGHT * rows)
    if count == 2:
        width = 2 * 4.4
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False, constrained_layout=True)
    axes = list(axes.flat)
    for unused in axes[count:]:
        unused.set_visible(False)
    return figure, axes[:count]


def label_rows(axes, text):
    """The y label, once for each row of panels."""
    for one in axes:
        if one.get_subplotspec().is_first_col():
            one.set_ylabel(text)


def note_empty(axes, message="no finite values"):
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color="#777777")


def plain_number(value):
    """4096 -> 4096, 0.25 -> 0.25, 1e6 -> 10⁶."""
    if value <= 0:
        return f"{value:g}"
    exponent = math.log10(value)
    if abs(exponent) >= 6 and abs(exponent - round(exponent)) < 1e-9:
        return f"$10^{{{round(exponent)}}}$"
    return f"{value:.0f}" if value >= 1 and float(value).is_integer() else f"{value:.3g}"


def measured_number(value):
    """0.01, 5, 2000 as they are; very small and very large numbers as powers of ten."""
    if value > 0 and not 1e-3 <= value < 1e5:
        exponent = math.floor(math.log10(value) + 1e-9)
        factor = value / 10.0**exponent
        return f"$10^{{{exponent}}}$" if abs(factor - 1) < 1e-6 else f"${factor:.2g}\\cdot10^{{{exponent}}}$"
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def written_time(seconds):
    """0.0015 -> 1.5 ms."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale * 0.9999:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def value_axis(axis, values, log=None):
    """Ticks at the values that were run; a log scale if they span a factor of two or more."""
    values = sorted({float(value) for value in values if np.isfinite(value)})
    if not values:
        return
    positive = values[0] > 0
    if positive and (log is True or log is None and (len(values) == 1 or values[-1] / values[0] >= 2)):
        axis._set_axes_scale("log", base=2)
    elif log is None and len(values) > 2 and values[0] == 0 and values[-1] / values[1] >= 4:
        # 0 (no sample) stands beside the powers of two.
        axis._set_axes_scale("symlog", base=2, linthresh=values[1], linscale=1)
    ticks = values
    if len(values) > 9:
        step = math.ceil(len(values) / 8)
        ticks = values[::step]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain_number(value)))
    if axis.axis_name == "x" and sum(len(plain_number(tick)) for tick in ticks) > 34:
        axis.set_tick_params(rotation=35)
    if len(values) == 1:
        centre = values[0]
        axis.axes.set_xlim((centre / 2, centre * 2) if positive else (centre - 1, centre + 1))


def few_decades(axis, written=measured_number):
    """Ticks of a logarithmic axis: more than one in each decade where it spans too few decades for decade ticks alone."""
    low, high = axis.get_view_interval()
    axis.set_major_formatter(FuncFormatter(lambda value, _: written(value)))
    axis.set_minor_formatter(NullFormatter())
    if math.log10(high / low) >= 2.2:
        return
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    axis.set_major_locator(FixedLocator(ticks))


def measured_axis(axes, values):
    """The y scale of a measured figure: logarithmic where all values are positive and differ by more than 3 times."""
    values = np.asarray([value for value in values if np.isfinite(value)], dtype=float)
    if len(values) and values.min() > 0 and values.max() / values.min() > 3:
        axes.set_yscale("log")
        few_decades(axes.yaxis)
    elif len(values) and values.min() >= 0:
        top = axes.get_ylim()[1]
        drawn = axes.dataLim.y1  # a marker at the top is drawn whole
        axes.set_ylim(0, max(top, 1.04 * drawn) if np.isfinite(drawn) else top)


def same_measured_axis(panels, values):
    """One y scale and range for all panels, so that curves can be compared across them."""
    for axes in panels[1:]:
        axes.sharey(panels[0])
    panels[0].autoscale(axis="y")
    for axes in panels:
        measured_axis(axes, values)
