"""Every link of the documents leads somewhere: to a file of the repository, and where it names a heading, to that one."""

import re
import unittest
from pathlib import Path

from pages import LINK, PAGES, SOURCE, anchors_of, lines_of, name_of


def links_of(page):
    """The targets of all links; a link may go on in the next line."""
    prose = "\n".join(line for _, kind, line in lines_of(page) if kind != "code")
    return [match["target"] for match in LINK.finditer(prose)]


class Links(unittest.TestCase):
    def test_every_link_leads_somewhere(self):
        broken = []
        seen = 0
        for page in PAGES:
            for target in links_of(page):
                if "://" in target:
                    continue
                seen += 1
                path, _, anchor = target.partition("#")
                file = (page.parent / path).resolve() if path else page
                if not file.exists():
                    broken.append(f"{name_of(page)}: there is no file '{path}'")
                elif anchor and anchor not in anchors_of(file):
                    broken.append(f"{name_of(page)}: '{path or name_of(page)}' has no heading '#{anchor}'")
        self.assertEqual(broken, [])
        self.assertGreater(seen, 50)

    def test_every_page_can_be_reached_from_the_readme(self):
        reached, waiting = set(), [SOURCE / "README.md"]
        while waiting:
            page = waiting.pop()
            if page in reached:
                continue
            reached.add(page)
            files = [(page.parent / target.partition("#")[0]).resolve() for target in links_of(page) if "://" not in target]
            waiting += [file for file in files if file.suffix == ".md" and file.is_relative_to(SOURCE.resolve())]
        self.assertEqual([name_of(page) for page in PAGES if page not in reached], [])

    def test_files_that_commands_name_exist(self):
        """Scripts, configurations and examples in code, whole paths from the root."""
        named = re.compile(r"(?<![\w./~])((?:scripts|configs|examples|tests|algorithms|experiments)/[\w./]*\w)(?![\w*…/])")
        missing = []
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            code = re.findall(r"`[^`\n]+`|^ {4}.*$", text, re.MULTILINE)
            for path in {path for piece in code for path in named.findall(piece)}:
                if "NAME" not in path and not (SOURCE / path).exists() and not list((SOURCE / path).parent.glob(Path(path).name + ".*")):
                    missing.append(f"{name_of(page)}: there is no '{path}'")
        self.assertEqual(missing, [])


if __name__ == "__main__":
    unittest.main()
