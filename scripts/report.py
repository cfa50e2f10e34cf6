#!/usr/bin/env python3
"""One self-contained HTML page about one or several results files: pictures with values under the mouse, tables,
failures, warnings, configuration and provenance. Needs no network, follows the reader's light or dark scheme, prints.

    report.py RESULTS.h5 … -o report.html
"""

import argparse
import hashlib
import html
import math
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

# (heading, what it shows, function that yields pictures). A plot becomes part of the report by a line here.
PLOTS = [
    ("Overview", "Error and speed at one glance; the bucket count is the largest that was run.", plot_overview.pictures),
    ("Speed", "Time of the faster exact backend over the time of each approximate one, on the same inputs.", plot_speedup.pictures),
    ("Error", "How far each approximation is from exact attention.", plot_error.pictures),
    ("Variants", "What each choice of the method costs and buys, all else equal.", plot_ablations.pictures),
    ("Error against time", "What an error costs: lower and further left is better.", plot_pareto.pictures),
    ("Causal recursion", "Speed and error with a causal mask.", plot_causal.pictures),
    ("Language model", "Loss and speed of a model with some layers' attention replaced.", plot_language_model.pictures),
    ("Assumptions", "The quantities that the paper's guarantee assumes to be small.", plot_assumptions.pictures),
    ("Bounds", "The measured error, its two halves, and what theory promises for them.", plot_bounds.pictures),
    ("Time by stage", "Where the time of one call goes.", plot_stages.pictures),
]
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
summary { cursor: pointer; color: var(--accent); margin: 8px 0; } td.wide { overflow-wrap: anywhere; }
#tip { position: fixed; z-index: 9; pointer-events: none; background: var(--text); color: var(--page); padding: 5px 9px; border-radius: 6px; font-size: 13px; white-space: pre-line; max-width: 340px; }
@media screen and (max-width: 620px) { figure svg { max-width: none; width: 560px; } }
@media print {
  :root { color-scheme: light; --page: #fff; --text: #000; --soft: #444; --line: #bbb; --panel: #f4f4f4; --accent: #000; --bad: #800; --bad-panel: #fff; --warn: #530; --warn-panel: #fff; }
  figure svg { filter: none; } nav, #tip { display: none; } main { padding: 0; max-width: none; } body { font-size: 10.5pt; }
  figure, tr, .facts { break-inside: avoid; } h2, h2 + p { break-after: avoid; } thead { display: table-row-group; } .table { max-height: none; overflow: visible; border: 0; } th { position: static; }
  table { font-size: 8.5pt; } th, td { padding: 2px 5px; } figure { overflow: visible; }
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


def failures(trials):
    bad = trials[trials["status"] != "ok"]
    if bad.empty:
        return ""
    columns = hr.varying(trials)
    rows = [
        [cell(row["status"]), cell(row["input"]), cell(int(row["seq_len"])), cell(hr.label_of(row, columns)), cell(int(row["trial"])), cell(row.get("message", ""))]
        for _, row in bad.iterrows()
    ]
    return f"<h2 id='failures'>Trials that did not finish</h2><p>{len(bad)} of {len(trials)}; they are in no picture and in no median.</p>" + table(
        ["status", "input", "n", "backend", "trial", "message"], rows
    )


def warning_list(results, trials):
    """What a reader should know before trusting the numbers."""
    found = []
    for one in results:
        for session in one.sessions:
            warnings = session.get("warnings")
            for warning in warnings if isinstance(warnings, list) else str(warnings or "").splitlines():
                if warning.strip() and f"{one.path.name}: {warning.strip()}" not in found:
                    found.append(f"{one.path.name}: {warning.strip()}")
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
    return f"<h2 id='assumed'>The paper's assumptions, measured</h2>{text}{made}"


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
    return "<h2 id='language-model-rows'>Language model, all rows</h2>" + table([column.replace("_", " ") for column in columns], rows)


def plot_sections(results):
    """(id, heading, html) of every plot that has something to show."""
    sections, count = [], 0
    for heading, meaning, pictures in PLOTS:
        figures = []
        try:
            for name, figure in pictures(results):
                count += 1
                svg = style.svg_text(figure, prefix=f"p{count}-").replace("<svg ", f'<svg role="img" aria-label="{escaped(heading)}: {escaped(name)}" ', 1)
                figures.append(f"<figure>{svg}</figure>")
                style.plt.close(figure)
        except hr.ResultsError:
            pass  # nothing of this kind in the results
        if figures:
            anchor = heading.lower().replace(" ", "-")
            sections.append((anchor, heading, f"<h2 id='{anchor}'>{escaped(heading)}</h2><p class='soft'>{escaped(meaning)}</p>" + "\n".join(figures)))
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
    trials = hr.joined(results)
    if len(trials):
        trials = trials.assign(input=hr.input_names)
    ok = trials[trials["status"] == "ok"] if len(trials) else trials
    sections = plot_sections(results)
    blocks = [block for _, _, block in sections]
    links = [(anchor, heading) for anchor, heading, _ in sections]
    for anchor, heading, block in (
        ("language-model-rows", "Language model, rows", language_model_table(results)),
        ("assumed", "Assumptions, tables", assumptions(ok) if len(ok) else ""),
        ("failures", "Failures", failures(trials) if len(trials) else ""),
        ("cases", "All cases", all_cases(ok) if len(ok) else ""),
        ("origin", "Origin", origins(results)),
    ):
        if block:
            blocks.append(block)
            links.append((anchor, heading))
    names = ", ".join(dict.fromkeys(one.name for one in results))
    navigation = "".join(f"<a href='#{anchor}'>{escaped(heading)}</a>" for anchor, heading in links)
    created = ", ".join(dict.fromkeys(str(one.attributes["created"]) for one in results if one.attributes.get("created")))
    machine = hr.machine_line(results)
    nothing = "" if len(ok) or any(len(one.language_model) for one in results) else '<div class="box bad">No trial finished: there is nothing to plot.</div>'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<title>{escaped(title or names)} – HyperAttention report</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{escaped(title or names)}</h1>
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
    return f"<h2 id='cases'>All cases</h2><p class='soft'>Medians over trials, in brackets the smallest and the largest. Click a heading to sort.</p>{made}" if made else ""


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
    written.write_text(page(results, arguments.title), encoding="utf-8")
    print(written)


if __name__ == "__main__":
    hr.main(run)
