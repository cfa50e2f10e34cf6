"""What the program declares of its parameters and figures: names, units, defaults, and when a parameter has an effect.
A results file carries it as /declarations (docs/results-format.md); for files of version 0.1, which do not, it is in
version_0_1.json."""

import json
from pathlib import Path

VERSION_0_1 = Path(__file__).with_name("version_0_1.json")

# Shapes of the problem, which sources declare in ways of their own.
SHAPES = ["seq_len", "key_len", "head_dim", "value_dim", "heads", "kv_heads", "batch"]


class Declarations:
    """The declarations of all files that were loaded: names are for good, so they never contradict each other."""

    def __init__(self):
        self.columns = {}  # name -> declaration, in the order of the file that was loaded last
        self.parameters = {}  # (of, owner, name) -> declaration
        self.backends = {}
        self.learn(json.loads(VERSION_0_1.read_text(encoding="utf-8")))

    def learn(self, declared):
        """Adds what a file declares."""
        columns = {column["name"]: column for column in declared.get("columns", [])}
        self.columns = columns | {name: column for name, column in self.columns.items() if name not in columns}
        for parameter in declared.get("parameters", []):
            self.parameters[(parameter["of"], parameter["owner"], parameter["name"])] = parameter
        self.backends.update({backend["name"]: backend for backend in declared.get("backends", [])})

    def of_backend(self, backend):
        """The backend's parameters by name."""
        return {name: parameter for (of, owner, name), parameter in self.parameters.items() if of == "backends" and owner == backend}

    def method_columns(self):
        """The columns that hold parameters of backends."""
        return list(dict.fromkeys(parameter["column"] for (of, _, _), parameter in self.parameters.items() if of == "backends"))

    def problem_columns(self):
        """The columns that say what is computed and on what: the inputs, the problem and the pass."""
        methods = set(self.method_columns())
        skip = methods | {"backend", "input_label", "layers", "replaced"}
        return [name for name, column in self.columns.items() if column["role"] == "parameter" and name not in skip]

    def column_of(self, of, owner, name):
        """The column that holds a parameter."""
        parameter = self.parameters.get((of, owner, name))
        return parameter["column"] if parameter else name

    def by_column(self, column):
        """The declarations of the parameters that a column holds."""
        return [parameter for parameter in self.parameters.values() if parameter["column"] == column]

    def is_choice(self, column):
        """Whether the parameter chooses among methods, as opposed to a size."""
        return any(parameter["type"] in ("choice", "boolean") for parameter in self.by_column(column))

    def depends_on_others(self, column):
        """Whether the default of a parameter that the column holds is another one with other values of others."""
        return any(parameter.get("other_defaults") for parameter in self.by_column(column))

    def default_in(self, column, row):
        """The default of the parameter of the row's backend, with the values that the row has of others."""
        for parameter in self.by_column(column):
            if parameter["owner"] != row.get("backend"):
                continue
            for other in parameter.get("other_defaults", []):
                if row.get(other["parameter"]) == other["with"]:
                    return other["default"]
            return parameter.get("default")
        return None

    def default_of(self, column):
        """The default, as the column has it; None where owners differ or there is none."""
        defaults = [parameter.get("default") for parameter in self.by_column(column)]
        defaults = [int(value) if isinstance(value, bool) else value for value in defaults]
        return defaults[0] if defaults and all(value == defaults[0] for value in defaults) else None

    def error_figures(self):
        """The columns that say how wrong a result is, the ones that most readers want first."""
        errors = [column for column in self.columns.values() if column.get("error")]
        return [column["name"] for column in sorted(errors, key=lambda column: not column.get("headline"))]

    def exact_backends(self):
        return [name for name, backend in self.backends.items() if not backend["approximate"]]

    def has_effect(self, parameter, values, specs, depth=0):
        """Whether a parameter has an effect where the backend's parameters (and `causal`) have these values by name; a
        condition on what has no value holds."""
        if depth > len(specs):
            return True
        for condition in parameter.get("only_with", []):
            known = [one for one in condition if values.get(one["parameter"]) is not None]
            if known and not any(self.is_met(one, values, specs, depth) for one in known):
                return False
        return True

    def is_met(self, alternative, values, specs, depth):
        name = alternative["parameter"]
        admitted = values[name] in alternative["one_of"] if "one_of" in alternative else values[name] not in alternative["other_than"]
        return admitted and (name not in specs or self.has_effect(specs[name], values, specs, depth + 1))


DECLARED = Declarations()
