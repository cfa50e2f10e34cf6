"""What the plots draw with, under one name: looks, panels, lines, what stands around them so that it never covers data,
PNG and SVG. It is made in hyperattn_plots."""

from hyperattn_plots.axes import (
    few_decades,
    label_rows,
    measured_axis,
    measured_number,
    panel_grid,
    plain_number,
    same_measured_axis,
    value_axis,
    written_time,
)
from hyperattn_plots.frame import LEGEND_WIDTH, MOST_PANELS, finish, legend_handles, pages, set_titles, tick_names
from hyperattn_plots.lines import draw_lines, draw_series, hover, in_style_order, sortable, spread, with_series
from hyperattn_plots.looks import (
    BACKEND_COLOURS,
    DASHES,
    MARKERS,
    axis_name,
    backend_colour,
    figure_name,
    method_look,
    method_styles,
    plt,
    series_styles,
)
from hyperattn_plots.picture_files import save_pictures, svg_text

__all__ = [
    "BACKEND_COLOURS", "DASHES", "LEGEND_WIDTH", "MARKERS", "MOST_PANELS", "axis_name", "backend_colour", "draw_lines", "draw_series",
    "few_decades", "figure_name", "finish", "hover", "in_style_order", "label_rows", "legend_handles", "measured_axis", "measured_number",
    "method_look", "method_styles", "pages", "panel_grid", "plain_number", "plt", "same_measured_axis", "save_pictures", "series_styles",
    "set_titles", "sortable", "spread", "svg_text", "tick_names", "value_axis", "with_series", "written_time",
]  # fmt: skip
