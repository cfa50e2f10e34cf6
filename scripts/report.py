#!/usr/bin/env python3
"""One self-contained HTML page about one or several results files: pictures with values under the mouse, tables,
failures, warnings, configuration and provenance. Needs no network, follows the reader's light or dark scheme, prints.

    report.py RESULTS.h5 … -o report.html
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hyperattn_results as hr
import plot_ablations
import plot_assumptions
import plot_bounds
import plot_causal
import plot_error
import plot_language_model
import plot_overview
import plot_pareto
import plot_speedup
import plot_stages
import plot_style as style
from hyperattn_plots.page.html import anchor_of, escaped, part_of_page
from hyperattn_plots.page.notes import headline, origins, warning_list
from hyperattn_plots.page.tables import failures, table_sections, trials_of


@dataclass
class Plot:
    heading: str
    meaning: str
    pictures: Callable  # yields pictures, or raises ResultsError where there is nothing of the kind
    concerns: Callable = lambda trials, results: True  # whether it is what these results are about


def takes_several(trials, column, least=2):
    return len(hr.distinct(trials, column)) >= least


def methods(trials):
    """The largest number of methods of one backend; its sizes make no other method."""
    choices = hr.choices_among(hr.varying(trials))
    return trials.groupby("backend")[choices].apply(lambda rows: len(rows.drop_duplicates())).max() if choices else 1


def varies_several_sizes(trials):
    return sum(takes_several(trials[trials["backend"] == "hyper"], size) for size in ("block_size", "sample_size", "bucket_count")) >= 2


def compares_methods(trials, results):
    return methods(trials) >= 3 and not varies_several_sizes(trials)


def trades_error_for_time(trials, results):
    return varies_several_sizes(trials) or compares_methods(trials, results)


def studies_recursion(trials, results):
    return len(hr.joined(results, "levels")) > 0


def varies_length(trials, results):
    return "speedup" in trials and trials.groupby("input")["seq_len"].nunique().max() > 1


def varies_speed(trials, results):
    return varies_length(trials, results) and not studies_recursion(trials, results)


def varies_error(trials, results):
    """Over one size at a time, or one method over several: else its lines are too many to be told apart."""
    if studies_recursion(trials, results) or (varies_several_sizes(trials) and methods(trials) > 1):
        return False
    return any(plot_error.varies(rows, axis) for _, rows in trials.groupby("input") for axis in plot_error.FIRST)


def times_stages(trials, results):
    """Timed more than once, and not so many cases that a picture would leave most of them out."""
    timings = hr.joined(results, "timings")
    return len(timings) and timings["repeat"].max() > 0 and len(hr.cases_of(trials)) <= MOST_TIMED_CASES


# A plot becomes part of the report by a line here.
PLOTS = [
    Plot("Overview", "Error and speed at one glance; the bucket count is the largest that was run.", plot_overview.pictures,
         lambda trials, results: takes_several(trials, "sample_size") and varies_length(trials, results)),
    Plot("Speed", "Time of the faster exact backend over the time of each approximate one, on the same inputs.", plot_speedup.pictures, varies_speed),
    Plot("Error", "How far each approximation is from exact attention.", plot_error.pictures, varies_error),
    Plot("Variants", "What each choice of the method costs and buys, all else equal.", plot_ablations.pictures, compares_methods),
    Plot("Error against time", "What an error costs: lower and further left is better.", plot_pareto.pictures, trades_error_for_time),
    Plot("Causal recursion", "Speed and error with a causal mask.", plot_causal.pictures, studies_recursion),
    Plot("Language model", "Loss and speed of a model with some layers' attention replaced.", plot_language_model.pictures),
    Plot("Assumptions", "The quantities that the paper's guarantee assumes to be small.", plot_assumptions.pictures,
         lambda trials, results: takes_several(trials, "seq_len") or takes_several(trials, "alpha", 1)),
    Plot("Bounds", "The measured error, its two halves, and what theory promises for them.", plot_bounds.pictures),
    Plot("Time by stage", "Where the time of one call goes.", plot_stages.pictures, times_stages),
]  # fmt: skip
MOST_TIMED_CASES = 100


def figures_of(plot, results, prefix):
    """The pictures of one plot as SVG; none where the results hold nothing of the kind."""
    figures = []
    try:
        for number, (name, figure) in enumerate(plot.pictures(results)):
            svg = style.svg_text(figure, prefix=f"{prefix}-{number}-").replace("<svg ", f'<svg role="img" aria-label="{escaped(plot.heading)}: {escaped(name)}" ', 1)
            figures.append(f"<figure>{svg}</figure>")
            style.plt.close(figure)
    except hr.ResultsError:
        pass
    return figures


def plot_sections(results, prefix=""):
    """(id, heading, html without the heading) of every plot that is about these results and has something to show."""
    trials = trials_of(results)
    finished = trials[trials["status"] == "ok"] if len(trials) else trials
    sections = []
    for number, plot in enumerate(PLOTS):
        if len(finished) and not plot.concerns(hr.approximate(finished), results):
            continue
        figures = figures_of(plot, results, f"{prefix}p{number}")
        if figures:
            sections.append((prefix + anchor_of(plot.heading), plot.heading, f"<p class='soft'>{escaped(plot.meaning)}</p>" + "\n".join(figures)))
    return sections


def sections_of_one(results):
    """A section for each plot and table: (id, heading, html)."""
    return [(anchor, heading, f"<h2 id='{anchor}'>{escaped(heading)}</h2>{block}") for anchor, heading, block in plot_sections(results) + table_sections(results)]


def sections_of_several(results):
    """A section for each experiment, with its plots, and its tables folded."""
    sections = []
    names = list(dict.fromkeys(one.name for one in results))
    for number, name in enumerate(names):
        mine = [one for one in results if one.name == name]
        prefix = f"e{number}-"
        parts = [f"<h2 id='{prefix}{anchor_of(name)}'>{escaped(name)}</h2>"]
        parts += [f"<h3 id='{anchor}'>{escaped(heading)}</h3>{block}" for anchor, heading, block in plot_sections(mine, prefix)]
        parts += [f"<details><summary>{escaped(heading)}</summary>{block}</details>" for _, heading, block in table_sections(mine, prefix)]
        sections.append((f"{prefix}{anchor_of(name)}", name, "\n".join(parts)))
    return sections


def page(results, title):
    names = list(dict.fromkeys(one.name for one in results))
    trials = trials_of(results)
    sections = sections_of_one(results) if len(names) == 1 else sections_of_several(results)
    for anchor, heading, block in (("failures", "Failures", failures(results)), ("origin", "Origin", origins(results))):
        if block:
            sections.append((anchor, heading, block))
    blocks = [block for _, _, block in sections]
    title = title or (names[0] if len(names) == 1 else f"{len(names)} experiments")
    navigation = "".join(f"<a href='#{anchor}'>{escaped(heading)}</a>" for anchor, heading, _ in sections)
    times = sorted(str(one.attributes["created"]) for one in results if one.attributes.get("created"))
    created = " to ".join(dict.fromkeys(times[:1] + times[-1:]))
    machine = hr.machine_line(results)
    some_ok = any((rows["status"] == "ok").any() for one in results for rows in (one.trials, one.language_model) if len(rows))
    nothing = "" if some_ok else '<div class="box bad">No trial finished: there is nothing to plot.</div>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>{escaped(title)} – HyperAttention report</title>
<style>{part_of_page("style.css")}</style>
</head>
<body>
<main>
<header>
<h1>{escaped(title)}</h1>
<p class="soft">{escaped("; ".join(part for part in (created, machine) if part))}</p>
{headline(results, trials)}
<nav aria-label="Sections">{navigation}</nav>
</header>
{warning_list(results, trials)}
{nothing}
{chr(10).join(blocks)}
</main>
<div id="tip" role="status" hidden></div>
<script>{part_of_page("script.js")}</script>
</body>
</html>
"""


def run():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS.h5")
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="the page to write (default: report.html)")
    parser.add_argument("--title", help="heading (default: the names of the experiments)")
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    written = Path(arguments.output)
    if written.is_dir():
        raise hr.ResultsError(f"-o {written}: is a folder; name the page to write, such as {written / 'report.html'}.", hr.EXIT_CALL)
    written.parent.mkdir(parents=True, exist_ok=True)
    hr.write_output(written, page(results, arguments.title).encode("utf-8"))
    print(written)


if __name__ == "__main__":
    hr.main(run)
