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
    choices = [column for column in hr.varying(trials) if column in hr.CHOICES]
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
    return any(plot_error.varies(rows, axis) for _, rows in trials.groupby("input") for axis in plot_error.AXES)


def times_stages(trials, results):
    """Timed more than once, and not so many cases that a picture would leave most of them out."""
    timings = hr.joined(results, "timings")
    return len(timings) and timings["repeat"].max() > 0 and trials["case_id"].nunique() <= MOST_TIMED_CASES


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

STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --text: #1c1e21; --soft: #5b6168; --line: #d9dde1; --panel: #f6f7f8;
        --accent: #0b5fa5; --bad: #b3261e; --bad-panel: #fdecea; --warn: #7a4d00; --warn-panel: #fff4e0; }
@media (prefers-color-scheme: dark) {
  :root { --page: #15181b; --text: #e4e7ea; --soft: #9aa3ab; --line: #343a40; --panel: #1e2226; --accent: #7db7ee;
          --bad: #ff9a92; --bad-panel: #3a1d1b; --warn: #f0c26a; --warn-panel: #33280f; }
  figure svg { filter: invert(0.92) hue-rotate(180deg) brightness(1.2); }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 27px; line-height: 1.2; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 6px; padding-top: 8px; border-top: 1px solid var(--line); }
p { margin: 6px 0; max-width: 80ch; } .soft { color: var(--soft); } a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 14px 0 0; padding: 0; }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 18px 0 0; padding: 0; list-style: none; }
.facts li { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; }
.facts b { display: block; font-size: 19px; font-variant-numeric: tabular-nums; }
.box { border-radius: 8px; padding: 8px 14px; margin: 14px 0; } .box ul { margin: 4px 0; padding-left: 20px; }
.warn { background: var(--warn-panel); color: var(--warn); } .bad { background: var(--bad-panel); color: var(--bad); }
figure { margin: 16px 0 24px; overflow-x: auto; } figure svg { display: block; max-width: 100%; height: auto; }
.point { cursor: crosshair; } .point:hover, .point:focus { stroke: #000; stroke-width: 1.4; outline: none; }
.table { overflow-x: auto; margin: 12px 0; border: 1px solid var(--line); border-radius: 8px; max-height: 620px; overflow-y: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; } th, td { padding: 4px 10px; text-align: left; border-bottom: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; vertical-align: top; } td.number, th.number { text-align: right; white-space: nowrap; }
th { position: sticky; top: 0; background: var(--panel); white-space: nowrap; } th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--accent); } th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; } tbody tr:last-child td { border-bottom: 0; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; overflow-x: auto; font-size: 12.5px; white-space: pre-wrap; overflow-wrap: anywhere; }
summary { cursor: pointer; color: var(--accent); margin: 8px 0; } td.wide { overflow-wrap: break-word; }
#tip { position: fixed; z-index: 9; pointer-events: none; background: var(--text); color: var(--page); padding: 5px 9px; border-radius: 6px; font-size: 13px; white-space: pre-line; max-width: 340px; }
@media screen and (max-width: 620px) { figure svg { max-width: none; width: 560px; } }
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --soft: #444; --line: #bbb; --panel: #f4f4f4; --accent: #000; --bad: #800; --bad-panel: #fff; --warn: #530; --warn-panel: #fff; }
  figure svg { filter: none; max-height: 225mm; } nav, #tip { display: none; } main { padding: 0; max-width: none; } body { font-size: 10.5pt; }
  figure, tr, .facts { break-inside: avoid; } h2, h3, h2 + p, h3 + p, summary { break-after: avoid; } thead { display: table-row-group; } .table { max-height: none; overflow: visible; border: 0; } th { position: static; }
  table { font-size: 8pt; } th, td { padding: 2px 4px; } th, td.number, th.number { white-space: normal; } figure { overflow: visible; }
}
@page { margin: 14mm; }
"""

# Shows the titles of points at once (the browser's own take a second and ignore the keyboard), sorts tables, and opens
# what is folded before printing.
SCRIPT = """
(() => {
  const tip = document.getElementById('tip');
  const show = (point, x, y) => {
    tip.textContent = point.dataset.tip;
    tip.hidden = false;
    tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 6)) + 'px';
    tip.style.top = Math.max(4, Math.min(y + 14, innerHeight - tip.offsetHeight - 6)) + 'px';
  };
  for (const point of document.querySelectorAll('.point')) {
    const title = point.querySelector('title');
    if (!title) continue;
    point.dataset.tip = title.textContent;
    point.setAttribute('aria-label', title.textContent);
    title.remove();
    point.addEventListener('mousemove', event => show(point, event.clientX, event.clientY));
    point.addEventListener('mouseleave', () => { tip.hidden = true; });
  }
  for (const table of document.querySelectorAll('table.sortable')) {
    table.querySelectorAll('th').forEach((head, column) => {
      const button = document.createElement('button');
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener('click', () => {
        const down = head.getAttribute('aria-sort') === 'ascending';
        table.querySelectorAll('th').forEach(other => other.removeAttribute('aria-sort'));
        head.setAttribute('aria-sort', down ? 'descending' : 'ascending');
        const key = row => { const cell = row.cells[column]; return cell.dataset.value !== undefined ? Number(cell.dataset.value) : cell.textContent; };
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((a, b) => { const x = key(a), y = key(b);
          return typeof x === 'number' && typeof y === 'number' ? x - y : String(x).localeCompare(String(y), undefined, {numeric: true}); });
        body.append(...(down ? rows.reverse() : rows));
      });
    });
  }
  addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(one => { one.open = true; }));
  document.documentElement.dataset.ready = 'yes';
})();
"""


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
    columns = hr.varying(trials)
    shapes = [column for column in ("causal", "pass") if trials[column].nunique() > 1]
    heads = ["input", "n", *shapes, "backend"] + [head for _, head in figures] + ["trials"]
    rows = []
    for _, case in trials.groupby(["file", "case_id"], sort=False):
        first = case.iloc[0]
        length = str(first["seq_len"]) if first["seq_len"] == first["key_len"] else f"{first['seq_len']} × {first['key_len']}"
        row = [cell(first["input"]), cell(int(first["seq_len"]), length)] + [cell(hr.number(first[shape])) for shape in shapes]
        row.append(cell(hr.label_of(first, columns)))
        for column, _ in figures:
            row.append(spread_cell(case[column], style.written_time if column == "seconds" else hr.number))
        rows.append(row + [cell(len(case))])
    return table(heads, rows)


def failures(results):
    trials = trials_of(results)
    bad = trials[trials["status"] != "ok"] if len(trials) else trials
    if bad.empty:
        return ""
    columns = hr.varying(trials)
    rows = [
        [cell(row["file"]), cell(row["status"]), cell(row["input"]), cell(int(row["seq_len"])), cell(hr.label_of(row, columns)), cell(int(row["trial"])), cell(row.get("message", ""))]
        for _, row in bad.iterrows()
    ]
    return f"<h2 id='failures'>Trials that did not finish</h2><p>{len(bad)} of {len(trials)}; they are in no picture and in no median.</p>" + table(
        ["file", "status", "input", "n", "backend", "trial", "message"], rows
    )


def grouped_warnings(results):
    """Warnings of the sessions as lists of (file, text): one list for those that differ in numbers only, such as the
    load, and one entry a file."""
    groups = {}
    for one in results:
        for session in one.sessions:
            warnings = session.get("warnings")
            for warning in warnings if isinstance(warnings, list) else str(warnings or "").splitlines():
                files = groups.setdefault(re.sub(r"[0-9.]+", "#", warning.strip()), [])
                if warning.strip() and one.path.name not in [name for name, _ in files]:
                    files.append((one.path.name, warning.strip()))
    return {key: files for key, files in groups.items() if files}


def warning_list(results, trials):
    """What a reader should know before trusting the numbers."""
    found = []
    for files in grouped_warnings(results).values():
        name, warning = files[0]
        others = f" (and {len(files) - 1} other{'s' if len(files) > 2 else ''})" if len(files) > 1 else ""
        found.append(f"{name}{others}: {warning}")
    for one in results:
        if one.attributes.get("complete") is not None and not one.attributes["complete"]:
            found.append(f"{one.path.name}: the run is not complete; hyperattn run … --resume goes on with it.")
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
    columns = [column for column in LANGUAGE_MODEL if column in frame and hr.applies(frame[column]).any()]
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
    for one in results:
        digest = hashlib.sha256(one.path.read_bytes()).hexdigest()
        facts = {"file": one.path.name, "SHA-256": digest, **{key: one.attributes[key] for key in sorted(one.attributes)}, **one.provenance}
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
    approximate = ok[~ok["backend"].isin(hr.EXACT_BACKENDS)] if len(ok) else ok
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
<style>{STYLE}</style>
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
<script>{SCRIPT}</script>
</body>
</html>
"""


def all_cases(ok):
    made = grouped_table(ok, SUMMARY)
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
