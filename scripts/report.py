#!/usr/bin/env python3
"""One self-contained HTML page about one or several results files: pictures with values under the mouse, tables,
failures, warnings, configuration and provenance. Needs no network, follows the reader's light or dark scheme, prints.

    report.py RESULTS.h5 … -o report.html
"""

import argparse
import hashlib
import html
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hyperattn_plots
import hyperattn_results as hr
import numpy as np
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
from hyperattn_plots.declarations import DECLARED


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
# Figures of the summary table: column and heading. Those without a value in the results are left out.
SUMMARY = [
    ("seconds", "time"),
    ("speedup", "speedup"),
    ("gflops", "GFLOP/s"),
    ("epsilon", "ε"),
    ("error_op_rel", "‖E‖/‖PV‖"),
    ("epsilon_diagonal", "ε diagonal"),
    ("epsilon_product", "ε product"),
    ("mask_mass_mean", "mask mass"),
]
ASSUMPTIONS = [
    ("alpha", "α"),
    ("alpha_skip", "α without the first columns"),
    ("alpha_node", "α, causal nodes"),
    ("log_kappa", "log κ"),
    ("log_kappa_empty", "log κ, empty mask"),
    ("log_kappa_node", "log κ, causal nodes"),
    ("log_bound_diagonal", "log of the ε that Lemma 1 promises"),
    ("bound_product", "ε that Lemma 2 promises"),
]

LANGUAGE_MODEL = [
    "seq_len", "windows", "replace", "replaced", "layers", "backend", "bucket_count", "block_size", "sample_size", "min_seq_len", "trial", "status",
    "bits_per_byte", "bits_per_token", "perplexity", "attention_seconds", "seconds", "baseline_backend", "attention_speedup",
    "speedup", "message",
]  # fmt: skip

PAGE = Path(hyperattn_plots.__file__).with_name("page")


def part_of_page(name):
    """The text of the page's style or script, which stand in files of their own."""
    return (PAGE / name).read_text(encoding="utf-8")


def escaped(value):
    return html.escape(str(value))


def cell(value, written=None):
    """A table cell: numbers right-aligned, with their full value for sorting."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        if math.isnan(value):
            return '<td class="number soft" data-value="-Infinity">–</td>'
        return f'<td class="number" data-value="{float(value)!r}">{escaped(written or hr.number(value))}</td>'
    return f'<td class="wide">{escaped(value)}</td>'


def table(heads, rows, sortable=True):
    """Rows of cells that `cell` made."""
    if not rows:
        return ""
    head = "".join(f"<th scope='col'>{escaped(name)}</th>" for name in heads)
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return f'<div class="table" tabindex="0"><table{kind}><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def spread_cell(values, written=hr.number):
    median, low, high = style.spread(values)
    if math.isnan(median):
        return cell(math.nan)
    text = written(median) if low == high else f"{written(median)} ({written(low)} – {written(high)})"
    return cell(median, text)


def grouped_table(trials, figures):
    """One row per case, medians over its trials with the smallest and the largest."""
    figures = [(column, head) for column, head in figures if column in trials and np.isfinite(trials[column].astype(float)).any()]
    if not figures:
        return ""
    problems, columns = names_of(trials)
    heads = ["problem", "n", "method"] + [head for _, head in figures] + ["trials"]
    rows = []
    for _, case in trials.groupby(["file", "case_id"], sort=False):
        first = case.iloc[0]
        row = [cell(hr.problem_text(first, problems)), cell(int(first["seq_len"])), cell(hr.label_of(first, columns))]
        for column, _ in figures:
            row.append(spread_cell(case[column], style.written_time if column == "seconds" else hr.number))
        rows.append(row + [cell(len(case))])
    return table(heads, rows)


def names_of(trials):
    """The columns that name the problem and the method of each row, so that no two cases have the same names."""
    problems = hr.problem_varying(trials, exclude=("seq_len",))
    return hr.with_first(problems, ["input"]), hr.tell_apart(trials, hr.varying(trials), "seq_len", problems)


def failures(results):
    trials = trials_of(results)
    bad = trials[trials["status"] != "ok"] if len(trials) else trials
    if bad.empty:
        return ""
    problems, columns = names_of(trials)
    rows = [
        [cell(row["file"]), cell(row["status"]), cell(hr.problem_text(row, problems)), cell(int(row["seq_len"])), cell(hr.label_of(row, columns)), cell(int(row["trial"])), cell(row.get("message", ""))]
        for _, row in bad.iterrows()
    ]
    return f"<h2 id='failures'>Trials that did not finish</h2><p>{len(bad)} of {len(trials)}; they are in no picture and in no median.</p>" + table(
        ["file", "status", "problem", "n", "method", "trial", "message"], rows
    )


def shown_files(results):
    """What the page calls each file: its name, with folders where two have the same."""
    return [name + one.path.suffix for one, name in zip(results, hr.file_names(results))]


def grouped_warnings(results):
    """Warnings of the sessions as lists of (file, text): one list for those that differ in numbers only, such as the
    load, and one entry a file."""
    groups = {}
    for one, name in zip(results, shown_files(results)):
        for session in one.sessions:
            warnings = session.get("warnings")
            for warning in warnings if isinstance(warnings, list) else str(warnings or "").splitlines():
                files = groups.setdefault(re.sub(r"[0-9.]+", "#", warning.strip()), [])
                if warning.strip() and name not in [other for other, _ in files]:
                    files.append((name, warning.strip()))
    return {key: files for key, files in groups.items() if files}


def warning_list(results, trials):
    """What a reader should know before trusting the numbers."""
    found = []
    for files in grouped_warnings(results).values():
        name, warning = files[0]
        others = f" (and {len(files) - 1} other{'s' if len(files) > 2 else ''})" if len(files) > 1 else ""
        found.append(f"{name}{others}: {warning}")
    for one, name in zip(results, shown_files(results)):
        if one.attributes.get("complete") is not None and not one.attributes["complete"]:
            found.append(f"{name}: the run is not complete; hyperattn run … --resume goes on with it.")
    if len(trials) and "norm_status" in trials:
        bad = trials[(trials["status"] == "ok") & hr.applies(trials["norm_status"]) & ~trials["norm_status"].isin(["converged", "ok", "zero"])]
        if len(bad):
            found.append(f"{len(bad)} trials have an operator norm that did not converge to its tolerance; such norms are lower bounds.")
    machines = {session["processor"] for one in results for session in one.sessions if session.get("processor")}
    if len(machines) > 1:
        found.append("The results come from different processors: compare speedups, not seconds.")
    if not found:
        return ""
    return '<div class="box warn" role="note"><b>Warnings</b><ul>' + "".join(f"<li>{escaped(one)}</li>" for one in found) + "</ul></div>"


def assumptions(trials):
    """What the paper assumes, beside what was measured."""
    made = grouped_table(trials, ASSUMPTIONS)
    if not made:
        return ""
    lines = []
    if "alpha" in trials and np.isfinite(trials["alpha"]).any():
        ratio = (trials["alpha"] / trials["seq_len"]).replace([np.inf, -np.inf], np.nan)
        lines.append(
            f"The guarantee assumes that α grows more slowly than any power of n. Measured: α from {trials['alpha'].min():.3g} to "
            f"{trials['alpha'].max():.3g}, which is {ratio.min():.3g} to {ratio.max():.3g} times n (1 is uniform attention's α; n is one column that takes "
            "all mass of every row of equal weight, or more where a single row counts)."
        )
    for column in ("log_kappa", "log_kappa_empty"):
        if column in trials and np.isfinite(trials[column]).any():
            finite = trials[column][np.isfinite(trials[column])]
            where = "under the mask in use" if column == "log_kappa" else "under the empty mask"
            lines.append(
                f"It needs κ small, too (the sample must grow as κ⁷): measured log κ {where} from {finite.min():.3g} to {finite.max():.3g}, "
                f"that is κ up to {style.measured_number(math.exp(min(finite.max(), 700))).replace('$', '')}."
            )
    text = "".join(f"<p>{escaped(plain_powers(line))}</p>" for line in lines)
    return text + made


def plain_powers(text):
    """10^{12} of the plots' notation as 10^12."""
    return text.replace("\\cdot", " · ").replace("^{", "^").replace("}", "")


def language_model_table(results):
    frame = hr.joined(results, "language_model")
    if frame.empty:
        return ""
    telling = [column for column in [*hr.problem_varying(frame, exclude=("input",)), *hr.tell_apart(frame, hr.varying(frame))] if column not in LANGUAGE_MODEL]
    place = LANGUAGE_MODEL.index("backend") + 1
    columns = [column for column in [*LANGUAGE_MODEL[:place], *telling, *LANGUAGE_MODEL[place:]] if column in frame and hr.applies(frame[column]).any()]
    held = {column: hr.applies(frame[column]) for column in columns}
    rows = [[cell(row[column] if held[column][index] else math.nan) for column in columns] for index, row in frame.iterrows()]
    return table([column.replace("_", " ") for column in columns], rows)


def trials_of(results):
    trials = hr.joined(results)
    return trials.assign(input=hr.input_names) if len(trials) else trials


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


def table_sections(results, prefix=""):
    trials = trials_of(results)
    ok = trials[trials["status"] == "ok"] if len(trials) else trials
    made = [
        ("language-model-rows", "Language model, all rows", language_model_table(results)),
        ("assumed", "The paper's assumptions, measured", assumptions(ok) if len(ok) else ""),
        ("cases", "All cases", all_cases(ok) if len(ok) else ""),
    ]
    return [(prefix + anchor, heading, block) for anchor, heading, block in made if block]


def anchor_of(text):
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


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


def origins(results):
    """Configuration and provenance of every file."""
    parts = ["<h2 id='origin'>Configuration and provenance</h2>"]
    for one, name in zip(results, shown_files(results)):
        digest = hashlib.sha256(one.path.read_bytes()).hexdigest()
        facts = {"file": name, "SHA-256": digest, **{key: one.attributes[key] for key in sorted(one.attributes)}, **one.provenance}
        if len(one.sessions) > 1:
            facts["sessions"] = f"{len(one.sessions)}; this is the first"
        rows = [[cell(key.replace("_", " ")), cell(", ".join(map(str, value)) if isinstance(value, list) else str(value))] for key, value in facts.items()]
        parts.append(f"<h3>{escaped(one.name)}</h3>" + table(["", ""], rows, sortable=False))
        if one.config:
            parts.append(f"<details><summary>Configuration as it was resolved</summary><pre>{escaped(one.config)}</pre></details>")
    return "\n".join(parts)


def headline(results, trials):
    """A few numbers at the top."""
    every = [status for one in results for rows in (one.trials, one.language_model) if len(rows) for status in rows["status"]]
    facts = [("finished trials", f"{every.count('ok')} of {len(every)}"), ("cases", str(sum(len(one.cases) for one in results)))]
    ok = trials[trials["status"] == "ok"] if len(trials) else trials
    approximate = ok[~hr.is_exact(ok)] if len(ok) else ok
    if len(approximate) and approximate["speedup"].notna().any():
        best = approximate.loc[approximate["speedup"].idxmax()]
        facts.append((f"largest speedup ({best['backend']}, n = {best['seq_len']})", f"{best['speedup']:.3g} ×"))
    if len(approximate) and "epsilon" in approximate and approximate["epsilon"].notna().any():
        facts.append(("ε, smallest to largest", f"{approximate['epsilon'].min():.2g} – {approximate['epsilon'].max():.2g}"))
    return "<ul class='facts'>" + "".join(f"<li><b>{escaped(value)}</b><span class='soft'>{escaped(name)}</span></li>" for name, value in facts) + "</ul>"


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


def all_cases(ok):
    listed = [column for column, _ in SUMMARY + ASSUMPTIONS]
    others = [(name, name) for name, column in DECLARED.columns.items() if column.get("headline") and column["role"] == "figure" and name not in listed]
    made = grouped_table(ok, SUMMARY + others)
    return f"<p class='soft'>Medians over trials, in brackets the smallest and the largest. Click a heading to sort.</p>{made}" if made else ""


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
