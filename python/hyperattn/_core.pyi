# The module in C++ (python/src/module.cpp). Arrays are float32, row-major, (…, rows, dim), with 2 to 4 axes.
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

version: str

class Run:
    """A method with its settings on a problem; keeps the arrays without copying them."""

    def __init__(
        self,
        q: np.ndarray,
        k: np.ndarray,
        v: np.ndarray,
        method: str,
        engine: str,
        settings: Dict[str, Any],
        causal: bool,
        window: int,
        scale: Optional[float],
        seed: int,
        trial: int,
    ) -> None: ...
    def forward(self) -> None: ...
    def no_gradient(self) -> str: ...
    def out(self) -> np.ndarray: ...
    def lse(self) -> np.ndarray: ...
    def diagnostics(self) -> Dict[str, Any]: ...
    def backward(self, dout: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]: ...
    def measure(self, figures: Sequence[str], settings: Dict[str, Dict[str, Any]]) -> List[Dict[str, Any]]: ...

# ((batch, heads, rows, dim), "bfloat16", address on the GPU)
_Told = Tuple[Tuple[int, int, int, int], str, int]

class DeviceRun:
    """A method with its settings on tensors that lie on a GPU; who calls keeps them alive."""

    def __init__(
        self,
        q: _Told,
        k: _Told,
        v: _Told,
        device: int,
        stream: int,
        method: str,
        engine: str,
        settings: Dict[str, Any],
        causal: bool,
        window: int,
        scale: Optional[float],
        seed: int,
        trial: int,
    ) -> None: ...
    def forward(self, out: _Told, lse: _Told, backward_follows: bool) -> None: ...
    def no_gradient(self) -> str: ...
    def diagnostics(self) -> Dict[str, Any]: ...
    def backward(self, out: _Told, dout: _Told, dq: _Told, dk: _Told, dv: _Told) -> None: ...

def methods() -> List[Dict[str, Any]]: ...
def engines() -> List[Dict[str, Any]]: ...
def figures() -> List[Dict[str, Any]]: ...
def settings(method: str, engine: str) -> List[Dict[str, Any]]: ...
def threads() -> int: ...
