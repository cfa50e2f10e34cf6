#!/usr/bin/env python3
"""Speedup over the faster of the exact backends against sequence length: a column of panels for each input and
pass (forward, forward and backward), a row for each kind of mask (none, causal).

    plot_speedup.py RESULTS.h5 … -o DIR
"""

import hyperattn_results as hr
import plot_style as style

PASS_NAMES = {"forward": "forward", "forward_backward": "forward + backward"}


def panel_title(a_pass, causal, name, trials):
    parts = [PASS_NAMES.get(a_pass, a_pass), "causal" if causal else "no causal mask"]
    return ", ".join(([str(name)] if trials["input"].nunique() > 1 else []) + parts)


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
    trials = trials[~trials["backend"].isin(hr.EXACT_BACKENDS)]
    trials = trials[trials["speedup"].notna()]
    if trials.empty:
        raise hr.ResultsError(
            "no finished trial of an approximate backend has a speedup: run one beside exact or dense, with the measure timing."
        )
    trials, styles, columns = style.with_series(over_lengths(trials))

    beside = sorted(set(zip(trials["input"], trials["pass"])), key=lambda pair: (list(trials["input"]).index(pair[0]), pair[1]))
    below = sorted(set(trials["causal"]))
    panels = [(causal, name, a_pass) for causal in below for name, a_pass in beside]
    panels = [
        (key, rows)
        for key in panels
        if len(rows := trials[(trials["causal"] == key[0]) & (trials["input"] == key[1]) & (trials["pass"] == key[2])])
    ]
    full = len(panels) == len(below) * len(beside) and len(beside) <= 4
    picture, axes = style.panel_grid(len(panels), len(beside) if full and len(below) > 1 else None)
    labels = {}
    for one, ((causal, name, a_pass), rows) in zip(axes, panels):
        labels.update(draw_panel(one, rows, styles))
        one.set_title(panel_title(a_pass, causal, name, trials), loc="left")
    style.label_rows(axes, "speedup over the best exact backend")

    baselines = [name for name in hr.distinct(trials, "baseline_backend")]
    note = f"Baseline: the faster exact backend on the same inputs in the same process ({', '.join(baselines)})."
    note = f"{note} {hr.spread_note(trials)}".strip()
    style.finish(
        picture,
        title or "Speedup of approximate over exact attention",
        hr.caption(trials, results, note, skip=("seq_len", "key_len", *columns)),
        style.legend_handles(style.in_style_order(styles, labels)),
    )
    yield "speedup", picture


def run():
    arguments = hr.arguments(__doc__).parse_args()
    hr.save_pictures(pictures(hr.load_all(arguments.results), arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
