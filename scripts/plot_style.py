"""One look for all pictures: colours by backend (told apart by the colour-blind too), panels, legend and caption
outside the axes so that they never cover data, PNG and SVG."""

import io
import math
import xml.etree.ElementTree as ElementTree
import zlib
from pathlib import Path

import hyperattn_results as hr
import matplotlib
from hyperattn_plots import shown_text
from hyperattn_plots.declarations import DECLARED
from hyperattn_plots.labels import goes_in_step, word

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator  # noqa: E402

# Okabe and Ito's palette, which keeps its differences under the common kinds of colour blindness.
BACKEND_COLOURS = {
    "exact": "#000000",
    "dense": "#7f7f7f",
    "reference": "#b0b0b0",
    "lsh": "#0072B2",
    "hyper": "#D55E00",
    "tree": "#009E73",
}
OTHER_COLOURS = ["#882255", "#CC79A7", "#E69F00", "#56B4E9", "#6A4C93", "#8C6D31"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "*"]
DASHES = ["-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2))]

PANEL_WIDTH, PANEL_HEIGHT = 4.0, 3.1  # inches
SINGLE_PANEL = (6.8, 3.9)
MAX_COLUMNS = 3

plt.rcParams.update(
    {
        "font.family": shown_text.installed_fonts(),
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e3e3e3",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.5,
        "lines.markersize": 4.5,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "hyperattn",  # the same picture gives the same file
    }
)

shown_text.ignore_missing_characters()

FIGURE_NAMES = {
    "epsilon": "ε = ‖E‖ / (‖P‖ ‖V‖)",
    "epsilon_diagonal": "ε of the diagonal (inequality 2)",
    "epsilon_product": "ε of the product (inequality 3)",
    "error_op": "‖E‖ (operator norm)",
    "error_op_rel": "‖E‖ / ‖PV‖ (operator norm)",
    "error_fro_rel": "‖E‖ / ‖PV‖ (Frobenius norm)",
    "error_max": "largest entry of |E|",
    "error_lse": "largest error of the log-sum-exp",
    "seconds": "time (s)",
    "speedup": "speedup over the best exact backend",
    "gflops": "GFLOP/s",
    "alpha": "α",
    "log_kappa": "log κ",
    "bits_per_byte_over_exact": "bits per byte above exact attention",
    "bits_per_token_over_exact": "bits per token above exact attention",
    "query_moves": "share of rows that later queries move",
}
AXIS_NAMES = {
    "seq_len": "sequence length n",
    "key_len": "number of keys",
    "sample_size": "sample size m (sampled keys)",
    "bucket_count": "bucket count (hash buckets)",
    "block_size": "block size b (keys per block)",
    "condition_number": "condition number κ (wanted, empty mask)",
    "spectrum": "spectrum of Q and K (largest over smallest singular value)",
    "min_seq_len": "min_seq_len (rows of an exact leaf)",
    "node_rows": "query rows of a node of the level",
    "head_dim": "head dimension d",
}


def with_unit(name, column):
    unit = DECLARED.columns.get(column, {}).get("unit")
    return f"{name} ({unit})" if unit else name


def figure_name(column):
    return FIGURE_NAMES.get(column) or with_unit(shown_text.escaped(column), column)


def axis_name(column):
    return AXIS_NAMES.get(column) or with_unit(shown_text.escaped(word(column)), column)


def backend_colour(backend, known=()):
    """The backend's own colour; backends without one take the others in the order in which they appear."""
    if backend in BACKEND_COLOURS:
        return BACKEND_COLOURS[backend]
    others = [name for name in known if name not in BACKEND_COLOURS]
    return OTHER_COLOURS[others.index(backend) % len(OTHER_COLOURS)] if backend in others else OTHER_COLOURS[0]


def shade(colour, step, steps):
    """From the full colour (step 0) towards white, never so pale that it is lost on paper."""
    weight = 0.0 if steps <= 1 else 0.55 * step / (steps - 1)
    return tuple((1 - weight) * channel + weight for channel in to_rgb(colour))


def series_styles(keys, variants=None):
    """One line style for each (backend, label). `variants` gives each key its place among the values of the parameter
    that sets the shade and among all others, which set marker and dashes; without it every label is a shade."""
    keys = list(dict.fromkeys(keys))
    backends = list(dict.fromkeys(backend for backend, _ in keys))
    styles = {}
    for backend in backends:
        mine = [key for key in keys if key[0] == backend]
        places = {key: variants[key] for key in mine} if variants else {key: (step, step) for step, key in enumerate(mine)}
        shades = sorted({place[0] for place in places.values()})
        for key, (shading, marking) in places.items():
            styles[key] = {
                "color": shade(backend_colour(backend, backends), shades.index(shading), len(shades)),
                "marker": MARKERS[marking % len(MARKERS)],
                "linestyle": DASHES[marking % len(DASHES)],
            }
    return styles


def variant_places(trials, columns):
    """For `series_styles`: the parameter with the most values sets the shade, the combinations of the others the marker."""
    if len(columns) < 2:
        return None
    shading = max(columns, key=lambda column: len(hr.distinct(trials, column)))
    others = [column for column in columns if column != shading]
    shades = {value: place for place, value in enumerate(hr.distinct(trials, shading))}
    places, seen = {}, {}
    for _, row in trials.drop_duplicates(["backend", "series"]).iterrows():
        rest = tuple(str(row[column]) for column in others)
        marks = seen.setdefault(row["backend"], {})
        places[(row["backend"], row["series"])] = (shades.get(row[shading], 0), marks.setdefault(rest, len(marks)))
    return places


def method_styles(keys):
    """One marker and colour for each (backend, method); methods of one backend get colours far apart. The first
    method of a backend has the backend's colour; no two of the first fifty look alike."""
    keys = list(dict.fromkeys(keys))
    styles, others, seen = {}, 0, set()
    for index, key in enumerate(keys):
        if key[0] in BACKEND_COLOURS and key[0] not in seen:
            colour = BACKEND_COLOURS[key[0]]
        else:
            colour = OTHER_COLOURS[others % len(OTHER_COLOURS)]
            others += 1
        # The shift keeps colour and marker from coming round together.
        styles[key] = {"color": colour, "marker": MARKERS[(index + index // 30) % len(MARKERS)]}
        seen.add(key[0])
    return styles


def method_look(*key):
    """A marker and a shade for one of many curves of a kind: the same for the same names in every panel."""
    place = zlib.crc32("/".join(key).encode())
    return {"marker": MARKERS[place % len(MARKERS)], "linestyle": DASHES[place // len(MARKERS) % len(DASHES)]}


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


def dodge(positions, index, count):
    """Moves the only position of a series aside, so that the whiskers of several series do not cover each other."""
    return [position * 2 ** (0.09 * (index - (count - 1) / 2)) for position in positions]


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


def written_time(seconds):
    """0.0015 -> 1.5 ms."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale * 0.9999:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


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
    columns = [column for column in hr.varying(trials, exclude=(x,)) if not (x and goes_in_step(trials, column, x))]
    columns = hr.tell_apart(trials, columns, x, within)
    trials = trials.assign(series=[hr.label_of(row, columns) for _, row in trials.iterrows()])
    trials = trials.sort_values(["backend"] + columns, kind="stable", key=sortable)
    return trials, series_styles(zip(trials["backend"], trials["series"]), variant_places(trials, columns)), columns


def sortable(values):
    """A column of numbers and words in an order."""
    return values.map(lambda value: (isinstance(value, str), value if isinstance(value, str) else 0, 0 if isinstance(value, str) else value)) if values.dtype == object else values


def draw_lines(axes, rows, x, figure, styles):
    """A line over x for each series of the rows; a backend that x does not concern (lsh over the sample size) is a level
    line. Sets the x axis. Returns the styles drawn by label and the values drawn."""
    labels, drawn = {}, []
    single = len(hr.distinct(rows, x)) == 1
    all_series = list(rows.groupby(["backend", "series"], sort=False))
    for index, ((backend, label), series) in enumerate(all_series):
        look = styles[(backend, label)]
        has_x = hr.applies(series[x])
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
    value_axis(axes.xaxis, hr.distinct(rows, x))
    axes.set_xlabel(axis_name(x))
    return labels, drawn


def in_style_order(styles, labels):
    """The labels that were drawn, in the order of the styles, then the others."""
    ordered = {label: labels[label] for _, label in styles if label in labels}
    return {**ordered, **labels}


LEGEND_WIDTH, TITLE_WIDTH, TICK_WIDTH = 90, 130, 60  # characters


def legend_handles(labels_and_styles):
    """Handles whose labels are set as they are; `finish` tells in the caption what a shortened one stands for."""
    names = shown_text.shortened_names(labels_and_styles, LEGEND_WIDTH)
    handles = []
    for label, style in labels_and_styles.items():
        # matplotlib leaves out what begins with an underscore.
        shown = " " + names[label] if names[label].startswith("_") else names[label]
        handles.append(Line2D([], [], label=shown_text.escaped(shown), **style))
        handles[-1].stands_for = (names[label], label)
    return handles


def set_titles(panels, titles):
    """Titles of panels beside each other: wrapped, and shortened so that they stay distinct."""
    names = shown_text.shortened_names(titles, TITLE_WIDTH)
    for axes, title in zip(panels, titles):
        width = axes.figure.get_size_inches()[0] / max(1, axes.get_subplotspec().get_gridspec().ncols)
        axes.set_title(shown_text.escaped("\n".join(shown_text.wrapped(names[title], int(width / 0.078)))), loc="left")


def tick_names(names):
    """Names for the ticks of bars: shortened so that they stay distinct."""
    short = shown_text.shortened_names(names, TICK_WIDTH)
    return [shown_text.escaped(short[name]) for name in names]


MOST_PANELS = 36


def pages(name, panels, most=MOST_PANELS):
    """(name, panels) for each picture: more panels than one holds make several, name_2, name_3, …"""
    for page, first in enumerate(range(0, len(panels), most)):
        yield (name if page == 0 else f"{name}_{page + 1}"), panels[first : first + most]


def note_empty(axes, message="no finite values"):
    axes.text(0.5, 0.5, message, transform=axes.transAxes, ha="center", va="center", color="#777777")


def finish(figure, title, caption="", handles=()):
    """Title above, legend and caption below the panels: the figure grows by what they need."""
    width, panels = figure.get_size_inches()
    title_lines = shown_text.wrapped(shown_text.shortened(title, 400), max(20, int(width / 0.105)))
    top = 0.1 + 0.21 * len(title_lines)
    shortened = [pair for pair in (getattr(handle, "stands_for", None) for handle in handles) if pair and pair[0] != pair[1]]
    caption = " ".join([caption, *(f"“{short}” is {whole_label}." for short, whole_label in shortened)])
    caption_lines = shown_text.wrapped(caption, max(30, int((width - 0.2) / 0.0655)))
    bottom = 0.08 + 0.145 * len(caption_lines)

    legend_height = 0.0
    if handles:
        legend = None
        renderer = figure.canvas.get_renderer()
        for columns in range(min(len(handles), 5), 0, -1):
            if legend is not None:
                legend.remove()
            legend = figure.legend(handles=list(handles), loc="lower center", ncol=columns, handlelength=2.8, columnspacing=1.6)
            box = legend.get_window_extent(renderer)
            if box.width / figure.dpi <= width - 0.2 or columns == 1:
                legend_height = box.height / figure.dpi
                break
    height = panels + top + bottom + legend_height
    figure.set_size_inches(width, height)
    figure.get_layout_engine().set(rect=(0, (bottom + legend_height) / height, 1, panels / height), h_pad=0.06, w_pad=0.06)
    if handles:
        legend.set_bbox_to_anchor((0.5, bottom / height), transform=figure.transFigure)
        legend.set_in_layout(False)
    figure.text(0.1 / width, 1 - 0.08 / height, shown_text.escaped("\n".join(title_lines)), fontsize=11.5, fontweight="bold", va="top", ha="left").set_in_layout(False)
    if caption_lines:
        figure.text(0.1 / width, 0.06 / height, shown_text.escaped("\n".join(caption_lines)), fontsize=7.5, color="#444444", va="bottom", ha="left", linespacing=1.35).set_in_layout(False)


def svg_text(figure, prefix=""):
    """The picture as SVG, with the texts of `hover` as titles; `prefix` keeps the ids of several pictures on one page
    apart."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=bool(prefix))
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        texts = getattr(figure, "hover_texts", {}).get(element.get("id"))
        if texts:
            add_titles(element, texts)
    if prefix:
        add_prefix(root, prefix)
    return ElementTree.tostring(root, encoding="unicode")


SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


def add_titles(element, texts):
    # matplotlib writes markers as uses of one shape, or as a path each; a bar is one path.
    shapes = {path for definitions in element.iter(f"{{{SVG}}}defs") for path in definitions.iter(f"{{{SVG}}}path")}
    uses = list(element.iter(f"{{{SVG}}}use"))
    targets = uses or [path for path in element.iter(f"{{{SVG}}}path") if path not in shapes]
    if len(targets) != len(texts):  # points that were clipped away: better no text than a wrong one
        return
    for target, text in zip(targets, texts):
        title = ElementTree.SubElement(target, f"{{{SVG}}}title")
        title.text = text
        target.set("class", "point")


def add_prefix(root, prefix):
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, prefix + value)
            elif key.endswith("href") and value.startswith("#"):
                element.set(key, "#" + prefix + value[1:])
            elif "url(#" in value:
                element.set(key, value.replace("url(#", "url(#" + prefix))


def save(figure, directory, name):
    """Writes NAME.png and NAME.svg, prints their paths and closes the figure."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    png, svg = directory / f"{name}.png", directory / f"{name}.svg"
    image = io.BytesIO()
    figure.savefig(image, dpi=150, format="png")
    hr.write_output(png, image.getvalue())
    hr.write_output(svg, svg_text(figure).encode("utf-8"))
    print(png)
    print(svg)
    plt.close(figure)


def save_pictures(pictures, directory):
    """Saves what a script's `pictures` yields: (name, figure)."""
    for name, figure in pictures:
        save(figure, directory, name)
