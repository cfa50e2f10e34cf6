"""One look for all pictures: fonts, colours by backend (told apart by the colour-blind too), markers, dashes, and the
names of axes."""

import zlib

import matplotlib

from hyperattn_plots import shown_text
from hyperattn_plots.cells import distinct, word
from hyperattn_plots.declarations import DECLARED

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.colors import to_rgb  # noqa: E402

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
    shading = max(columns, key=lambda column: len(distinct(trials, column)))
    others = [column for column in columns if column != shading]
    shades = {value: place for place, value in enumerate(distinct(trials, shading))}
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
