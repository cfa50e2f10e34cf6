#!/usr/bin/env python3
"""Where the time goes: one stacked bar per case, in shares of its own time, with the time itself at its end.

    plot_stages.py RESULTS.h5 … -o DIR [--backend hyper] [--limit 24]
"""

import math

import hyperattn_results as hr
import pandas as pd
import plot_style as style

# The whole call; all other stages are its parts.
TOTAL = "total"
ORDER = ["hash", "sort", "draw", "gather", "approx_d", "block", "sample", "exact", "merge", "backward", "other"]
COLOURS = ["#0072B2", "#56B4E9", "#8c564b", "#009E73", "#F0E442", "#D55E00", "#E69F00", "#7f7f7f", "#000000", "#CC79A7", "#c7c7c7"]


def stage_order(stages):
    return sorted(stages, key=lambda stage: (ORDER.index(stage) if stage in ORDER else len(ORDER), stage))


def stage_colours(stages):
    colours = {stage: COLOURS[ORDER.index(stage)] for stage in stages if stage in ORDER}
    free = [colour for colour in COLOURS if colour not in colours.values()] or COLOURS
    for index, stage in enumerate(stage for stage in stages if stage not in ORDER):
        colours[stage] = free[index % len(free)]
    return colours


def seconds_by_case(timings):
    """Median over trials and repeats of every stage: a table with a row per case and a column per stage."""
    table = timings.groupby(["case_key", "stage"])["seconds"].median().unstack()
    parts = [stage for stage in table.columns if stage != TOTAL]
    if not parts:
        raise hr.ResultsError("/timings holds whole times only, no stages.")
    if TOTAL in table:
        rest = (table[TOTAL] - table[parts].sum(axis=1)).clip(lower=0)
        table["other"] = table["other"].add(rest, fill_value=0) if "other" in parts else rest
        # What is within rounding and clock noise is not worth a colour.
        if (table["other"] < 0.005 * table[TOTAL]).all():
            table = table.drop(columns="other")
    return table.drop(columns=TOTAL, errors="ignore").fillna(0.0)


def choose_cases(trials, limit):
    """About `limit` cases and how many are left out: the longest sequences, where the stages matter, and of a length all
    cases. Where even the longest has too many, those of the first inputs, and where one input has, its first ones."""
    cases = trials.drop_duplicates("case_key")
    chosen = cases.iloc[:0]
    for length in sorted(cases["seq_len"].unique(), reverse=True):
        more = cases[cases["seq_len"] == length]
        if len(chosen) and len(chosen) + len(more) > limit:
            break
        chosen = pd.concat([chosen, more])
    inputs = list(dict.fromkeys(chosen["input"]))
    while len(chosen) > limit and len(inputs) > 1:
        chosen = chosen[chosen["input"] != inputs.pop()]
    chosen = chosen.head(limit)
    return chosen, len(cases) - len(chosen)


def pictures(results, backends=None, limit=24, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    if limit < 1:
        raise hr.ResultsError(f"--limit {limit}: must be at least 1.", hr.EXIT_CALL)
    trials = hr.finished(results).assign(input=hr.input_names)
    timings = hr.joined(results, "timings")
    if timings.empty:
        raise hr.ResultsError("the results hold no stage times: run with the measure timing.")
    wanted = trials[trials["backend"].isin(backends)] if backends else hr.approximate(trials)
    if wanted.empty:
        raise hr.ResultsError(f"--backend {', '.join(backends)}: no finished trial of it.", hr.EXIT_CALL)
    wanted = wanted.assign(case_key=wanted["file"] + "/" + wanted["case_id"])
    timings = timings.assign(case_key=timings["file"] + "/" + timings["case_id"])
    timings = timings[timings["case_key"].isin(wanted["case_key"]) & timings["seconds"].notna()]
    if timings.empty:
        raise hr.ResultsError("/timings holds no stages of the finished trials.")

    cases, dropped = choose_cases(wanted[wanted["case_key"].isin(timings["case_key"])], limit)
    table = seconds_by_case(timings[timings["case_key"].isin(cases["case_key"])])
    told = hr.problem_varying(cases)
    problem_columns = hr.with_first(told, ["input", "seq_len"])
    columns = hr.tell_apart(cases, hr.varying(cases), within=told)
    cases = cases.sort_values(["input", "seq_len", "backend"] + columns, kind="stable", key=style.sortable)
    stages = stage_order(table.columns[(table > 0).any()])
    colours = stage_colours(stages)

    picture, (axes,) = style.panel_grid(1)
    picture.set_size_inches(9.0, 1.1 + 0.27 * len(cases))
    for position, (_, case) in enumerate(cases.iterrows()):
        seconds = table.loc[case["case_key"]]
        total, left = seconds.sum(), 0.0
        for stage in stages:
            share = 100 * seconds[stage] / total if total > 0 else math.nan
            (bar,) = axes.barh(position, share, left=left, height=0.74, color=colours[stage], edgecolor="white", linewidth=0.5)
            style.hover(bar, [f"{stage}: {style.written_time(seconds[stage])} ({share:.1f} %)"])
            left += share
        axes.text(101, position, style.written_time(total), va="center", fontsize=8)
    problems = [hr.problem_text(case, problem_columns) for _, case in cases.iterrows()]
    methods = [hr.label_of(case, columns) for _, case in cases.iterrows()]
    if len(set(problems)) == 1:
        style.set_titles([axes], problems[:1])
        axes.set_yticks(range(len(cases)), style.tick_names(methods))
    else:
        axes.set_yticks(range(len(cases)), style.tick_names([f"{problem}: {method}" for problem, method in zip(problems, methods)]))
    axes.invert_yaxis()
    axes.set_ylim(len(cases) - 0.4, -0.6)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of the time of one call (%)")
    note = "Median over trials and repeats; the time of one call stands at the end of its bar."
    if dropped:
        note += f" {dropped} more cases are left out."
    handles = [style.plt.Rectangle((0, 0), 1, 1, color=colours[stage], label=stage) for stage in stages]
    style.finish(
        picture,
        title or "Time by stage",
        hr.caption(pd.DataFrame(wanted[wanted["case_key"].isin(cases["case_key"])]), results, note, skip=("seq_len", *columns, *told)),
        handles,
    )
    yield "stages", picture


def run():
    parser = hr.arguments(
        __doc__,
        backend=dict(action="append", help="only this backend; may be given several times (default: the approximate ones)"),
        limit=dict(type=int, default=24, help="at most so many bars, longest sequences first (default: 24)"),
    )
    arguments = parser.parse_args()
    results = hr.load_all(arguments.results)
    style.save_pictures(pictures(results, arguments.backend, arguments.limit, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
