#!/usr/bin/env python3
"""Error against time for every method, with the frontier: the cases that no other case beats in both.

    plot_pareto.py RESULTS.h5 … -o DIR [--figure epsilon]
"""

import hyperattn_results as hr
import numpy as np
import plot_style as style


def frontier(points):
    """The points (seconds, error) that no other point beats in both, by time."""
    best, kept = np.inf, []
    for seconds, error in sorted(points):
        if error < best:
            kept.append((seconds, error))
            best = error
    return kept


def budget(row):
    """Keys per query beside hashing: the block and the sample."""
    return sum(row[column] for column in ("block_size", "sample_size") if column in row and row[column] > 0)


def draw_panel(axes, cases, exact, styles, figure):
    """One point per case (medians over trials), the frontier, and a line at the exact time."""
    labels = {}
    budgets = cases.apply(budget, axis=1)
    smallest = max(1, budgets[budgets > 0].min()) if (budgets > 0).any() else 1
    for (backend, method), rows in cases.groupby(["backend", "series"], sort=False):
        look = styles[(backend, method)]
        sizes = 22 * np.sqrt(np.maximum(budgets.loc[rows.index], smallest) / smallest)
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
    axes.set_xlabel("time of one call")
    return labels


def pictures(results, figure=None, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    trials = hr.finished(results).assign(input=hr.input_names)
    figure = hr.choose_figure(hr.approximate(trials), figure)
    trials = trials[~trials["backend"].isin(hr.EXACT_BACKENDS)]
    trials = trials[np.isfinite(trials[figure]) & (trials[figure] > 0) & (trials["seconds"] > 0)]
    if trials.empty:
        raise hr.ResultsError(f"no finished trial of an approximate backend has both seconds and a positive {figure}.")
    everything = hr.varying(trials)
    # A method is named by its choices; its sizes (b, m, buckets) are its points.
    choices = [column for column in everything if column in hr.CHOICES]
    trials = trials.assign(series=[hr.label_of(row, choices) for _, row in trials.iterrows()])
    trials = trials.assign(tip=[hr.label_of(row, everything) for _, row in trials.iterrows()])
    trials = trials.sort_values(["backend", "series"], kind="stable")
    styles = style.method_styles(zip(trials["backend"], trials["series"]))

    panels = list(trials.groupby(["input", "seq_len", "key_len", "causal", "pass"], sort=False))
    picture, axes = style.panel_grid(len(panels))
    labels = {}
    for one, ((name, seq_len, key_len, causal, a_pass), rows) in zip(axes, panels):
        keep = ["backend", "series", "tip", "block_size", "sample_size"]
        cases = rows.groupby(["file", "case_id"], sort=False).agg({**{key: "first" for key in keep}, "seconds": "median", figure: "median"}).reset_index()
        labels.update(draw_panel(one, cases, rows["baseline_seconds"].median(), styles, figure))
        head = f"{name}, n = {seq_len}" + (f", {key_len} keys" if key_len != seq_len else "")
        head += (", causal" if causal else "") + (", forward + backward" if a_pass == "forward_backward" else "")
        one.set_title(head, loc="left")
    style.label_rows(axes, style.figure_name(figure))
    note = "A point per case: medians over trials; larger markers have a larger b + m. Dashed: cases that no other beats in both error and time."
    style.finish(
        picture,
        title or "Error against time",
        hr.caption(trials, results, note, skip=("seq_len", "key_len", *choices)),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    yield "pareto", picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the error column (default: the first there is of {', '.join(hr.ERROR_FIGURES)})"))
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    hr.save_pictures(pictures(results, arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
