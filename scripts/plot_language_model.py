#!/usr/bin/env python3
"""A language model with some layers' attention replaced: bits per byte (or per token) and speedup against the number of
replaced layers, from results files of `hyperattn lm`.

    plot_language_model.py RESULTS.h5 … -o DIR [--figure perplexity]
"""

import hyperattn_results as hr
import numpy as np
import pandas as pd
import plot_style as style

LOSSES = ["bits_per_byte", "bits_per_token", "perplexity", "cross_entropy"]
NAMES = {
    "bits_per_byte": "bits per byte",
    "bits_per_token": "bits per token",
    "perplexity": "perplexity (e to the mean cross-entropy in nats)",
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


def with_unreplaced(rows):
    """Rows without a replaced layer belong to no backend: they are the start of every line."""
    plain = rows[(rows["replaced"] == 0) & (rows["backend"] == "")]
    others = rows.drop(plain.index)
    parts = [others]
    shape = ["file", "seq_len", "replace"]
    for _, group in others.drop_duplicates(shape + ["backend", "series"]).iterrows():
        start = plain[(plain[["file", "seq_len"]] == group[["file", "seq_len"]]).all(axis=1)].drop_duplicates("trial")
        parts.append(start.assign(backend=group["backend"], series=group["series"], replace=group["replace"]))
    return pd.concat(parts, ignore_index=True) if len(others) else plain.assign(backend="exact", series="no layer replaced")


def pictures(results, figure=None, title=None):
    """Yields (name, figure). Raises ResultsError where there is nothing to plot."""
    rows = finished_rows(results)
    loss = choose_loss(rows, figure)
    columns = hr.varying(rows)
    orders = rows.loc[rows["replaced"] > 0, "replace"].nunique()
    labels = [hr.label_of(row, columns) + (f", {row['replace']} layers first" if orders > 1 else "") for _, row in rows.iterrows()]
    rows = with_unreplaced(rows.assign(series=labels).sort_values(["backend"] + columns, kind="stable"))
    styles = style.series_styles(zip(rows["backend"], rows["series"]))

    lengths = hr.distinct(rows, "seq_len")
    figures = [loss] + [column for column in ("attention_speedup", "speedup") if column in rows and np.isfinite(rows[column].astype(float)).any()]
    picture, axes = style.panel_grid(len(lengths) * len(figures), len(figures))
    drawn_labels = {}
    for index, one in enumerate(axes):
        length, column = lengths[index // len(figures)], figures[index % len(figures)]
        mine = rows[rows["seq_len"] == length]
        found, drawn = style.draw_lines(one, mine, "replaced", column, styles)
        drawn_labels.update(found)
        layers = hr.distinct(mine, "replaced")
        if len(layers) > 1:
            one.set_xscale("linear")
            style.value_axis(one.xaxis, layers, log=False)
        if column == loss:
            base = mine.loc[mine["replaced"] == 0, loss].median()
            if np.isfinite(base):
                one.axhline(base, color="#000000", linewidth=0.9)
        else:
            one.axhline(1.0, color="#000000", linewidth=0.9)
            style.measured_axis(one, drawn + [1.0])
        one.set_xlabel("layers with replaced attention")
        one.set_ylabel(NAMES.get(column, column))
        one.set_title(f"{length} tokens", loc="left")
    windows = ", ".join(hr.number(value) for value in hr.distinct(rows, "windows"))
    texts = ", ".join(f"{name} (SHA-256 {digest[:8]}…)" for name, digest in sorted(set(zip(rows["text"], rows["text_sha256"]))))
    order = hr.distinct(rows, "replace")
    note = f"Windows: {windows}, of {texts}; {', '.join(order)} layers replaced first; model {', '.join(hr.distinct(rows, 'model'))}. Horizontal line: no layer replaced. {hr.spread_note(rows)}"
    style.finish(
        picture,
        title or "Language model with replaced attention",
        hr.caption(rows.drop(columns=["seq_len", "key_len"]), results, note, skip=columns),
        style.legend_handles(style.in_style_order(styles, drawn_labels)),
    )
    yield "language_model", picture


def run():
    parser = hr.arguments(__doc__, figure=dict(help=f"the loss to show (default: the first there is of {', '.join(LOSSES)})"))
    arguments = parser.parse_args()
    hr.save_pictures(pictures(hr.load_all(arguments.results), arguments.figure, arguments.title), arguments.output)


if __name__ == "__main__":
    hr.main(run)
