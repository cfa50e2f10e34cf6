#!/usr/bin/env python3
"""The measured tables of docs/settings.md, docs/pretrained.md and docs/reproducing.md, from the results in docs/results. The
documents say by which command each was run.

    document_tables.py RESULTS.h5 … --document FILE.md      # writes the tables between the document's marks
"""

import argparse
import json

import hyperattn_results as hr
import numpy as np
import pandas as pd
from hyperattn_plots.documents import by_configuration, named, table, with_machine, write_tables


def cells_by_method(rows, names, cells):
    """A row of cells for each method that there is, in the order of the names: [name, cells of its rows …]."""
    return [[name, *cells(rows[rows["method"] == name])] for name, _ in names if (rows["method"] == name).any()]


def heads_of(results):
    """A row for each head of each approximate trial, with the columns of the trial."""
    trials = hr.finished(results)
    trials = trials[~hr.is_exact(trials)]
    return hr.with_trial_columns(hr.joined(results, "heads"), trials)


def significant(value, digits=3):
    """So many digits, without an exponent; `—` where there is no value."""
    if not np.isfinite(value):
        return "—"
    return np.format_float_positional(value, precision=digits, unique=False, fractional=False).rstrip(".")


def figures(value):
    """Three decimals, and more for small values."""
    return f"{value:.3f}" if abs(value) >= 0.0095 else f"{value:.4f}"


def against(rows, other, column, keys):
    """The largest ratio of a column to that of another method with the same keys."""
    base = other.set_index(keys)[column]
    mine = rows.set_index(keys)[column]
    return (mine / base.reindex(mine.index)).max()


# The routing tree and its rivals: configs/beyond/tree.yaml and tree_language_model.yaml.
PAPER = {"backend": "hyper", "residual": "sample"}
RIVALS = [
    ("`lsh`", {"backend": "lsh"}),
    ("`hyper` (the paper)", PAPER),
    ("`hyper`, `calibrated_centroids`", {"backend": "hyper", "residual": "calibrated_centroids"}),
    ("`hyper`, `linear_centroids`", {"backend": "hyper", "residual": "linear_centroids"}),
    ("after MoBA", {"backend": "tree", "order": "position"}),
    ("after multipole attention", {"backend": "tree", "order": "kmeans"}),
    ("`tree`, `beams: [8, 8, 8]`, `tail: plain`", {"backend": "tree", "beams": "[8, 8, 8]", "tail": "plain"}),
    ("`tree`, `beams: [8, 8, 8]`", {"backend": "tree", "beams": "[8, 8, 8]"}),
    ("`tree`, `tail: plain`", {"backend": "tree", "tail": "plain"}),
    ("`tree`, `tail: none`", {"backend": "tree", "tail": "none"}),
    ("`tree`", {"backend": "tree"}),
]
RIVALS_IN_ORDER = [RIVALS[place] for place in (0, 1, 2, 3, 10, 8, 9, 7, 6, 4, 5)]


def rivals_table(results):
    heads = named(heads_of(results), RIVALS)
    model = heads[heads["source"] == "language_model"]

    def cells(rows):
        made = [rows[rows["input_label"] == label] for label in ("gaussian", "tight clusters", "loose clusters")]
        mine = rows[rows["source"] == "language_model"]
        of_windows = mine.groupby("trial")["epsilon"].median()
        return [
            f"{made[0]['entries'].mean() / made[0]['seq_len'].iloc[0]:.0f}",
            *(significant(one["error_op"].mean()) for one in made),
            ", ".join(map(figures, of_windows)),
            figures(mine["epsilon"].max()),
            f"{against(mine, model[model['method'] == RIVALS[0][0]], 'epsilon', ['trial', 'head']):.2f}",
        ]

    head = ["method", "entries", "Gaussian", "tight clusters", "loose ones", "ε heads, median", "worst", "to `lsh`"]
    return table(head, cells_by_method(heads, RIVALS_IN_ORDER, cells))


def rivals_model_table(results):
    rows = hr.joined(results, "language_model")
    exact = rows.loc[rows["replaced"] == 0, "bits_per_byte"].iloc[0]
    rows = named(rows[rows["replaced"] > 0], RIVALS)
    lines = []
    for name, _ in RIVALS_IN_ORDER:
        for leaf, of in sorted(rows[rows["method"] == name].groupby("min_seq_len"), reverse=True):
            lines.append([name, str(leaf), figures(of["bits_per_byte"].iloc[0] - exact)])
    return f"Exact attention has {exact:.4f} bits per byte.\n\n" + table(["method", "leaf", "loss"], lines)


# Error at equal time: configs/beyond/equal_time.yaml.
TIMED = [
    ("`lsh`", {"backend": "lsh"}),
    ("`hyper`", PAPER),
    ("calibrated", {"backend": "hyper", "residual": "calibrated_centroids"}),
    ("linear", {"backend": "hyper", "residual": "linear_centroids"}),
    ("`tree`, plain", {"backend": "tree", "tail": "plain"}),
    ("`tree`", {"backend": "tree"}),
]
LIMITS = (0.5, 0.75, 1, 1.5, 2, 3, 5)  # times that of `hyper` with b = m = 256


def sizes_of(row):
    """The budget of a case, and the tree's levels where they are not the default ones."""
    if row["backend"] != "tree":
        return f"b = {row['block_size']:.0f}"
    levels = str(row["levels"])
    return ("" if levels == "[1024, 128, 16]" else f"{levels} ") + str(row["beams"])


def timed_cases(results):
    """A row for each approximate case: the median ε of its heads from results with errors, and the median time from those
    without, over that of `hyper` with b = m = 256 on the same input."""
    trials = hr.finished(results)
    seconds = trials[trials["epsilon"].isna()].set_index("case_id")["seconds"]
    of_heads = heads_of(results)
    cases = named(of_heads[of_heads["epsilon"].notna()], TIMED)
    error = cases.groupby("case_id")["epsilon"].median()
    cases = cases.drop_duplicates("case_id").set_index("case_id")
    cases = cases.assign(error=error, ms=1000 * seconds.reindex(cases.index))
    hyper = cases[(cases["method"] == "`hyper`") & (cases["block_size"] == 256)].set_index("input_label")["ms"]
    return cases.assign(share=cases["ms"] / hyper.reindex(cases["input_label"]).to_numpy(), is_tree=cases["backend"] == "tree"), hyper


def equal_time_table(results):
    """For each input and limit of time: the least ε of the tree and of the others, and the case that has it."""
    cases, hyper = timed_cases(results)
    lines = []
    for label in dict.fromkeys(cases["input_label"]):
        for limit in LIMITS:
            within = cases[(cases["input_label"] == label) & (cases["share"] <= limit)]
            cells = [label if limit == LIMITS[0] else "", f"{limit:g}, {limit * hyper[label]:.0f} ms"]
            for trees in (True, False):
                of = within[within["is_tree"] == trees].nsmallest(1, "error")
                cells += best_cells(of.iloc[0], within["error"].min()) if len(of) else ["—", ""]
            lines.append(cells)
    return table(["input", "time at most", "the tree", "ε", "all others", "ε"], lines)


def best_cells(row, least):
    text = figures(row["error"])
    return [f"{row['method']}, {sizes_of(row)}", f"**{text}**" if row["error"] == least else text]


# HyperAttention's residuals: configs/beyond/residuals.yaml and language_model.yaml.
def residual_cells(row):
    buckets = "hash" if row["buckets"] == "lsh" else "k-means"
    return (f"`{row['residual']}`" + " (the paper)" * (row["residual"] == "sample"), f"{buckets} {row['bucket_count']}, {row['query_blocks']}")


def with_residuals(rows):
    rows = rows[rows["backend"] == "hyper"]
    return rows.assign(case=[residual_cells(row) for _, row in rows.iterrows()])


def residuals_table(results):
    """Errors are from results with errors, and times from those without where there are such: timed on a quiet machine."""
    heads = with_residuals(heads_of(results))
    heads = heads[heads["error_op"].notna()]
    trials = with_residuals(hr.finished(results))
    timed = trials[trials["epsilon"].isna()]
    timed = timed if len(timed) else trials
    cases = list(dict.fromkeys(heads["case"]))
    paper = cases[0]
    alone = heads[(heads["residual"] == "none") & (heads["source"] == "language_model")]

    def time(case, source):
        seconds = timed[timed["source"] == source].groupby("case")["seconds"].mean()
        return f"{seconds[case] / seconds[paper]:.2f}"

    lines = []
    for case in cases:
        cells = list(case)
        for source in ("gaussian", "clustered"):
            of = heads[(heads["case"] == case) & (heads["source"] == source)]
            cells += [significant(of["error_op"].mean()), time(case, source)]
        of = heads[(heads["case"] == case) & (heads["source"] == "language_model")]
        ratio = against(of, alone, "epsilon", ["trial", "head"])
        cells += [figures(of["epsilon"].median()), figures(of["epsilon"].max()), f"{ratio:.2f}", time(case, "language_model")]
        lines.append(cells)
    seconds = [1000 * timed[(timed["case"] == paper) & (timed["source"] == source)]["seconds"].mean() for source in ("gaussian", "clustered", "language_model")]
    head = ["`residual`", "buckets, `query_blocks`", "‖E‖_op Gaussian", "time", "‖E‖_op clustered", "time"]
    head += ["ε heads, median", "largest", "to none", "time"]
    return table(head, lines) + "\n\nThe first row takes " + ", ".join(significant(value) for value in seconds) + " ms."


def residuals_model_table(results):
    """Bits per byte above exact attention, and attention's seconds in the shorter of the windows."""
    rows = with_shortest_windows(hr.joined(results, "language_model"), results)
    lengths = sorted(set(rows["seq_len"]))
    exact = rows[rows["replaced"] == 0].set_index("seq_len")
    rows = with_residuals(rows[rows["replaced"] > 0])
    rows = rows[(rows["block_size"] == 256) & ((rows["sample_size"] == 256) | (rows["residual"] == "none"))]
    lines = []
    for case in dict.fromkeys(rows["case"]):
        cells = list(case)
        for length in lengths:
            of = rows[(rows["case"] == case) & (rows["seq_len"] == length)]
            above = of["bits_per_byte"] - exact.loc[length, "bits_per_byte"]
            cells += [figures(above.iloc[0]), significant(of["attention"].iloc[0])] if len(of) else ["", ""]
        lines.append(cells)
    head = ["`residual`", "buckets, `query_blocks`"]
    for length in lengths:
        head += [f"loss at {length}", "s"]
    said = "; ".join(f"{exact.loc[n, 'bits_per_byte']:.4f} bits per byte and {significant(exact.loc[n, 'attention'])} s at {n}" for n in lengths)
    return f"Exact attention has {said}.\n\n" + table(head, lines)


def with_shortest_windows(rows, results):
    """The rows with the seconds of their shortest window, `total`, and of the shortest attention, `attention`."""
    seconds = hr.joined(results, "timings").groupby(["file", "case_id", "trial", "stage"])["seconds"].min().unstack()
    return rows.join(seconds[["total", "attention"]], on=["file", "case_id", "trial"])


# What the CLT sample keeps: configs/field/clt_sample.yaml.
def clt_table(results):
    trials = hr.finished(results)
    costs = trials.set_index(["case_id", "trial"])[["drawn_keys", "ceiling_share"]]
    heads = heads_of(results).drop(columns=list(costs)).join(costs, on=["case_id", "trial"])
    inputs = list(dict.fromkeys(zip(heads["source"], heads["input_label"])))
    sampled = heads[heads["residual"] == "sample"]
    drawn = heads[heads["residual"] == "clt_sample"]
    lines = []
    for (epsilon, budget, ceiling), rows in sorted(drawn.groupby(["clt_epsilon", "clt_budget", "sample_size"]), key=lambda one: (one[0][1] == "block", -one[0][0])):
        cells = [f"{epsilon:g}" + ", `block`" * (budget == "block"), str(ceiling)]
        for source, _ in inputs:
            of = rows[rows["source"] == source]
            cells += [significant(of["epsilon_rows"].max()), f"{of['drawn_keys'].mean():.0f}"]
        lines.append([*cells, f"{100 * rows.loc[rows['source'] == 'language_model', 'ceiling_share'].mean():.0f} %", whole_error(rows)])
    size = sampled["sample_size"].iloc[0]
    cells = [f"`sample`, m = {size}", ""]
    for source, _ in inputs:
        cells += [significant(sampled.loc[sampled["source"] == source, "epsilon_rows"].max()), str(size)]
    lines.append([*cells, "", whole_error(sampled)])
    head = ["asked ε", "ceiling"]
    for place, (source, label) in enumerate(inputs):
        name = "Gaussian" if source == "gaussian" else label
        head += [f"kept: {name}" if place == 0 else name, "mean keys"]
    return table([*head, "rows cut there", "ε there"], lines)


def whole_error(rows):
    return significant(rows.loc[rows["source"] == "language_model", "epsilon"].max())


# How often later queries move a row: configs/beyond/query_moves.yaml.
BLOCKS = [
    ("hash, `by_rank` (the paper)", {"buckets": "lsh", "query_blocks": "by_rank"}),
    ("k-means 64, `by_rank`", {"buckets": "kmeans", "bucket_count": 64, "query_blocks": "by_rank"}),
    ("hash, `by_bucket`", {"buckets": "lsh", "query_blocks": "by_bucket"}),
]


def moves_table(results):
    heads = named(heads_of(results), BLOCKS)
    heads = heads[heads["seq_len"] == heads["seq_len"].max()]
    head, columns = ["share of rows that move"], []
    for source in dict.fromkeys(heads["source"]):
        for size in sorted(set(heads["block_size"])):
            name = {"gaussian": "Gaussian", "clustered": "clustered"}.get(source, "model heads")
            head.append(f"{name}, b = {size}" if not any(one.startswith(name) for one in head) else f"b = {size}")
            columns.append((source, size))

    def cells(rows):
        worst = rows.groupby(["source", "block_size", "trial"])["query_moves"].max()
        shares = [worst[source, size].median() for source, size in columns]
        return [f"{share:.2f}" if share else "0" for share in shares]

    return table(head, cells_by_method(heads, BLOCKS, cells))


# Coresets, thinning and blocks on small problems: configs/field/check.yaml.
SMALL = [
    ("128 drawn keys", {"backend": "hyper", "mask": "none", "residual": "sample"}),
    ("`hyper`, b = m = 64", {"backend": "hyper", "residual": "sample"}),
    ("`thinned`, g = 2", {"backend": "thinned"}),
    ("blocks and `residual: thinned`", {"backend": "hyper", "residual": "thinned"}),
    ("blocks and `calibrated_centroids`", {"backend": "hyper", "residual": "calibrated_centroids"}),
    ("`coreset`, uniform pivots", {"backend": "coreset", "pivots": "uniform"}),
    ("`coreset`, pivots per bin of 8", {"backend": "coreset", "pivots": "per_bin"}),
    ("`coreset`, 8 bins", {"backend": "coreset", "bins": 8}),
    ("`coreset`, `temperature: released`", {"backend": "coreset", "temperature": "released"}),
    ("`coreset`", {"backend": "coreset"}),
    ("blocks and `residual: nystrom`", {"backend": "hyper", "residual": "nystrom", "bins": 1}),
    ("the same with 4 bins", {"backend": "hyper", "residual": "nystrom", "bins": 4}),
]


def small_table(results):
    trials = named(hr.finished(results), SMALL)
    inputs = list(dict.fromkeys(trials["input_label"]))

    def cells(rows):
        return [significant(rows.loc[rows["input_label"] == label, "error_fro_rel"].median()) for label in inputs]

    return table(["method", *inputs], cells_by_method(trials, SMALL, cells))


# A pretrained model: configs/paper/pretrained.yaml and pretrained_speed.yaml.
SINKS = [(f"`{name}`" + ", sinks" * (sinks > 0), {"backend": name, "sink_keys": sinks}) for sinks in (0, 32) for name in ("lsh", "hyper", "tree")]


def model_rows(results):
    rows = hr.joined(results, "language_model")
    return rows[rows["status"] == "ok"]


def windows_table(results):
    """Perplexity, and its ratio to exact attention's window by window: mean, least and largest over windows and draws."""
    rows = model_rows(results)
    rows = rows.assign(losses=[np.array(json.loads(text)) for text in rows["window_cross_entropy"]])
    depths = sorted(set(rows["replaced"]) - {0})
    lines = []
    for length, of in rows.groupby("seq_len"):
        exact = of[of["replaced"] == 0].iloc[0]
        others = named(of[of["replaced"] > 0], SINKS)
        for name, *cells in cells_by_method(others, SINKS, lambda mine: windows_cells(mine, depths, exact["losses"])):
            lines.append([str(length), name, f"{exact['perplexity']:.2f}", *cells])
    head = ["tokens", "method", "exact"]
    for depth in depths:
        head += [f"{depth} layers", "over exact"]
    return table(head, lines) + "\n\n" + windows_line(rows)


def windows_cells(rows, depths, exact):
    cells = []
    for depth in depths:
        of = rows.loc[rows["replaced"] == depth, "losses"]
        if of.empty:
            cells += ["", ""]
            continue
        losses = np.stack(of)
        over = np.exp(losses - exact)
        cells += [f"{np.exp(losses.mean()):.2f}", f"{over.mean():.3f} ({over.min():.3f} to {over.max():.3f})"]
    return cells


def windows_line(rows):
    said = [f"{of['windows'].iloc[0]} at {length} tokens, drawn {of['trial'].max() + 1} times each" for length, of in rows.groupby("seq_len")]
    return "Windows: " + "; ".join(said).replace("drawn 1 times each", "drawn once each") + "."


def speed_table(results):
    """Seconds of a window, and of them attention: of the shortest window where there are several."""
    rows = with_shortest_windows(model_rows(results), results)
    lengths = sorted(set(rows["seq_len"]))
    head = ["method", "layers"]
    for length in lengths:
        head += [f"{length} tokens: s" if length == lengths[0] else f"{length}: s", "attention"]
    others = named(rows[rows["replaced"] > 0], SINKS)
    lines = []
    for name, of in [("exact", rows[rows["replaced"] == 0]), *((name, others[others["method"] == name]) for name, _ in SINKS)]:
        for depth, mine in of.groupby("replaced"):
            cells = [name, str(depth)]
            for length in lengths:
                at = mine[mine["seq_len"] == length].nsmallest(1, "total")
                cells += [significant(seconds) for seconds in at[["total", "attention"]].to_numpy().ravel()] or ["", ""]
            lines.append(cells)
    return table(head, lines)


# What the guarantee assumes to be small: configs/paper/pretrained_assumptions.yaml.
ASSUMED = [
    ("α without the first 32 columns, median", lambda rows: scientific(rows["alpha_skip"].median())),
    ("the same over n", lambda rows: f"{(rows['alpha_skip'] / rows['key_len']).median():.1f}"),
    ("its largest over n", lambda rows: significant((rows["alpha_skip"] / rows["key_len"]).max())),
    ("α of all columns, median", lambda rows: scientific(rows["alpha"].median())),
    ("its largest over n², which is the most", lambda rows: f"{(rows['alpha'] / rows['key_len'] ** 2).max():.2f}"),
    ("log κ, mask in use, median", lambda rows: f"{rows['log_kappa'].median():.1f}"),
    ("its largest", lambda rows: f"{rows['log_kappa'].max():.1f}"),
    ("log κ, empty mask, median", lambda rows: f"{rows['log_kappa_empty'].median():.1f}"),
    ("its largest", lambda rows: f"{rows['log_kappa_empty'].max():.1f}"),
]


def scientific(value):
    return f"{value:.1e}".replace("e+0", "e")


def assumptions_table(results):
    heads = heads_of(results)
    lengths = sorted(set(heads["key_len"]))
    count = heads[["head", "file"]].drop_duplicates().shape[0]
    lines = [[name, *(figure(heads[heads["key_len"] == length]) for length in lengths)] for name, figure in ASSUMED]
    return table([f"{count} heads, keys:", *map(str, lengths)], lines)


# The speed of one layer: configs/paper/speedup.yaml.
def speedup_table(results):
    """Median speedup over the fastest exact attention."""
    rows = hr.finished(results)
    rows = rows[~hr.is_exact(rows)]
    lengths = sorted(set(rows["seq_len"]))
    lines = []
    for causal in sorted(set(rows["causal"])):
        for backend in ("hyper", "lsh"):
            mine = rows[(rows["causal"] == causal) & (rows["backend"] == backend)]
            speedups = mine.groupby("seq_len")["speedup"].median().reindex(lengths)
            lines.append([("causal" if causal else "no mask") + f": `{backend}`", *map(significant, speedups)])
    return table(["speedup at n =", *map(str, lengths)], lines)


# {name of a configuration: [(mark of a table, its function)]}
TABLES = {
    "beyond_tree": [("tree rivals", rivals_table)],
    "beyond_tree_language_model": [("tree loss", rivals_model_table)],
    "beyond_equal_time": [("equal time", equal_time_table)],
    "beyond_residuals": [("residuals", residuals_table)],
    "beyond_language_model": [("residuals loss", residuals_model_table)],
    "field_clt_sample": [("clt sample", clt_table)],
    "beyond_query_moves": [("query moves", moves_table)],
    "field_check": [("small problems", small_table)],
    "paper_speedup": [("speedup", speedup_table)],
    "paper_pretrained_assumptions": [("pretrained assumptions", assumptions_table)],
    "paper_pretrained": [("pretrained windows", windows_table)],
    "paper_pretrained_speed": [("pretrained speed", speed_table)],
}


def tables(results):
    """{mark: table} of all that the results can fill, each with the machine below it."""
    found = {}
    for name, of in by_configuration(results).items():
        for mark, make in TABLES.get(name, []):
            found[mark] = with_machine(make(of), of)
    if not found:
        raise hr.ResultsError(f"the results are of none of the configurations {', '.join(TABLES)}.")
    return found


def run():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", metavar="RESULTS.h5")
    parser.add_argument("--document", required=True, metavar="FILE", help="document whose tables are written anew")
    arguments = parser.parse_args()
    write_tables(arguments.document, tables(hr.load_all(arguments.results)))


if __name__ == "__main__":
    hr.main(run)
