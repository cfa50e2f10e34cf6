"""Approximate attention with measured error: any method of HyperAttention Lab on NumPy arrays.

    import hyperattn
    result = hyperattn.attention(q, k, v, method="hyper", causal=True, sample_size=256)
    dq, dk, dv = result.backward(dout)

`hyperattn.torch` has the same for PyTorch's tensors, with autograd; `hyperattn.transformers` patches models.
docs/python.md tells the rest.
"""

from ._core import version as __version__
from .calls import Gradients, Result, attention
from .errors import EnvironmentError, Error, InputError, UsageError
from .sweeps import load, sweep
from .tables import describe, engines, figures, measure, methods

__all__ = [
    "EnvironmentError",
    "Error",
    "Gradients",
    "InputError",
    "Result",
    "UsageError",
    "__version__",
    "attention",
    "describe",
    "engines",
    "figures",
    "load",
    "measure",
    "methods",
    "sweep",
]
