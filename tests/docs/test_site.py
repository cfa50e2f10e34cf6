"""The site that scripts/docs.sh builds: every link and anchor leads somewhere, nothing comes from elsewhere, formulas and
search are there."""

import html.parser
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from pages import PAGES, SOURCE, blocks_of


class Page(html.parser.HTMLParser):
    def __init__(self, file):
        super().__init__()
        self.links, self.loaded, self.anchors, self.formulas = [], [], set(), 0
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self.formulas += tag == "div" and values.get("class") == "arithmatex"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif values.get("rel") not in ("canonical", "next", "prev"):
            self.loaded += [values[name] for name in ("src", "href") if values.get(name) and tag != "a"]


class Site(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = Path(cls.folder.name).resolve()
        environment = {**os.environ, "HYPERATTN_SKIP_SETUP": "1"}
        run = subprocess.run([SOURCE / "scripts/docs.sh", "-o", cls.root], env=environment, capture_output=True, text=True, timeout=240)
        if run.returncode != 0:
            raise AssertionError(f"scripts/docs.sh failed ({run.returncode}):\n{run.stdout}{run.stderr}")
        cls.pages = {file: Page(file) for file in sorted(cls.root.glob("*.html")) if file.name != "404.html"}

    def test_every_document_is_a_page(self):
        names = {"index" if page.name == "README.md" else page.stem for page in PAGES}
        self.assertEqual({file.stem for file in self.pages}, names)

    def test_every_link_and_anchor_leads_somewhere(self):
        broken = []
        seen = 0
        for file, page in self.pages.items():
            for target in page.links + page.loaded:
                if "://" in target or target.startswith("data:"):
                    continue
                seen += 1
                path, _, anchor = target.partition("#")
                goal = (file.parent / path).resolve() if path else file
                goal = goal / "index.html" if goal.is_dir() else goal
                if not goal.exists():
                    broken.append(f"{file.name}: '{target}': there is no such file")
                elif anchor and goal in self.pages and anchor not in self.pages[goal].anchors:
                    broken.append(f"{file.name}: '{target}': there is no such anchor")
        self.assertEqual(broken, [])
        self.assertGreater(seen, 500)

    def test_nothing_is_loaded_from_elsewhere(self):
        self.assertEqual({target for page in self.pages.values() for target in page.loaded if "//" in target}, set())

    def test_every_formula_is_there(self):
        for document in PAGES:
            name = "index.html" if document.name == "README.md" else document.stem + ".html"
            self.assertEqual(self.pages[self.root / name].formulas, len(list(blocks_of(document, "math"))), name)
        self.assertTrue((self.root / "katex/katex.min.js").exists())

    def test_search_knows_every_page(self):
        index = json.loads((self.root / "search/search_index.json").read_text(encoding="utf-8"))
        self.assertEqual({entry["location"].partition("#")[0] or "index.html" for entry in index["docs"]}, {file.name for file in self.pages})


if __name__ == "__main__":
    unittest.main()
