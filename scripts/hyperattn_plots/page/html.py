"""Pieces of the report's page: text, cells, tables, and the page's style and script, which stand beside this file."""

import html
import math
import re
from pathlib import Path

import numpy as np

from hyperattn_plots.cells import number
from hyperattn_plots.lines import spread


def part_of_page(name):
    """The text of the page's style or script, which stand in files of their own."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def escaped(value):
    return html.escape(str(value))


def anchor_of(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


def cell(value, written=None):
    """A table cell: numbers right-aligned, with their full value for sorting."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        if math.isnan(value):
            return '<td class="number soft" data-value="-Infinity">–</td>'
        return f'<td class="number" data-value="{float(value)!r}">{escaped(written or number(value))}</td>'
    return f'<td class="wide">{escaped(value)}</td>'


def table(heads, rows, sortable=True):
    """Rows of cells that `cell` made."""
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{escaped(name)}</th>" for name in heads)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="table" tabindex="0"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def spread_cell(values, written=number):
    median, low, high = spread(values)
    if math.isnan(median):
        return cell(math.nan)
    text = written(median) if low == high else f"{written(median)} ({written(low)} – {written(high)})"
    return cell(median, text)
