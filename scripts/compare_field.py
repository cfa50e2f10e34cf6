#!/usr/bin/env python3
"""The methods of the field side by side: pictures of error against computed entries and against time, and the tables of
docs/comparison.md, from the results of configs/field/heads.yaml, language_model.yaml and planning.yaml.

    compare_field.py RESULTS.h5 … -o DIR                          # pictures
    compare_field.py RESULTS.h5 … --document docs/comparison.md      # writes the tables between the document's marks
"""

import re

import hyperattn_results as hr
import numpy as np
import plot_pareto
import plot_style as style
from hyperattn_plots.documents import by_configuration, name_of, named, table, with_machine, write_tables

BUDGETS = (256, 512, 1024)
PLANNING = ("hash", "sort", "draw")  # stages
SHARES = (10, 5, 2)  # of the time of exact attention: 1/10, 1/5, 1/2

# (name, what a case of it has): the first that fits names the case.
METHODS = [
    ("`lsh`", {"backend": "lsh"}),
    ("drawn keys alone", {"backend": "hyper", "mask": "none", "residual": "sample"}),
    ("`hyper`, as released", {"backend": "hyper", "bucket_order": "reference"}),
    ("`hyper`, leverage", {"backend": "hyper", "prescore": "leverage"}),
    ("`hyper`, k-means distance", {"backend": "hyper", "prescore": "kmeans_distance"}),
    ("`hyper`, k-means centre", {"backend": "hyper", "prescore": "kmeans_centre"}),
    ("`hyper`, as in the paper", {"backend": "hyper", "mask": "sort_lsh", "residual": "sample"}),
    ("`hyper`, calibrated", {"backend": "hyper", "residual": "calibrated_centroids"}),
    ("`hyper`, CLT sample", {"backend": "hyper", "residual": "clt_sample"}),
    ("`hyper`, thinned", {"backend": "hyper", "mask": "sort_lsh", "residual": "thinned"}),
    ("`hyper`, Nyström, 8 bins", {"backend": "hyper", "residual": "nystrom", "bins": 8}),
    ("`hyper`, Nyström", {"backend": "hyper", "residual": "nystrom"}),
    ("thinned keys alone", {"backend": "hyper", "mask": "none", "residual": "thinned"}),
    ("`thinned`, streaming", {"backend": "thinned", "streaming": 1}),
    ("`thinned`", {"backend": "thinned"}),
    ("`coreset`, 8 bins", {"backend": "coreset", "bins": 8}),
    ("`coreset`", {"backend": "coreset"}),
    ("`tree`, after MoBA", {"backend": "tree", "order": "position"}),
    ("`tree`, after multipole", {"backend": "tree", "order": "kmeans"}),
    ("`tree`, plain", {"backend": "tree", "tail": "plain"}),
    ("`tree`", {"backend": "tree", "tail": "corrected"}),
]
ORDER = [
    "`lsh`", "drawn keys alone", "`hyper`, as in the paper", "`hyper`, as released", "`hyper`, calibrated", "`hyper`, CLT sample",
    "`hyper`, thinned", "`hyper`, Nyström", "`hyper`, Nyström, 8 bins", "`hyper`, leverage", "`hyper`, k-means distance",
    "`hyper`, k-means centre", "thinned keys alone", "`thinned`", "`thinned`, streaming", "`coreset`", "`coreset`, 8 bins", "`tree`",
    "`tree`, plain", "`tree`, after MoBA", "`tree`, after multipole",
]  # fmt: skip
DRAWN = [
    "`lsh`", "`hyper`, as in the paper", "`hyper`, as released", "`hyper`, calibrated", "`hyper`, CLT sample", "`hyper`, Nyström, 8 bins",
    "`hyper`, leverage", "thinned keys alone", "`coreset`", "`coreset`, 8 bins", "`tree`", "`tree`, after MoBA", "`tree`, after multipole",
]  # fmt: skip
COLOURS = {
    "lsh": "#7f7f7f", "hyper": "#D55E00", "thinned": "#009E73", "coreset": "#0072B2", "tree": "#6A4C93",
}  # fmt: skip


def method_of(row):
    return name_of(row, METHODS)


def with_budgets(cases):
    """The cases with the name of their method and their budget: of each method on each problem, the cases are those of
    BUDGETS in the order of their entries, or of their case numbers where entries are not known."""
    cases = named(cases, METHODS).copy()
    cases["budget"] = 0
    for (problem, method), rows in cases.groupby(["problem", "method"], sort=False):
        if len(rows) != len(BUDGETS):
            raise hr.ResultsError(f"{method} on {problem} has {len(rows)} finished cases, where the budgets are {BUDGETS}.")
        for budget, index in zip(BUDGETS, rows.sort_values("size").index):
            cases.loc[index, "budget"] = budget
    return cases


def head_cases(results):
    """A row for each approximate case: the median and the largest ε of its heads, entries a row, and its
    time as a share of exact attention's."""
    trials = hr.finished(results)
    trials = trials[~hr.is_exact(trials)]
    heads = hr.with_trial_columns(hr.joined(results, "heads"), trials)
    epsilon = heads.groupby(["file", "case_id"])["epsilon"].agg(["median", "max"])
    cases = trials[trials["trial"] == 0].set_index(["file", "case_id"], drop=False).join(epsilon)
    rows = cases["seq_len"] * cases["heads"] * cases["batch"]
    return with_budgets(
        cases.assign(
            problem=cases["input_label"],
            per_row=cases["entries"] / rows,
            size=cases["entries"],
            share=cases["seconds"] / cases["baseline_seconds"],
        ).reset_index(drop=True)
    )


def model_cases(results):
    """A row for each case of `hyperattn lm`: bits above exact attention's, and attention's time as a share of it."""
    rows, figure = plot_pareto.model_trials(results)
    sizes = ["block_size", "sample_size", "coreset_size", "cache_size"]
    size = rows[[name for name in sizes if name in rows]].clip(lower=0).sum(axis=1)
    beams = [sum(numbers(value)) for value in rows["beams"]] if "beams" in rows else 0
    return with_budgets(
        rows.assign(problem=[f"n = {n}" for n in rows["seq_len"]], size=size + beams, above=rows[figure], share=rows["seconds"] / rows["baseline_seconds"])
    )


def numbers(value):
    return [int(number) for number in re.findall(r"\d+", str(value))]


def written(value):
    """Three decimals, and more for small values."""
    return f"{value:.3f}" if abs(value) >= 0.0095 else f"{value:.4f}"


def best_of(values):
    return [f"**{written(value)}**" if value == np.nanmin(values) else written(value) for value in values]


def budget_columns(cases, methods, column, form=best_of):
    """{method: cells of the budgets}, the best of each budget marked."""
    cells = {method: [] for method in methods}
    for budget in BUDGETS:
        rows = cases[cases["budget"] == budget].set_index("method")[column]
        for method, cell in zip(methods, form([rows[method] for method in methods])):
            cells[method].append(cell)
    return cells


def methods_in(cases):
    found = set(cases["method"])
    return [name for name in ORDER if name in found]


def made_table(cases):
    """ε at equal entries on made inputs, the median of the heads."""
    cases = cases[cases["source"] != "language_model"]
    methods, problems = methods_in(cases), list(dict.fromkeys(cases["problem"]))
    columns = [budget_columns(cases[cases["problem"] == problem], methods, "median") for problem in problems]
    head = ["method"] + [f"{problem}, {budget}" if budget == BUDGETS[0] else str(budget) for problem in problems for budget in BUDGETS]
    return table(head, [[method, *(cell for column in columns for cell in column[method])] for method in methods])


def heads_table(cases):
    """ε at equal entries on the model's heads, the median and the worst; time and entries."""
    cases = cases[cases["source"] == "language_model"]
    methods = methods_in(cases)
    median, worst = budget_columns(cases, methods, "median"), budget_columns(cases, methods, "max")
    time = budget_columns(cases, methods, "share", lambda values: [f"{value:.2f}" for value in values])
    entries = budget_columns(cases, methods, "per_row", lambda values: [f"{value:.0f}" for value in values])
    head = ["method"]
    for name in ("median ε", "worst ε", "time", "entries"):
        head += [f"{name}, {BUDGETS[0]}", *map(str, BUDGETS[1:])]
    return table(head, [[method, *median[method], *worst[method], *time[method], *entries[method]] for method in methods])


def time_table(cases):
    """The smallest ε of each method within a share of the time of exact attention."""
    methods, problems = methods_in(cases), list(dict.fromkeys(cases["problem"]))
    columns = {}
    for problem in problems:
        rows = cases[cases["problem"] == problem]
        for share in SHARES:
            within = rows[rows["share"] <= 1 / share].groupby("method")["median"].min().reindex(methods)
            cells = best_of(within.to_numpy()) if within.notna().any() else ["nan"] * len(methods)
            columns[problem, share] = ["—" if "nan" in cell else cell for cell in cells]
    head = ["method"] + [f"{problem}, 1/{share}" if share == SHARES[0] else f"1/{share}" for problem, share in columns]
    return table(head, [[method, *(column[i] for column in columns.values())] for i, method in enumerate(methods)])


def model_table(cases):
    """Bits above exact attention's and the time of attention, by length and budget."""
    methods, problems = methods_in(cases), list(dict.fromkeys(cases["problem"]))
    head, columns = ["method"], []
    for problem in problems:
        rows = cases[cases["problem"] == problem]
        columns.append(budget_columns(rows, methods, "above"))
        columns.append(budget_columns(rows, methods, "share", lambda values: [f"{value:.2f}" for value in values]))
        head += [f"{problem}: bits, {BUDGETS[0]}", *map(str, BUDGETS[1:]), f"time, {BUDGETS[0]}", *map(str, BUDGETS[1:])]
    return table(head, [[method, *(cell for column in columns for cell in column[method])] for method in methods])


def planning_table(results):
    """Planning and running of one call in ms, and the largest sum of buffers in MB, by length."""
    trials = hr.finished(results)
    timings = hr.with_trial_columns(hr.joined(results, "timings"), trials)
    stages = timings.groupby(["case_id", "stage"])["seconds"].median().unstack().fillna(0)
    trials = trials.assign(method=[method_of(row) for _, row in trials.iterrows()]).set_index("case_id")
    trials["planning"] = stages.reindex(columns=PLANNING, fill_value=0).sum(axis=1)
    trials["running"] = trials["seconds"] - trials["planning"]
    head, columns = ["method"], []
    methods = methods_in(trials)
    for length, rows in trials.groupby("seq_len"):
        rows = rows.set_index("method").reindex(methods)
        head += [f"n = {length}: planning, ms", "running, ms", "planning ÷ running", "MB"]
        columns += [[f"{1000 * value:.3g}" for value in rows["planning"]], [f"{1000 * value:.3g}" for value in rows["running"]]]
        columns += [[f"{value:.2g}" for value in rows["planning"] / rows["running"]], [f"{value / 1e6:.0f}" for value in rows["peak_bytes"]]]
    return table(head, [[method, *cells] for method, *cells in zip(methods, *columns)])


NOT_THE_FIELDS = "the results are of none of configs/field/heads.yaml, language_model.yaml and planning.yaml."


def tables(results):
    """{mark: table} of all that the results can fill, each with the machine below it."""
    found = {}

    def add(mark, text, of):
        found[mark] = with_machine(text, of)

    for name, of in by_configuration(results).items():
        if name == "field_heads":
            cases = head_cases(of)
            add("field made", made_table(cases), of)
            add("field heads", heads_table(cases), of)
            add("field time", time_table(cases), of)
        if name == "field_language_model":
            add("field model", model_table(model_cases(of)), of)
        if name == "field_planning":
            add("field planning", planning_table(of), of)
    if not found:
        raise hr.ResultsError(NOT_THE_FIELDS)
    return found


def looks(methods, backends):
    return {
        method: {"color": COLOURS["thinned" if "thinned" in method else backends[method]], "marker": style.MARKERS[i % len(style.MARKERS)], "linestyle": style.DASHES[i % 3]}
        for i, method in enumerate(methods)
    }


def picture(cases, results, cost, cost_name, error, error_name, title):
    """A panel for each problem, a line for each method through its budgets."""
    cases = cases[cases["method"].isin(DRAWN)]
    problems = list(dict.fromkeys(cases["problem"]))
    methods = [method for method in DRAWN if method in set(cases["method"])]
    look = looks(methods, cases.drop_duplicates("method").set_index("method")["backend"])
    figure, axes = style.panel_grid(len(problems))
    for one, problem in zip(axes, problems):
        rows = cases[cases["problem"] == problem]
        for method in methods:
            line = rows[rows["method"] == method].sort_values("budget")
            one.plot(line[cost], line[error].clip(lower=line[error].abs().min() or None), alpha=0.9, **look[method])
        one.set_xscale("log")
        style.few_decades(one.xaxis, style.plain_number if cost == "per_row" else style.measured_number)
        style.measured_axis(one, rows[error])
        one.set_xlabel(cost_name)
    style.set_titles(axes, problems)
    style.label_rows(axes, error_name)
    note = "Points are budgets of 256, 512 and 1024 entries a row."
    style.finish(figure, title, f"{note} {hr.machine_line(results)}.", style.legend_handles({name.replace("`", ""): look[name] for name in methods}))
    return figure


def pictures(results):
    """Yields (name, figure). Raises ResultsError where there is nothing to draw."""
    found = by_configuration(results)
    if "field_heads" in found:
        of = found["field_heads"]
        cases, error = head_cases(of), ("median", "ε, median of the heads")
        yield "field_entries", picture(cases, of, "per_row", "entries a row", *error, "Error against computed entries")
        yield "field_time", picture(cases, of, "share", "time over that of exact attention", *error, "Error against time")
    if "field_language_model" in found:
        of = found["field_language_model"]
        time_name = "attention's time over that of exact attention"
        yield "field_model", picture(model_cases(of), of, "share", time_name, "above", "bits per byte above exact", "Loss against time")
    if not {"field_heads", "field_language_model"} & set(found):
        raise hr.ResultsError(NOT_THE_FIELDS)


def run():
    parser = hr.arguments(__doc__, document=dict(metavar="FILE", help="document whose tables are written anew, in place of pictures"))
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    if arguments.document is None:
        style.save_pictures(pictures(results), arguments.output)
        return
    write_tables(arguments.document, tables(results))


if __name__ == "__main__":
    hr.main(run)
