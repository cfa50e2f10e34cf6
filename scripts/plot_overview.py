#!/usr/bin/env python3
"""A sweep at one glance: error and speedup against the sample size on one input, and speedup against length on the input
that has several lengths.

    plot_overview.py RESULTS.h5 … -o DIR [--input "captured heads"]
"""

import hyperattn_results as hr
import plot_style as style


def choose_input(trials, wanted):
    """The wanted input; else the first that is read from a file (real attention), else the first."""
    names = list(dict.fromkeys(trials["input"]))
    if wanted:
        if wanted not in names:
            raise hr.ResultsError(f"--input {wanted}: the results have no such input; they have {', '.join(names)}.", hr.EXIT_CALL)
        return wanted
    real = trials[trials["source"].isin(["file", "language_model"])]
    return real["input"].iloc[0] if len(real) else names[0]


def first_problem(rows, x):
    """(title, rows) of the first problem, and how many others there are."""
    problems = hr.panels_of(rows, x, always=("input",) if x == "seq_len" else ("input", "seq_len"))
    return *problems[0], len(problems) - 1


def with_length(trials):
    """The input with the most lengths, and the sample size in the middle."""
    lengths = trials.groupby("input")["seq_len"].nunique()
    if lengths.max() < 2:
        return None
    sizes = hr.distinct(trials, "sample_size")
    size = sizes[len(sizes) // 2]
    return trials[(trials["input"] == lengths.idxmax()) & ((trials["sample_size"] == size) | ~hr.applies(trials["sample_size"]))], size


def panels_of(trials, figure, name):
    """(rows, x, y, title) of each panel, and how many problems are left out."""
    mine = trials[trials["input"] == name]
    problem, mine, others = first_problem(mine[mine["seq_len"] == mine["seq_len"].max()], "sample_size")
    panels = [(mine, "sample_size", figure, f"{problem}: error"), (mine, "sample_size", "speedup", f"{problem}: speedup")]
    longest = with_length(trials)
    if longest:
        problem, rows, more = first_problem(longest[0], "seq_len")
        panels.append((rows, "seq_len", "speedup", f"{problem}: speedup, m = {longest[1]:g}"))
        others = max(others, more)
    return panels, others


def headline(rows, figure, problem):
    """What the first panel shows, in a sentence: by how much one backend errs less than the others. Each is taken at its
    best case, by the median over trials; where two are as good as one, there is nothing to say."""
    best = rows.groupby(["backend", "file", "case_id"])[figure].median().groupby("backend").min().sort_values()
    best = best[best > 0]
    if len(best) < 2 or best.iloc[1] < 1.1 * best.iloc[0]:
        return "Approximate attention: error and speed"
    times = [f"{error / best.iloc[0]:.1f} times less than {name}" for name, error in best.iloc[1:].items()]
    return f"On {problem}, {best.index[0]} errs {', '.join(times[:-1])}{' and ' if times[:-1] else ''}{times[-1]}{', each at its best' if times[:-1] else ''}"


def pictures(results, wanted_input=None, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    trials = hr.finished(results).assign(input=hr.input_names)
    figure = hr.choose_figure(hr.approximate(trials))
    trials = trials[~hr.is_exact(trials)]
    if not hr.distinct(trials, "sample_size"):
        raise hr.ResultsError("the results hold no sample size to plot against.")
    # One bucket count, so that the picture stays readable: the others are in the pictures of their own.
    buckets = hr.distinct(trials, "bucket_count")
    if len(buckets) > 1:
        trials = trials[(trials["bucket_count"] == buckets[-1]) | ~hr.applies(trials["bucket_count"])]
    name = choose_input(trials, wanted_input)
    panels, others = panels_of(trials, figure, name)
    title = title or headline(panels[0][0], figure, name)

    picture, axes = style.panel_grid(len(panels))
    labels = {}
    for one, (rows, x, y, _) in zip(axes, panels):
        rows, styles, _ = style.with_series(rows, x)
        found, drawn = style.draw_lines(one, rows, x, y, styles)
        if y == "speedup":
            one.axhline(1.0, color="#000000", linewidth=0.9)
        style.measured_axis(one, drawn + ([1.0] if y == "speedup" else []))
        labels.update({label: look for label, look in found.items() if label not in labels})
        one.set_ylabel("speedup over exact" if y == "speedup" else style.figure_name(y))
    style.set_titles(axes, [head for _, _, _, head in panels])
    shown = trials.loc[list(dict.fromkeys(index for rows, *_ in panels for index in rows.index))]
    note = hr.spread_note(shown)
    if others:
        note += f" One problem of each input; {others} more {'is' if others == 1 else 'are'} left out."
    caption = hr.caption(shown, results, note, skip=("seq_len", "key_len", "sample_size", "heads"))
    style.finish(picture, title, caption, style.legend_handles(labels))
    yield "overview", picture


def run():
    parser = hr.arguments(__doc__, input=dict(help="the input of the first two panels (default: the first one that is real)"))
    arguments = parser.parse_args()
    style.save_pictures(pictures(hr.load_all(arguments.results), arguments.input, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
