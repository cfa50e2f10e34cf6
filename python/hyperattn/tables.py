"""What there is, and what is measured, as pandas tables."""

from typing import TYPE_CHECKING, Any, Optional, Sequence

from . import _core
from .calls import prepare_arrays
from .errors import EnvironmentError

if TYPE_CHECKING:  # imported where it is used, for it takes long
    import pandas


def require(module, purpose):
    """The module, or a sentence that says how to get it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentError(f"{purpose} needs the module {module} ({error}); install it: pip install {module}") from None


def _table(rows, index, purpose):
    return require("pandas", purpose).DataFrame(rows).set_index(index)


def methods() -> "pandas.DataFrame":
    """A row for each method: what it is, the engine that it runs on, whether it has a gradient (with its default
    settings), and whether it is approximate."""
    return _table(_core.methods(), "method", "hyperattn.methods")


def engines() -> "pandas.DataFrame":
    """A row for each engine: what it is, and whether it runs on this machine."""
    return _table(_core.engines(), "engine", "hyperattn.engines")


def figures() -> "pandas.DataFrame":
    """A row for each figure that `measure` and sweeps can give: its measure, meaning and unit, and whether it is shown
    unless others are asked for (`headline`) and says how wrong a result is (`error`)."""
    return _table(_core.figures(), "figure", "hyperattn.figures")


def describe(method: str, engine: Optional[str] = None) -> "pandas.DataFrame":
    """A row for each setting of a method: type, default, what is allowed, unit, meaning, and what other settings must
    be for it to have an effect. A setting that has none is refused."""
    rows = _core.settings(method, engine or "")
    columns = ["setting", "type", "default", "allowed", "unit", "meaning", "effect_only_with"]
    return require("pandas", "hyperattn.describe").DataFrame(rows, columns=columns).set_index("setting")


def measure(
    q: Any,
    k: Any,
    v: Any,
    method: str = "hyper",
    figures: Optional[Sequence[str]] = None,
    causal: bool = False,
    seed: int = 0,
    engine: Optional[str] = None,
    *,
    scale: Optional[float] = None,
    trial: int = 0,
    measure_settings: Optional[dict] = None,
    **settings: Any,
) -> "pandas.DataFrame":
    """How far a method's output is from exact attention's, and the quantities of the paper's bound.

    q, k, v and the other arguments: as of `attention`
    figures: names from `hyperattn.figures()`, of figures or of whole measures; None is all headline figures. Those of
        `timing` are measured by sweeps only
    measure_settings: {measure: {setting: value}}

    Returns a table with a column for each figure (and `norm_status`, whether the norms behind them converged), and the
    rows "all" (the largest over heads, unless the figure's name says otherwise), "head 0", … (batch · heads + head)
    and, if causal, "level 1", … of the recursion. A figure that a row does not have is NaN. Costs several passes of
    exact attention; nothing of size n × n is stored.
    """
    pandas = require("pandas", "hyperattn.measure")
    if figures is None:
        figures = [row["figure"] for row in _core.figures() if row["headline"] and row["measure"] != "timing"]
    elif isinstance(figures, str):
        figures = [figures]
    run = prepare_arrays(q, k, v, method, causal, seed, engine, scale, 0, trial, settings)
    return pandas.DataFrame(run.measure(list(figures), measure_settings or {})).set_index("of")
