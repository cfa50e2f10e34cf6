"""The project's documents, taken apart: lines of prose, rows of tables, code, headings, links."""

import os
import re
from pathlib import Path

SOURCE = Path(os.environ["HYPERATTN_SOURCE"])
PAGES = sorted(
    [SOURCE / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + list((SOURCE / "docs").glob("*.md"))
)
LINK = re.compile(r"!?\[(?P<text>(?:[^][]|\[[^][]*\])*)\]\((?P<target>[^)\s]+)\)")


def name_of(page):
    return page.relative_to(SOURCE).as_posix()


def lines_of(page):
    """(number, kind, text) of each line; the kind is prose, table, heading or code."""
    fenced = False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            yield number, "code", line
        elif fenced or line.startswith("    "):
            yield number, "code", line
        elif line.startswith("|"):
            yield number, "table", line
        else:
            yield number, "heading" if line.startswith("#") else "prose", line


def without_targets(line):
    """The line as it is read: a link is its text."""
    return LINK.sub(lambda match: match["text"], line)


def cells_of(row):
    return [cell.replace("\0", "|").strip() for cell in row.replace("\\|", "\0").strip("|").split("|")]


def blocks_of(page, language):
    """(line, code) of the fenced blocks in this language."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield text[: match.start()].count("\n") + 2, match.group(1)


def anchors_of(page):
    """The anchors of a page's headings, as GitHub (and the site, docs/site/hooks.py) names them."""
    seen = {}
    anchors = set()
    for _, kind, line in lines_of(page):
        if kind == "heading":
            text = without_targets(line.lstrip("#").strip()).lower()
            anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
            again = seen.get(anchor, -1) + 1
            seen[anchor] = again
            anchors.add(anchor if again == 0 else f"{anchor}-{again}")
    return anchors
