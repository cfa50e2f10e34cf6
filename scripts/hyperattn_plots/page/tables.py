"""The report's tables: all cases, failures, the paper's assumptions, and evaluations of a language model."""

import math

import numpy as np

from hyperattn_plots.axes import measured_number, written_time
from hyperattn_plots.cells import applies, number
from hyperattn_plots.declarations import DECLARED
from hyperattn_plots.labels import label_of, tell_apart, varying, with_first
from hyperattn_plots.loader import joined
from hyperattn_plots.page.html import cell, escaped, spread_cell, table
from hyperattn_plots.problems import input_names, problem_text, problem_varying

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


def trials_of(results):
    trials = joined(results)
    return trials.assign(input=input_names) if len(trials) else trials


def names_of(trials):
    """The columns that name the problem and the method of each row, so that no two cases have the same names."""
    problems = problem_varying(trials, exclude=("seq_len",))
    return with_first(problems, ["input"]), tell_apart(trials, varying(trials), "seq_len", problems)


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
        row = [cell(problem_text(first, problems)), cell(int(first["seq_len"])), cell(label_of(first, columns))]
        for column, _ in figures:
            row.append(spread_cell(case[column], written_time if column == "seconds" else number))
        rows.append(row + [cell(len(case))])
    return table(heads, rows)


def all_cases(ok):
    listed = [column for column, _ in SUMMARY + ASSUMPTIONS]
    others = [(name, name) for name, column in DECLARED.columns.items() if column.get("headline") and column["role"] == "figure" and name not in listed]
    made = grouped_table(ok, SUMMARY + others)
    return f"<p class='soft'>Medians over trials, in brackets the smallest and the largest. Click a heading to sort.</p>{made}" if made else ""


def failures(results):
    trials = trials_of(results)
    bad = trials[trials["status"] != "ok"] if len(trials) else trials
    if bad.empty:
        return ""
    problems, columns = names_of(trials)
    rows = [
        [cell(row["file"]), cell(row["status"]), cell(problem_text(row, problems)), cell(int(row["seq_len"])), cell(label_of(row, columns)), cell(int(row["trial"])), cell(row.get("message", ""))]
        for _, row in bad.iterrows()
    ]
    return f"<h2 id='failures'>Trials that did not finish</h2><p>{len(bad)} of {len(trials)}; they are in no picture and in no median.</p>" + table(
        ["file", "status", "problem", "n", "method", "trial", "message"], rows
    )


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
                f"that is κ up to {measured_number(math.exp(min(finite.max(), 700))).replace('$', '')}."
            )
    text = "".join(f"<p>{escaped(plain_powers(line))}</p>" for line in lines)
    return text + made


def plain_powers(text):
    """10^{12} of the plots' notation as 10^12."""
    return text.replace("\\cdot", " · ").replace("^{", "^").replace("}", "")


def language_model_table(results):
    frame = joined(results, "language_model")
    if frame.empty:
        return ""
    telling = [column for column in [*problem_varying(frame, exclude=("input",)), *tell_apart(frame, varying(frame))] if column not in LANGUAGE_MODEL]
    place = LANGUAGE_MODEL.index("backend") + 1
    columns = [column for column in [*LANGUAGE_MODEL[:place], *telling, *LANGUAGE_MODEL[place:]] if column in frame and applies(frame[column]).any()]
    held = {column: applies(frame[column]) for column in columns}
    rows = [[cell(row[column] if held[column][index] else math.nan) for column in columns] for index, row in frame.iterrows()]
    return table([column.replace("_", " ") for column in columns], rows)


def table_sections(results, prefix=""):
    trials = trials_of(results)
    ok = trials[trials["status"] == "ok"] if len(trials) else trials
    made = [
        ("language-model-rows", "Language model, all rows", language_model_table(results)),
        ("assumed", "The paper's assumptions, measured", assumptions(ok) if len(ok) else ""),
        ("cases", "All cases", all_cases(ok) if len(ok) else ""),
    ]
    return [(prefix + anchor, heading, block) for anchor, heading, block in made if block]
