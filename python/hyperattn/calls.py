"""Attention of NumPy arrays."""

import functools
import operator
from typing import Any, NamedTuple, Optional

import numpy as np

from . import _core
from .arrays import as_array, as_floats, check_ranks
from .errors import InputError, UsageError

_U64 = 2**64 - 1
_U32 = 2**32 - 1
_PLAIN = {bool, int, float, str, type(None)}


def _integer(name, value, largest):
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if not 0 <= number <= largest or isinstance(value, bool):
        raise UsageError(f"{name} must be an integer from 0 to {largest}, but is {value!r}")
    return number


def _text(name, value):
    if not isinstance(value, str):
        raise UsageError(f"{name} must be text, but is {value!r}")
    return value


def flag(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise UsageError(f"{name} must be True or False, but is {value!r}")
    return bool(value)


def _number(name, value):
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be a number, but is {value!r}") from None


def request(method, causal, seed, engine, scale, window, trial, settings):
    """The arguments of a call that are no arrays, checked: once, for calls that repeat them."""
    names = tuple((name, type(value), value) for name, value in settings.items())
    kinds = [kind for _, kind, _ in names] + [type(one) for one in (method, causal, seed, engine, scale, window, trial)]
    if _PLAIN.issuperset(kinds):  # others may change, or be equal to what they are not
        return _remembered(method, causal, seed, engine, scale, window, trial, names)
    return _made(method, causal, seed, engine, scale, window, trial, settings)


@functools.lru_cache(maxsize=64, typed=True)
def _remembered(method, causal, seed, engine, scale, window, trial, settings):
    return _made(method, causal, seed, engine, scale, window, trial, {name: value for name, _, value in settings})


def _made(method, causal, seed, engine, scale, window, trial, settings):
    return _core.Request(
        _text("method", method),
        "" if engine is None else _text("engine", engine),
        settings,
        flag("causal", causal),
        _integer("window", window, 2**31 - 1),
        None if scale is None else _number("scale", scale),
        _integer("seed", seed, _U64),
        _integer("trial", trial, _U32),
    )


def prepare(q, k, v, *call):
    """A checked call on float32 arrays, to be run."""
    return _core.Run(request(*call), q, k, v)


class Gradients(NamedTuple):
    """Gradients for q, k and v: float32, in their shapes."""

    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray


class Result:
    """What `attention` returns.

    out: float32, (n_q, d_v), (heads, n_q, d_v) or (batch, heads, n_q, d_v), with as many axes as q; read-only
    lse: float32, the shape of `out` without its last axis; the natural logarithm of each row's (weighted) sum of
        exponentials, −inf for a row that sees no key; read-only
    diagnostics: a dict: `entries`, the number of scores computed; `collisions`, sampled keys dropped because the row
        has them already; `guarded_rows`, rows whose signed denominator vanished; `clipped_share` and `floored_share`
        of the theory's estimator (else NaN); `stage_seconds`, seconds by stage
    """

    out: np.ndarray
    lse: np.ndarray

    def __init__(self, run):
        self._run = run
        self.out = run.out()
        self.lse = run.lse()
        self.out.flags.writeable = False  # the gradient reads them
        self.lse.flags.writeable = False

    @property
    def diagnostics(self) -> dict:
        return self._run.diagnostics()

    def backward(self, dout: Any) -> Gradients:
        """The exact gradient of ⟨out, dout⟩ with the forward's random choices held fixed.

        dout: the shape of `out`, any floating-point type
        returns: (dq, dk, dv), float32, in the shapes of q, k and v

        Reads q, k and v again: they must still hold what they held in the forward call. UsageError where the method
        has no gradient.
        """
        dout = as_array("dout", dout)
        if dout.shape != self.out.shape:
            raise InputError(f"dout must have the shape of out, {self.out.shape}, but has {dout.shape}")
        return Gradients(*self._run.backward(as_floats("dout", dout)))

    def __repr__(self):
        return f"hyperattn.Result(out {self.out.shape}, lse {self.lse.shape}, {self.diagnostics['entries']} scores)"


def prepare_arrays(q, k, v, *call):
    """A checked call on arrays of any kind."""
    q, k, v = as_array("q", q), as_array("k", k), as_array("v", v)
    check_ranks(q, k, v)
    return prepare(as_floats("q", q), as_floats("k", k), as_floats("v", v), *call)


def attention(
    q: Any,
    k: Any,
    v: Any,
    method: str = "hyper",
    causal: bool = False,
    seed: int = 0,
    engine: Optional[str] = None,
    *,
    scale: Optional[float] = None,
    window: int = 0,
    trial: int = 0,
    **settings: Any,
) -> Result:
    """softmax(scale · q kᵀ) v, exactly or approximately, in single precision.

    q: (n_q, d), (heads, n_q, d) or (batch, heads, n_q, d); float16, bfloat16 (of ml_dtypes), float32 or float64
    k: (n_k, d), …; as many axes as q. `heads` of q may be a multiple of those of k and v (grouped queries): query head
        h attends to key head h // (heads // key heads)
    v: (n_k, d_v), …
    method: a name from `hyperattn.methods()`
    causal: row i sees the keys up to i + n_k − n_q, so that the last row sees all
    seed, trial: choose the random numbers; equal arguments give equal bits, whatever the number of threads
    engine: a name from `hyperattn.engines()`; None is the method's own, which is "cpu" for all but `dense` and
        `reference`
    scale: multiplies the scores; None is 1/√d
    window: with `causal`, the most keys that a row sees, its own position the last; 0 is no limit. Only `exact` has it
    settings: those of the method (`hyperattn.describe(method)`)

    Arrays that are float32, row-major and aligned are read where they are; others are copied. Other Python threads run
    meanwhile, and Ctrl-C ends the call. UsageError, InputError and EnvironmentError say who is to blame.
    """
    run = prepare_arrays(q, k, v, method, causal, seed, engine, scale, window, trial, settings)
    run.forward()
    return Result(run)
