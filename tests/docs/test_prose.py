"""What a reader can take in: short lines of prose, short cells, a short README."""

import unittest

from pages import PAGES, SOURCE, cells_of, lines_of, name_of, without_targets

LONGEST_LINE = 120
MOST_WORDS = 15
LONGEST_README = 80


class Prose(unittest.TestCase):
    def each_line(self, kind):
        for page in PAGES:
            for number, line_kind, line in lines_of(page):
                if line_kind == kind:
                    yield f"{name_of(page)}:{number}", line

    def test_lines_of_prose_are_short(self):
        too_long = [
            f"{place}: {len(without_targets(line))} characters, at most {LONGEST_LINE} are allowed"
            for place, line in self.each_line("prose")
            if len(without_targets(line)) > LONGEST_LINE
        ]
        self.assertEqual(too_long, [])

    def test_cells_of_tables_are_short(self):
        too_long = [
            f"{place}: {len(without_targets(cell).split())} words, at most {MOST_WORDS} are allowed, in '{cell}'"
            for place, row in self.each_line("table")
            for cell in cells_of(row)
            if len(without_targets(cell).split()) > MOST_WORDS
        ]
        self.assertEqual(too_long, [])

    def test_rows_of_a_table_have_as_many_cells_as_its_head(self):
        uneven = []
        for page in PAGES:
            width = None
            for number, kind, line in lines_of(page):
                if kind != "table":
                    width = None
                    continue
                width = width or len(cells_of(line))
                if len(cells_of(line)) != width:
                    uneven.append(f"{name_of(page)}:{number}: {len(cells_of(line))} cells, the head has {width}")
        self.assertEqual(uneven, [])

    def test_the_readme_is_short(self):
        lines = (SOURCE / "README.md").read_text(encoding="utf-8").splitlines()
        self.assertLessEqual(len(lines), LONGEST_README)


if __name__ == "__main__":
    unittest.main()
