"""What the report says around pictures and tables: headline numbers, warnings, where the numbers come from."""

import hashlib
import re

from hyperattn_plots.cells import applies
from hyperattn_plots.figures import is_exact
from hyperattn_plots.loader import file_names
from hyperattn_plots.page.html import cell, escaped, table


def headline(results, trials):
    """A few numbers at the top."""
    every = [status for one in results for rows in (one.trials, one.language_model) if len(rows) for status in rows["status"]]
    facts = [("finished trials", f"{every.count('ok')} of {len(every)}"), ("cases", str(sum(len(one.cases) for one in results)))]
    ok = trials[trials["status"] == "ok"] if len(trials) else trials
    approximate = ok[~is_exact(ok)] if len(ok) else ok
    if len(approximate) and approximate["speedup"].notna().any():
        best = approximate.loc[approximate["speedup"].idxmax()]
        facts.append((f"largest speedup ({best['backend']}, n = {best['seq_len']})", f"{best['speedup']:.3g} ×"))
    if len(approximate) and "epsilon" in approximate and approximate["epsilon"].notna().any():
        facts.append(("ε, smallest to largest", f"{approximate['epsilon'].min():.2g} – {approximate['epsilon'].max():.2g}"))
    return "<ul class='facts'>" + "".join(f"<li><b>{escaped(value)}</b><span class='soft'>{escaped(name)}</span></li>" for name, value in facts) + "</ul>"


def shown_files(results):
    """What the page calls each file: its name, with folders where two have the same."""
    return [name + one.path.suffix for one, name in zip(results, file_names(results))]


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
        bad = trials[(trials["status"] == "ok") & applies(trials["norm_status"]) & ~trials["norm_status"].isin(["converged", "ok", "zero"])]
        if len(bad):
            found.append(f"{len(bad)} trials have an operator norm that did not converge to its tolerance; such norms are lower bounds.")
    machines = {session["processor"] for one in results for session in one.sessions if session.get("processor")}
    if len(machines) > 1:
        found.append("The results come from different processors: compare speedups, not seconds.")
    if not found:
        return ""
    return '<div class="box warn" role="note"><b>Warnings</b><ul>' + "".join(f"<li>{escaped(one)}</li>" for one in found) + "</ul></div>"


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
