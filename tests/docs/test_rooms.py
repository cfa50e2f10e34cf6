"""Who includes whom among the folders, sources as well as headers: one way, in the order of docs/architecture.md."""

import re
import tempfile
import unittest
from pathlib import Path

from pages import SOURCE, cells_of, lines_of

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)
SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
# Files directly in algorithms/ are its words (plans, problems) and its doors (the registry): no room of its own.
TOPS = ("core", "algorithms", "experiments", "python")


def includes(root, top):
    """(file, included file), both as paths below `root`, of every include of what lies below `root`."""
    for path in sorted((root / top).rglob("*")):
        if path.suffix in SUFFIXES:
            for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
                if (root / name).is_file():
                    yield path.relative_to(root).as_posix(), name


def folder_edges(pairs, room_of):
    """{(room, included room): a pair of files that says so}."""
    edges = {}
    for file, included in pairs:
        rooms = room_of(file), room_of(included)
        if None not in rooms and rooms[0] != rooms[1]:
            edges.setdefault(rooms, f"{file} includes {included}")
    return edges


def circle(edges):
    """The includes that close a circle of rooms, or nothing."""
    following = {}
    for room, included in edges:
        following.setdefault(room, []).append(included)
    done = set()

    def search(room, path):
        if room in path:
            around = [*path[path.index(room) :], room]
            return [edges[pair] for pair in zip(around, around[1:])]
        if room in done:
            return []
        done.add(room)
        found = (search(included, [*path, room]) for included in following.get(room, []))
        return next(filter(None, found), [])

    return next(filter(None, (search(room, []) for room in list(following))), [])


def folder(file):
    return file.rpartition("/")[0]


def folder_below(top):
    """The folder in `top` that holds the file, at any depth; none for a file directly in it or elsewhere."""

    def room(file):
        parts = file.split("/")
        return parts[1] if parts[0] == top and len(parts) > 2 else None

    return room


def documented_order():
    """The folders of experiments/ as the table lists them, with the number of their row."""
    page = SOURCE / "docs/architecture.md"
    lines = [line for _, _, line in lines_of(page)]
    start = next(i for i, line in enumerate(lines) if line.startswith("The folders of `experiments/`"))
    first = next(i for i in range(start, len(lines)) if lines[i].startswith("|"))
    rows = {}
    for row, line in enumerate(lines[first:]):
        if not line.startswith("|"):
            break
        for name in re.findall(r"`([a-z_/]+)/`", cells_of(line)[0]):
            rows[f"experiments/{name}"] = row
    return rows


class Rooms(unittest.TestCase):
    def test_a_circle_is_found(self):
        with tempfile.TemporaryDirectory() as name:
            root = Path(name)
            for file, included in (("a/x.cpp", "b/x.h"), ("b/y.cpp", "c/x.h"), ("c/x.h", "a/x.h"), ("d/x.h", "a/x.h")):
                for made in (file, included):
                    (root / made).parent.mkdir(exist_ok=True)
                    (root / made).touch()
                (root / file).write_text(f'// a comment\n#include <b/y.h>\n  #  include "{included}"\n')
            pairs = [pair for top in "abcd" for pair in includes(root, top)]
            self.assertEqual(len(pairs), 4)
            self.assertEqual(
                circle(folder_edges(pairs, folder)),
                ["a/x.cpp includes b/x.h", "b/y.cpp includes c/x.h", "c/x.h includes a/x.h"],
            )
            self.assertEqual(circle(folder_edges(pairs[:2] + pairs[3:], folder)), [])

    def test_the_libraries_include_one_another_one_way(self):
        pairs = [pair for top in TOPS for pair in includes(SOURCE, top)]
        self.assertGreater(len(pairs), 1000)
        edges = folder_edges(pairs, lambda file: file.split("/")[0])
        wrong = [why for (top, included), why in edges.items() if TOPS.index(top) < TOPS.index(included)]
        self.assertEqual(wrong, [])

    def test_the_headers_have_no_circle(self):
        headers = [pair for top in TOPS for pair in includes(SOURCE, top) if pair[0].endswith((".h", ".cuh"))]
        self.assertEqual(circle(folder_edges(headers, lambda file: file)), [])

    def test_the_folders_of_algorithms_have_no_circle(self):
        edges = folder_edges(includes(SOURCE, "algorithms"), folder_below("algorithms"))
        self.assertIn(("methods", "residuals"), edges)
        self.assertEqual(circle(edges), [])

    def test_the_engines_have_no_circle(self):
        self.assertEqual(circle(folder_edges(includes(SOURCE, "algorithms/engines"), folder)), [])

    def test_the_folders_of_experiments_include_only_what_stands_below_them(self):
        rows = documented_order()
        sources = {folder(file) for file, _ in includes(SOURCE, "experiments")} - {"experiments"}
        self.assertEqual(sources - set(rows), set(), "folders of sources without a row in docs/architecture.md")
        edges = folder_edges(
            includes(SOURCE, "experiments"), lambda file: folder(file) if folder(file) in rows else None
        )
        upwards = [why for (room, included), why in edges.items() if rows[room] >= rows[included]]
        self.assertEqual(upwards, [])


if __name__ == "__main__":
    unittest.main()
