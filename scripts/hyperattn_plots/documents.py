"""Tables of the documents that are made from results: each stands between `<!-- mark -->` and `<!-- end -->`."""

import re
from pathlib import Path

from hyperattn_plots.command import ResultsError, write_output
from hyperattn_plots.figures import machine_line


def table(head, rows):
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def name_of(row, names):
    """The first of (name, what a case of it has) that fits the row; None where none does."""
    return next((name for name, has in names if all(row.get(column) == value for column, value in has.items())), None)


def named(rows, names):
    """The rows with the names of their cases in the column `method`. Those without a name are left out."""
    rows = rows.assign(method=[name_of(row, names) for _, row in rows.iterrows()])
    return rows[rows["method"].notna()]


def with_machine(text, results):
    """The table with a line below it that says where its results are from."""
    return f"{text}\n\nMachine: {machine_line(results)}."


def by_configuration(results):
    """{name of the configuration: results of it}."""
    found = {}
    for one in results:
        found.setdefault(str(one.attributes.get("name")), []).append(one)
    return found


def with_tables(text, found):
    """The document with each table of {mark: table} in its place."""
    for mark, body in found.items():
        text, count = re.subn(rf"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda at: f"{at[1]}\n{body}\n\n{at[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ResultsError(f"the document has {count} places <!-- {mark} --> … <!-- end -->, where one is needed.")
    return text


def write_tables(path, found):
    document = Path(path)
    write_output(document, with_tables(document.read_text(encoding="utf-8"), found).encode("utf-8"))
