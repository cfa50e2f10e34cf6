"""The program knows methods, engines, masks, residuals and the choices of their parameters by their declarations alone: no
source of experiments/ has one of these names as a literal, so that a new one needs no change there."""

import json
import re
import unittest

from cli_test import SOURCE, CliTest

# Literals that are equal to a declared name and mean something else. (file within experiments, literal): what it means.
OTHER_MEANINGS = {
    ("cli/results_commands.cpp", "file"): "what is counted",
    ("config/case_identity.cpp", "file"): "the input source, in the frozen list of version 0.1",
    ("config/case_identity.cpp", "mask"): "the parameter, in that list",
    ("config/case_identity.cpp", "residual"): "the parameter, in that list",
    ("config/case_identity.cpp", "lsh"): "the method, in that list: what it had then is history, and no declaration says it",
    ("config/case_identity.cpp", "hyper"): "the method, in that list",
    ("config/generators.cpp", "count"): "an argument of linspace and logspace",
    ("config/registry.cpp", "auto"): "a value of timing.repeats, which is declared there",
    ("config/resolved_yaml.cpp", "auto"): "the same",
    ("config/schema.cpp", ".inf"): "YAML's word for an infinite number",
    ("config/values.cpp", ".inf"): "the same",
    ("config/where_expression.cpp", ".inf"): "the same",
    ("inputs/file.cpp", "file"): "the name of the input source that is declared there",
    ("language_model/config/config_fields.cpp", "prefix"): "a key of config.json",
    ("results/record_text.cpp", "row"): "a key of the journal's records",
    ("results/schema.cpp", "mask"): "the column of the parameter",
    ("results/schema.cpp", "residual"): "the column of the parameter",
}


def declared_names(schema):
    """name -> what declares it, of every backend in the configuration's JSON Schema and of its parameters' choices."""
    names = {}
    for form in schema["properties"]["backends"]["anyOf"][0]["anyOf"]:
        if "properties" not in form:
            continue  # a backend without parameters may be written as its name
        backend = form["properties"]["name"]["const"]
        names.setdefault(backend, "a backend")
        for parameter, spec in form["properties"].items():
            for choices in (spec, *spec.get("anyOf", [])):
                for choice in choices.get("enum", []):
                    if isinstance(choice, str):
                        names.setdefault(choice, f"a choice of {parameter} of backend {backend}")
    return names


def literals(text):
    """(line, literal) of each string of a C++ source, of its comments and includes none."""
    text = re.sub(r"^\s*#include.*$", "", text, flags=re.MULTILINE)
    for token in re.finditer(r'//[^\n]*|/\*.*?\*/|\'(?:\\.|[^\'\\\n])\'|"((?:\\.|[^"\\\n])*)"', text, re.DOTALL):
        if token[1] is not None:
            yield text.count("\n", 0, token.start()) + 1, token[1]


class DeclaredNames(CliTest):
    def declared(self):
        names = declared_names(json.loads(self.call("list", "--schema").stdout))
        for name in ("exact", "cpu", "sort_lsh", "none", "centroids", "value_norm", "bf16"):
            self.assertIn(name, names, "the schema declares backends, engines, masks, residuals and choices")
        return names

    def test_literals_are_seen_and_comments_are_not(self):
        source = '#include "hyper"\n// "lsh"\nif (name == "hyper" || c == \'"\') call("a \\" b", /* "tree" */ "lsh");\n'
        self.assertEqual(list(literals(source)), [(3, "hyper"), (3, 'a \\" b'), (3, "lsh")])

    def test_no_source_of_the_program_names_what_a_declaration_names(self):
        names = self.declared()
        folder = SOURCE / "experiments"
        sources = [path for path in sorted(folder.rglob("*")) if path.suffix in (".cpp", ".h") and path.parent.name != "benchmarks"]
        self.assertGreater(len(sources), 100, f"the sources of {folder}")
        wrong, met = [], set()
        for path in sources:
            file = path.relative_to(folder).as_posix()
            for line, literal in literals(path.read_text(encoding="utf-8")):
                if literal not in names:
                    continue
                met.add((file, literal))
                if (file, literal) not in OTHER_MEANINGS:
                    wrong.append(f'experiments/{file}:{line}: "{literal}" is {names[literal]}')
        self.assertEqual(wrong, [], "ask the declarations instead, or say in OTHER_MEANINGS what else the word means")
        self.assertEqual(sorted(set(OTHER_MEANINGS) - met), [], "exceptions that nothing needs any more")


if __name__ == "__main__":
    unittest.main()
