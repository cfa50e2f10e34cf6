"""Who imports whom among the scripts: downwards only, so never in a circle."""

import ast
import re
import unittest

from script_test import SCRIPTS

PACKAGE = "hyperattn_plots"
# Scripts from below: each may import those of lower ranks and the package, which imports none of them.
RANKS = [
    {"hyperattn_results", "plot_style", "random_models"},
    {path.stem for path in SCRIPTS.glob("plot_*.py")} - {"plot_style"},
    {"compare_field", "compare_results", "document_tables", "compare_pytorch", "bench_gpu", "compare_transformers", "unpack_gguf", "report"},
    {"hyperattn_plot"},
]


def modules():
    """name -> the names of the project's own modules that it imports, anywhere in it."""
    files = {".".join(path.relative_to(SCRIPTS).with_suffix("").parts): path for path in SCRIPTS.rglob("*.py")}
    names = {name.removesuffix(".__init__"): path for name, path in files.items()}
    found = {}
    for name, path in names.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: imports are absolute here, so that this test sees them"
                imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        found[name] = imported & set(names) - {PACKAGE, f"{PACKAGE}.page"}  # which hold nothing but their parts
    return found


def order_of_package():
    """The modules of the package from below, as its own description lists them."""
    listed = re.findall(r"^    (\S+)  ", ast.get_docstring(ast.parse((SCRIPTS / PACKAGE / "__init__.py").read_text(encoding="utf-8"))), re.MULTILINE)
    return [f"{PACKAGE}.{name}" for name in listed]


class Imports(unittest.TestCase):
    def setUp(self):
        self.imports = modules()

    def reach(self, name, seen=None):
        seen = set() if seen is None else seen
        for other in self.imports[name] - seen:
            seen.add(other)
            self.reach(other, seen)
        return seen

    def test_there_is_no_circle(self):
        self.assertIn(f"{PACKAGE}.loader", self.imports["hyperattn_results"])
        self.assertIn("hyperattn_results", self.imports["report"])
        self.assertEqual([name for name in self.imports if name in self.reach(name)], [])

    def test_the_package_imports_what_it_lists_before(self):
        order = order_of_package()
        parts = {name for name in self.imports if name.startswith(PACKAGE + ".")} - {f"{PACKAGE}.page"}
        self.assertEqual(sorted(order), sorted(parts), "the list in hyperattn_plots/__init__.py names every module once")
        for place, name in enumerate(order):
            self.assertEqual(self.imports[name] - set(order[:place]), set(), f"{name} imports what is not before it")

    def test_scripts_import_those_below_them(self):
        scripts = {name for name in self.imports if not name.startswith(PACKAGE)}
        self.assertEqual(scripts, set().union(*RANKS), "every script has a rank in this test")
        for rank, names in enumerate(RANKS):
            below = set().union(*RANKS[:rank])
            for name in names:
                others = {other for other in self.imports[name] if not other.startswith(PACKAGE)} - below
                self.assertEqual(others, set(), f"{name} imports a script that is not below it")

    def test_the_loader_needs_no_pictures_and_is_in_the_package_whole(self):
        needed = self.reach("hyperattn_results")
        text = (SCRIPTS.parent / "python" / "CMakeLists.txt").read_text(encoding="utf-8")
        listed = re.search(r"foreach\(part ([^)]*)\)", text)[1].split()
        parts = {f"{PACKAGE}.{name.removesuffix('.py')}" for name in listed if name.endswith(".py") and name != "__init__.py"}
        self.assertEqual(sorted(parts), sorted(needed), "python/CMakeLists.txt copies what hyperattn_results imports")
        for name in {"hyperattn_results", *needed}:
            source = (SCRIPTS / (name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
            self.assertNotIn("matplotlib", re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE), name)


if __name__ == "__main__":
    unittest.main()
