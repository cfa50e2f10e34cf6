#!/usr/bin/env python3
"""Speedup over the faster of the exact backends against sequence length: a panel for each problem; where there are problems
with and without a causal mask, a row of panels for each.

    plot_speedup.py RESULTS.h5 … -o DIR
"""

import hyperattn_results as hr
import plot_style as style

def arithmetic_limit(rows):
    """(n, n_k/(b + m)) for each length where all cases of the panel share b and m and there is no causal mask; else
    nothing."""
    rows = rows[(rows["backend"] == "hyper") & ~rows["causal"]]
    blocks, samples = hr.distinct(rows, "block_size"), hr.distinct(rows, "sample_size")
    if len(blocks) != 1 or len(samples) != 1 or blocks[0] + samples[0] <= 0:
        return []
    lengths = rows.drop_duplicates("seq_len").sort_values("seq_len")
    return [(n, n_k / (blocks[0] + samples[0])) for n, n_k in zip(lengths["seq_len"], lengths["key_len"])]


def over_lengths(trials):
    """The trials of inputs that have several lengths, or all where none has: one length is no curve."""
    curves = trials.groupby("input")["seq_len"].transform("nunique") > 1
    return trials[curves] if curves.any() else trials


def draw_panel(axes, rows, styles):
    labels, drawn = style.draw_lines(axes, rows, "seq_len", "speedup", styles)
    limit = arithmetic_limit(rows)
    if len(limit) > 1:
        look = {"color": "#999999", "linestyle": (0, (1, 1)), "linewidth": 1.2}
        axes.plot(*zip(*limit), **look)
        labels["arithmetic limit of hyper: keys / (b + m)"] = look
        drawn.extend(value for _, value in limit)
    axes.axhline(1.0, color="#000000", linewidth=0.9)
    style.measured_axis(axes, drawn + [1.0])
    return labels


def pictures(results, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    trials = hr.finished(results).assign(input=hr.input_names)
    trials = trials[~hr.is_exact(trials)]
    trials = trials[trials["speedup"].notna()]
    if trials.empty:
        raise hr.ResultsError(
            "no finished trial of an approximate backend has a speedup: run one beside exact or dense, with the measure timing."
        )
    for name, panels in style.pages("speedup", hr.panels_of(over_lengths(trials), "seq_len", always=("pass", "causal"))):
        yield name, picture_of(results, trials, panels, title)


def columns_of(panels):
    """The panels with those of causal problems in a row of their own, and the panels in a row, where that makes a grid."""
    causal = [panel for panel in panels if panel[1]["causal"].iloc[0]]
    others = [panel for panel in panels if not panel[1]["causal"].iloc[0]]
    if len(causal) == len(others) <= 4:
        return others + causal, len(others)
    return panels, None


def picture_of(results, trials, panels, title):
    panels, across = columns_of(panels)
    shown = trials.loc[[index for _, rows in panels for index in rows.index]]
    problems = hr.problem_varying(shown, x="seq_len")
    shown, styles, columns = style.with_series(shown, "seq_len", problems)
    picture, axes = style.panel_grid(len(panels), across)
    labels = {}
    for one, (_, rows) in zip(axes, panels):
        labels.update(draw_panel(one, shown[shown.index.isin(rows.index)], styles))
    style.set_titles(axes, [panel for panel, _ in panels])
    style.label_rows(axes, "speedup over the best exact backend")

    baselines = hr.distinct(shown, "baseline_backend")
    note = f"Baseline: the faster exact backend on the same inputs in the same process ({', '.join(baselines)})."
    note = f"{note} {hr.spread_note(shown)}".strip()
    style.finish(
        picture,
        title or "Speedup of approximate over exact attention",
        hr.caption(shown, results, note, skip=("seq_len", *columns, *problems)),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    return picture


def run():
    arguments = hr.arguments(__doc__).parse_args()
    style.save_pictures(pictures(hr.load_all(arguments.results), arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
