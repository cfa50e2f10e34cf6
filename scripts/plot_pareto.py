#!/usr/bin/env python3
"""Error against time for every method, with the frontier: the cases that no other case beats in both. Of a language model
(`hyperattn lm`) it is the loss above exact attention's, where most layers were replaced, against the time of attention.

    plot_pareto.py RESULTS.h5 … -o DIR [--figure epsilon]
"""

import hyperattn_results as hr
import numpy as np
import pandas as pd
import plot_style as style


def frontier(points):
    """The points (seconds, error) that no other point beats in both, by time."""
    best, kept = np.inf, []
    for seconds, error in sorted(points):
        if error < best:
            kept.append((seconds, error))
            best = error
    return kept


def with_budgets(cases):
    """The cases with the entries that each computes for a query row."""
    entries = cases["entries"] if "entries" in cases else pd.Series(np.nan, index=cases.index)
    return cases.assign(budget=(entries / (cases["seq_len"] * cases["heads"] * cases["batch"])).where(entries > 0))


def draw_panel(axes, cases, exact, styles, figure):
    """One point per case (medians over trials), the frontier, and a line at the exact time."""
    labels = {}
    smallest = cases["budget"].min()
    for (backend, method), rows in cases.groupby(["backend", "series"], sort=False):
        look = styles[(backend, method)]
        sizes = 22 * np.sqrt((rows["budget"] / smallest).fillna(1))
        points = axes.scatter(
            rows["seconds"], rows[figure], s=sizes, color=[look["color"]], marker=look["marker"], alpha=0.85, linewidth=0, zorder=3
        )
        style.hover(points, [f"{row['tip']}\n{style.written_time(row['seconds'])}: {row[figure]:.4g}" for _, row in rows.iterrows()])
        labels[method] = {"color": look["color"], "marker": look["marker"], "linestyle": "none"}
    edge = frontier(list(zip(cases["seconds"], cases[figure])))
    line = {"color": "#444444", "linewidth": 1.0, "linestyle": (0, (4, 2))}
    axes.step(*zip(*edge), where="post", zorder=2, **line)
    labels["frontier"] = line
    axes.set_xscale("log")
    low, high = cases["seconds"].min(), cases["seconds"].max()
    if np.isfinite(exact):
        line = {"color": "#000000", "linewidth": 1.0}
        axes.axvline(exact, **line)
        labels["time of the best exact backend"] = line
        high = max(high, exact)
    axes.set_xlim(low / 1.3, high * 1.3)
    style.measured_axis(axes, cases[figure])
    style.few_decades(axes.xaxis, style.written_time)
    return labels


LOSS = "bits_over_exact"  # as an argument: per byte where the text is bytes, else per token
LOSS_FIGURES = {"bits_per_byte": "bits_per_byte_over_exact", "bits_per_token": "bits_per_token_over_exact"}


def measured_trials(results, figure):
    """The trials of the approximate backends that have the figure, and its name."""
    trials = hr.finished(results).assign(input=hr.input_names)
    figure = hr.choose_figure(hr.approximate(trials), figure)
    return trials[~hr.is_exact(trials)], figure


def model_trials(results):
    """Evaluations of a language model as trials, the time being that of attention, and the name of their figure: the loss
    above that of the same windows with no layer replaced."""
    rows = hr.joined(results, "language_model")
    if len(rows):
        rows = rows[rows["status"] == "ok"]
    if rows.empty:
        return rows, LOSS
    loss = "bits_per_byte" if np.isfinite(rows["bits_per_byte"]).all() else "bits_per_token"
    windows = ["file", "seq_len", "trial"]
    plain = rows[rows["replaced"] == 0].set_index(windows)[[loss, "attention_seconds"]]
    plain = plain[~plain.index.duplicated()].rename(columns={loss: "exact_loss", "attention_seconds": "exact_seconds"})
    replaced = rows[(rows["replaced"] == rows["replaced"].max()) & (rows["replaced"] > 0)].join(plain, on=windows)
    names = [f"{name}, {count} layers replaced" for name, count in zip(hr.input_names(replaced), replaced["replaced"])]
    figure = LOSS_FIGURES[loss]
    above = {figure: replaced[loss] - replaced["exact_loss"]}
    return replaced.assign(input=names, seconds=replaced["attention_seconds"], baseline_seconds=replaced["exact_seconds"], **above), figure


def sources(results, figure):
    """(name, trials, figure, what the time is of) of every picture that the results can fill."""
    found = []
    model, loss = model_trials(results)
    if len(model) and figure in (None, LOSS):
        found.append(("pareto_language_model", model, loss, "time of attention in one window"))
    if figure != LOSS and not (found and hr.joined(results).empty):
        found.insert(0, ("pareto", *measured_trials(results, figure), "time of one call"))
    if not found:
        raise hr.ResultsError("the results hold no evaluation of a language model with replaced layers (hyperattn lm makes them).")
    return found


def pictures(results, figure=None, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    for name, trials, chosen, time_name in sources(results, figure):
        trials = trials[np.isfinite(trials[chosen]) & (trials[chosen] > 0) & (trials["seconds"] > 0)]
        if trials.empty:
            raise hr.ResultsError(f"no finished trial of an approximate backend has both seconds and a positive {chosen}.")
        for page, panels in style.pages(name, hr.panels_of(trials, always=("input", "seq_len"))):
            yield page, picture_of(results, trials, panels, chosen, time_name, title)


def with_names(trials):
    """The trials with the method of each, which its choices name, and what tells it from all others: its sizes (b, m,
    buckets) are its points."""
    choices = hr.choices_among(hr.varying(trials))
    everything = hr.tell_apart(trials, hr.varying(trials), within=hr.problem_varying(trials))
    series = [hr.label_of(row, choices) for _, row in trials.iterrows()]
    tips = [hr.label_of(row, everything) for _, row in trials.iterrows()]
    return trials.assign(series=series, tip=tips).sort_values(["backend", "series"], kind="stable"), choices


def picture_of(results, trials, panels, figure, time_name, title):
    trials = trials.loc[[index for _, rows in panels for index in rows.index]]
    problems = hr.problem_varying(trials)
    trials, choices = with_names(with_budgets(trials))
    styles = style.method_styles(zip(trials["backend"], trials["series"]))

    picture, axes = style.panel_grid(len(panels))
    labels = {}
    for one, (_, rows) in zip(axes, panels):
        rows = trials[trials.index.isin(rows.index)]
        keep = ["backend", "series", "tip", "budget"]
        cases = rows.groupby(["file", "case_id"], sort=False).agg({**{key: "first" for key in keep}, "seconds": "median", figure: "median"}).reset_index()
        labels.update(draw_panel(one, cases, rows["baseline_seconds"].dropna().median(), styles, figure))
        one.set_xlabel(time_name)
    style.set_titles(axes, [head for head, _ in panels])
    style.label_rows(axes, style.figure_name(figure))
    sizes = "; larger markers compute more entries a row" if trials["budget"].notna().any() else ""
    note = f"A point per case: medians over trials{sizes}. Dashed: cases that no other beats in both error and time."
    style.finish(
        picture,
        title or ("Loss against time" if figure in LOSS_FIGURES.values() else "Error against time"),
        hr.caption(trials, results, note, skip=("seq_len", *choices, *problems)),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    return picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the error column (default: the first there is of {', '.join(hr.error_figures())}), or {LOSS}"))
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    style.save_pictures(pictures(results, arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
