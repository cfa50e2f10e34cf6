#!/usr/bin/env python3
"""Error and time of the variants of the approximate backends at equal sizes: hash replaced by random buckets, no
sample, the deviations of the authors' code, ... One line for each variant, one pair of panels for each input.

    plot_ablations.py RESULTS.h5 … -o DIR [--figure epsilon]
"""

import hyperattn_results as hr
import plot_style as style

MOST_PANELS = 8  # of one picture
MOST_VARIANTS = 40


def has_variants(trials):
    return bool(hr.choices_among(hr.varying(trials)))


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
    trials = trials[~hr.is_exact(trials) & trials[figure].notna()]
    if trials.empty or not has_variants(trials):
        raise hr.ResultsError("the results hold no variants of one backend to compare.")
    problems = hr.problem_varying(trials)
    columns = hr.tell_apart(trials, hr.method_columns(trials), within=problems)
    trials = trials.assign(variant=[hr.method_label(row, columns) for _, row in trials.iterrows()])
    variants = list(dict.fromkeys(trials.sort_values("backend", kind="stable")["variant"]))
    if len(variants) > MOST_VARIANTS:
        raise hr.ResultsError(f"the results hold {len(variants)} variants, more than the {MOST_VARIANTS} that a picture can show.")
    for name, panels in style.pages("ablations", hr.panels_of(trials, always=("input", "seq_len")), MOST_PANELS):
        yield name, picture_of(results, trials, panels, variants, figure, title, skip=("seq_len", *problems, *columns))


def picture_of(results, trials, panels, variants, figure, title, skip):
    backends = {variant: trials.loc[trials["variant"] == variant, "backend"].iloc[0] for variant in variants}
    colours = {variant: style.backend_colour(backend, list(backends.values())) for variant, backend in backends.items()}
    picture, axes = style.plt.subplots(
        len(panels), 2, sharey=True, squeeze=False, constrained_layout=True, figsize=(9.0, len(panels) * (0.9 + 0.25 * len(variants)))
    )
    for (left, right), (_, rows) in zip(axes, panels):
        draw(left, rows, variants, figure, colours)
        draw(right, rows, variants, "seconds", colours)
        left.set_yticks(range(len(variants)), style.tick_names(variants))
        left.set_xlabel(style.figure_name(figure))
        right.set_xlabel("time of one call")
    style.set_titles(axes[:, 0], [head for head, _ in panels])
    note = "Marks: median over trials; bars: smallest to largest. A variant is named by what it departs in from the method's defaults."
    choices = hr.choices_among(trials.columns)
    style.finish(picture, title or "Variants of the method", hr.caption(trials, results, note, (*skip, *choices)))
    return picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the error column (default: the first there is of {', '.join(hr.error_figures())})"))
    arguments = parser.parse_args()
    style.save_pictures(pictures(hr.load_all(arguments.results), arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
