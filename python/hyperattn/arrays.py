"""Arrays of any floating-point type, as the C++ side wants them: 2 to 4 axes, float32, row-major."""

import numpy as np

from .errors import InputError

_FLOAT32 = np.dtype(np.float32)  # of this machine's byte order
_NATIVE = {np.dtype(name) for name in ("float16", "float32", "float64")}
TYPES = "float16, bfloat16, float32 or float64"
_RANKS = {2: "(rows, dim)", 3: "(heads, rows, dim)", 4: "(batch, heads, rows, dim)"}


def as_array(name, given):
    """A NumPy array of floating-point numbers; a view wherever `given` allows one."""
    if type(given) is np.ndarray:
        array = given
    elif type(given).__module__.partition(".")[0] == "torch":
        raise InputError(f"{name} is a torch.Tensor, for which there is hyperattn.torch.attention; this one takes NumPy arrays")
    elif isinstance(given, np.ma.MaskedArray):
        raise InputError(f"{name} is a masked array, whose mask would be lost; give a plain array")
    else:
        try:
            array = np.asarray(given)
        except ValueError as error:  # ragged lists
            raise InputError(f"{name} is no array: {error}") from None
    if array.dtype not in _NATIVE and array.dtype.name not in ("float16", "float32", "float64", "bfloat16"):
        raise InputError(f"{name} must hold {TYPES}, but holds {array.dtype.name}")
    return array


def as_floats(name, array):
    """The array itself where it is float32, row-major and aligned; else a copy that is."""
    if array.dtype == _FLOAT32 and array.flags.c_contiguous and array.flags.aligned:
        return array
    with np.errstate(over="raise"):
        try:
            return np.array(array, dtype=np.float32, order="C", subok=False)
        except FloatingPointError:
            raise InputError(
                f"{name} holds a value beyond the range of float32 (3.4e38), in which attention is computed"
            ) from None


def check_ranks(q, k, v):
    for name, array in (("q", q), ("k", k), ("v", v)):
        if array.ndim not in _RANKS:
            allowed = ", ".join(_RANKS.values())
            raise InputError(f"{name} must have 2, 3 or 4 axes, {allowed}, but has the shape {tuple(array.shape)}")
        if array.ndim != q.ndim:
            raise InputError(
                f"q, k and v must have the same number of axes, but q has the shape {tuple(q.shape)} and {name} {tuple(array.shape)}"
            )
