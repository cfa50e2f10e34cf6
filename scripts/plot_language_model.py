#!/usr/bin/env python3
"""A language model with some layers' attention replaced: bits per byte (or per token) and speedup against the number of
replaced layers, from results files of `hyperattn lm`.

    plot_language_model.py RESULTS.h5 … -o DIR [--figure perplexity] [--loss-only]
"""

import hyperattn_results as hr
import numpy as np
import pandas as pd
import plot_style as style

LOSSES = ["bits_per_byte", "bits_per_token", "perplexity", "cross_entropy"]
NAMES = {
    "bits_per_byte": "bits per byte",
    "bits_per_token": "bits per token",
    "perplexity": "perplexity",
    "cross_entropy": "cross-entropy (nats per token)",
    "attention_speedup": "speedup of all attention",
    "speedup": "speedup of the whole forward pass",
}


def finished_rows(results):
    rows = hr.joined(results, "language_model")
    if len(rows):
        rows = rows[rows["status"] == "ok"]
    if rows.empty:
        raise hr.ResultsError("the results hold no finished language-model evaluation (hyperattn lm makes them).")
    return rows


def choose_loss(rows, wanted):
    if wanted:
        if wanted not in rows:
            raise hr.ResultsError(f"--figure {wanted}: /language_model has no such column.", hr.EXIT_CALL)
        return wanted
    return next((loss for loss in LOSSES if loss in rows and np.isfinite(rows[loss].astype(float)).any()), LOSSES[0])


def with_unreplaced(rows, problems):
    """Rows without a replaced layer belong to no backend: they are the start of every line on their problem."""
    plain = rows[(rows["replaced"] == 0) & (rows["backend"] == "")]
    others = rows.drop(plain.index)
    if others.empty:
        return plain.assign(backend="exact", series="no layer replaced")
    keys = ["file", "seq_len", "windows", *(column for column in problems if column not in ("input", "seq_len"))]
    parts = [others]
    for _, group in others.groupby([*keys, "backend", "series", "replace"], dropna=False, sort=False):
        first = group.iloc[0]
        same = np.logical_and.reduce([(plain[key] == first[key]) | (plain[key].isna() & pd.isna(first[key])) for key in keys])
        parts.append(plain[same].drop_duplicates("trial").assign(backend=first["backend"], series=first["series"], replace=first["replace"]))
    return pd.concat(parts, ignore_index=True)


def pictures(results, figure=None, title=None, loss_only=False):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    rows = finished_rows(results).assign(input=hr.input_names)
    loss = choose_loss(rows, figure)
    problems = hr.problem_varying(rows, exclude=("replace", "windows"), x="replaced")
    columns = hr.tell_apart(rows, hr.varying(rows), "replaced", [*problems, "replace", "windows"])
    orders = rows.loc[rows["replaced"] > 0, "replace"].nunique()
    counts = rows["windows"].nunique()
    labels = [
        hr.label_of(row, columns) + (f", {row['replace']} layers first" if orders > 1 else "") + (f", {row['windows']} windows" if counts > 1 else "")
        for _, row in rows.iterrows()
    ]
    rows = with_unreplaced(rows.assign(series=labels).sort_values(["backend"] + columns, kind="stable", key=style.sortable), problems)
    speeds = [] if loss_only else ["attention_speedup", "speedup"]
    figures = [loss] + [column for column in speeds if column in rows and np.isfinite(rows[column].astype(float)).any()]
    panels = [(problem, mine, figure) for problem, mine in hr.panels_of(rows, "replaced", always=("seq_len",), exclude=("replace", "windows")) for figure in figures]
    most = style.MOST_PANELS // len(figures) * len(figures)
    for name, page in style.pages("language_model", panels, most):
        yield name, picture_of(results, rows, page, loss, len(figures) if speeds else None, title, skip=(*columns, *problems, "seq_len"))


def draw_panel(axes, rows, column, loss, styles):
    found, drawn = style.draw_lines(axes, rows, "replaced", column, styles)
    layers = hr.distinct(rows, "replaced")
    if len(layers) > 1:
        axes.set_xscale("linear")
        style.value_axis(axes.xaxis, layers, log=False)
    if column == loss:
        base = rows.loc[rows["replaced"] == 0, loss].median()
        if np.isfinite(base):
            axes.axhline(base, color="#000000", linewidth=0.9)
    else:
        axes.axhline(1.0, color="#000000", linewidth=0.9)
        style.measured_axis(axes, drawn + [1.0])
    axes.set_xlabel("layers with replaced attention")
    axes.set_ylabel(NAMES.get(column, column))
    return found


def labels_of(rows):
    """What the configuration calls its models, where it does."""
    labels = [name for name in hr.distinct(rows, "input") if name not in set(rows["source"])]
    return f" ({'; '.join(labels)})" if labels else ""


def picture_of(results, rows, panels, loss, across, title, skip):
    styles = style.series_styles(zip(rows["backend"], rows["series"]))
    picture, axes = style.panel_grid(len(panels), across)
    drawn_labels = {}
    for one, (_, mine, column) in zip(axes, panels):
        drawn_labels.update(draw_panel(one, mine, column, loss, styles))
    style.set_titles(axes, [problem.replace("n = ", "") + " tokens" if problem.startswith("n = ") and "," not in problem else problem for problem, *_ in panels])
    windows = ", ".join(hr.number(value) for value in hr.distinct(rows, "windows"))
    texts = ", ".join(f"{name} (SHA-256 {digest[:8]}…)" for name, digest in sorted(set(zip(rows["text"], rows["text_sha256"]))))
    order = hr.distinct(rows, "replace")
    models = ", ".join(hr.distinct(rows, "model")) + labels_of(rows)
    note = f"Windows: {windows}, of {texts}; {', '.join(order)} layers replaced first; model {models}. Horizontal line: no layer replaced. {hr.spread_note(rows)}"
    style.finish(
        picture,
        title or "Language model with replaced attention",
        hr.caption(rows.drop(columns=["key_len"]), results, note, skip=(*skip, "text", "model", "windows", "replace", "replaced", "layers", "ids")),
        style.legend_handles(style.in_style_order(styles, drawn_labels)),
    )
    return picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the loss to show (default: the first there is of {', '.join(LOSSES)})"))
    parser.add_argument("--loss-only", action="store_true", help="no speeds, which a busy machine would spoil")
    arguments = parser.parse_args()
    style.save_pictures(pictures(hr.load_all(arguments.results), arguments.figure, arguments.title, arguments.loss_only), arguments.output)


if __name__ == "__main__":
    hr.main(run)
