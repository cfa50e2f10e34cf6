#!/usr/bin/env python3
"""Error and time of the variants of the approximate backends at equal sizes: hash replaced by random buckets, no
sample, the deviations of the authors' code, ... One line for each variant, one pair of panels for each input.

    plot_ablations.py RESULTS.h5 … -o DIR [--figure epsilon]
"""

import hyperattn_results as hr
import plot_style as style

SIZES = ["bucket_count", "block_size", "sample_size", "min_seq_len"]
MOST_PANELS = 8


def variant_of(row, trials):
    """'hyper: prefix sampling': the choices in which a case departs from the usual ones."""
    parts = []
    for column in hr.CHOICES:
        value = row.get(column)
        if column not in trials or not hr.applies(trials.loc[[row.name], column]).iloc[0]:
            continue
        usual = hr.USUAL.get(column)
        if value != usual and (usual is not None or len(hr.distinct(trials, column)) > 1):
            parts.append(hr.short(column, value) if column not in ("bucket_order", "collisions") else f"{column.split('_')[-1]}: {value}")
    if row.get("sample_size") == 0:
        parts.append("no sample")
    return f"{row['backend']}: {', '.join(parts)}" if parts else str(row["backend"])


def has_variants(trials):
    return any(len(hr.distinct(trials[trials["backend"] == backend], column)) > 1 for backend in trials["backend"].unique() for column in hr.CHOICES if column in trials)


def draw(axes, rows, variants, column, colours):
    """One row of the panel for each variant: a mark at the median, a bar from the smallest to the largest."""
    drawn = []
    for position, variant in enumerate(variants):
        values = rows.loc[rows["variant"] == variant, column]
        median, low, high = style.spread(values)
        if median != median:
            continue
        colour = colours[variant]
        axes.plot([low, high], [position, position], color=colour, linewidth=5, alpha=0.25, solid_capstyle="butt")
        (mark,) = axes.plot([median], [position], color=colour, marker="o", linestyle="none")
        written = style.written_time(median) if column == "seconds" else f"{median:.4g} ({low:.4g} to {high:.4g})"
        style.hover(mark, [f"{variant}\n{written}"])
        drawn += [median, low, high]
    if drawn and min(drawn) > 0:
        axes.set_xscale("log")
        low, high = min(drawn) / 1.2, max(drawn) * 1.2
        axes.set_xlim(low, high)
        style.few_decades(axes.xaxis, style.written_time if column == "seconds" else style.measured_number)
        axes.tick_params(axis="x", labelrotation=30)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def pictures(results, figure=None, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    trials = hr.finished(results).assign(input=hr.input_names)
    figure = hr.choose_figure(hr.approximate(trials), figure)
    trials = trials[~trials["backend"].isin(hr.EXACT_BACKENDS) & trials[figure].notna()]
    if trials.empty or not has_variants(trials):
        raise hr.ResultsError("the results hold no variants of one backend to compare.")
    trials = trials.assign(variant=[variant_of(row, trials) for _, row in trials.iterrows()])
    variants = list(dict.fromkeys(trials.sort_values("backend", kind="stable")["variant"]))
    backends = {variant: trials.loc[trials["variant"] == variant, "backend"].iloc[0] for variant in variants}
    colours = {variant: style.backend_colour(backend, list(backends.values())) for variant, backend in backends.items()}
    panels = list(trials.groupby(["input", "seq_len", "causal"], sort=False))[:MOST_PANELS]

    picture, axes = style.plt.subplots(
        len(panels), 2, sharey=True, squeeze=False, constrained_layout=True, figsize=(9.0, len(panels) * (0.9 + 0.25 * len(variants)))
    )
    for (left, right), ((name, seq_len, causal), rows) in zip(axes, panels):
        draw(left, rows, variants, figure, colours)
        draw(right, rows, variants, "seconds", colours)
        left.set_yticks(range(len(variants)), variants)
        left.set_title(f"{name}, n = {seq_len}{', causal' if causal else ''}", loc="left")
        left.set_xlabel(style.figure_name(figure))
        right.set_xlabel("time of one call")
    note = "Marks: median over trials" + (" and over the sizes that vary" if any(len(set(hr.distinct(trials, size)) - {0}) > 1 for size in SIZES) else "")
    note += "; bars: smallest to largest. A variant is named by what it departs in from the method's defaults."
    style.finish(picture, title or "Variants of the method", hr.caption(trials, results, note, skip=("seq_len", "key_len", *hr.CHOICES)))
    yield "ablations", picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the error column (default: the first there is of {', '.join(hr.ERROR_FIGURES)})"))
    arguments = parser.parse_args()
    hr.save_pictures(pictures(hr.load_all(arguments.results), arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
