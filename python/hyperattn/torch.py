"""Attention of PyTorch's tensors, with autograd: `hyperattn.torch.attention`.

Under `torch.compile` it is one opaque operator, `torch.ops.hyperattn.attention`, which holds nothing between its calls:
its gradient runs the forward once more.
"""

import ast
from typing import Any, Optional, Tuple, Union

import torch
from torch.autograd.function import once_differentiable

from . import _core
from .arrays import TYPES, check_ranks
from .calls import flag, request
from .errors import InputError, UsageError

__all__ = ["attention"]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_PRECISIONS = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
_ON_A_CARD = ("cuda", "cudnn")  # engines, of which the second is a method's name, too


def _check_tensor(name, tensor):
    if not isinstance(tensor, torch.Tensor):
        raise InputError(f"{name} must be a torch.Tensor, but is a {type(tensor).__name__}")
    if tensor.dtype not in _FLOATS:
        raise InputError(f"{name} must hold {TYPES}, but holds {str(tensor.dtype).partition('.')[2]}")
    if tensor.layout != torch.strided:
        raise InputError(f"{name} must be a dense tensor, but has the layout {tensor.layout}")
    if tensor.device.type not in ("cpu", "cuda"):
        raise InputError(f"{name} is on {tensor.device}, but must be on the CPU or a CUDA device")


def _check_devices(q, k, v, method, engine):
    for name, tensor in (("k", k), ("v", v)):
        if tensor.device != q.device:
            raise InputError(f"q, k and v must be on one device, but q is on {q.device} and {name} on {tensor.device}")
    if q.device.type == "cuda" and engine not in _ON_A_CARD and method not in _ON_A_CARD:
        raise InputError(
            f"q is on {q.device}, but engine {engine or 'cpu'!r} computes on the CPU; say engine=\"cuda\", or move the "
            "tensors by .cpu()"
        )


def _floats(name, tensor):
    """float32 and row-major, as a NumPy array: the tensor's own memory where it is such on the CPU."""
    return _in_float32(name, tensor.detach().cpu()).contiguous().numpy()


def _in_float32(name, tensor):
    floats = tensor.to(torch.float32)
    if tensor.dtype == torch.float64 and not torch.isfinite(floats).all() and torch.isfinite(tensor).all():
        raise InputError(f"{name} holds a value beyond the range of float32 (3.4e38), in which attention is computed")
    return floats


def _reads_in_place(tensor):
    if tensor.device.type == "cuda":
        return _lies_well(tensor)
    return tensor.dtype == torch.float32 and tensor.is_contiguous()


def _lies_well(tensor):
    """Whether the engine reads and writes it where it lies on the GPU."""
    return tensor.dtype in _PRECISIONS and tensor.is_contiguous() and tensor.data_ptr() % 16 == 0


def _laid_well(name, tensor):
    """The tensor itself or a copy on its GPU, row-major and in a type that the engine has."""
    if tensor.dtype == torch.float64:
        tensor = _in_float32(name, tensor)
    tensor = tensor.detach().contiguous()
    return tensor if _lies_well(tensor) else tensor.clone(memory_format=torch.contiguous_format)


def _told(tensor):
    """What the C++ side knows of a tensor on a GPU: its shape with four axes, type and address."""
    shape = (1,) * (4 - tensor.dim()) + tensor.shape
    return shape, _PRECISIONS[tensor.dtype], tensor.data_ptr()


class _RunOnHost:
    """A call in the host's memory, wherever the tensors are."""

    def __init__(self, q, k, v, call):
        self._types = [tensor.dtype for tensor in (q, k, v)]
        self._device = q.device
        floats = [_floats(name, tensor) for name, tensor in (("q", q), ("k", k), ("v", v))]
        self.request = request(*call)
        self._run = _core.Run(self.request, *floats)

    def forward(self, backward_follows, wait):
        """out in v's type, and lse in float32; what `backward` reads is kept, and the result waited for, in any case."""
        self._run.forward()
        out, lse = torch.from_numpy(self._run.out()), torch.from_numpy(self._run.lse())
        return out.to(self._device, self._types[2]), lse.to(self._device)

    def backward(self, dout):
        pieces = zip(self._run.backward(_floats("dout", dout)), self._types)
        return tuple(torch.from_numpy(array).to(dout.device, dtype) for array, dtype in pieces)


class _RunOnCard:
    """A call on tensors of a CUDA device, which stay there; on the stream that is PyTorch's current one."""

    def __init__(self, q, k, v, call):
        method, causal, seed, engine, scale, window, trial, settings = call
        tensors = [_laid_well(name, tensor) for name, tensor in (("q", q), ("k", k), ("v", v))]
        settings = {"precision": _PRECISIONS[tensors[0].dtype], **settings}
        self._types = [tensor.dtype for tensor in (q, k, v)]
        self._tensors = tensors  # alive as long as the run
        self._device = q.device
        self._out = None
        self.request = request(method, causal, seed, engine, scale, window, trial, settings)
        stream = torch.cuda.current_stream(q.device).cuda_stream
        self._run = _core.DeviceRun(self.request, *map(_told, tensors), q.device.index, stream)

    def forward(self, backward_follows, wait):
        """out in v's type, and lse in float32."""
        q, _, v = self._tensors
        self._run.plan()  # the card begins while there is no room for results yet
        out = torch.empty(q.shape[:-1] + v.shape[-1:], dtype=v.dtype, device=self._device)
        lse = torch.empty(q.shape[:-1] + (1,), dtype=torch.float32, device=self._device)
        self._run.forward(_told(out), _told(lse), backward_follows)
        if backward_follows:
            self._out = out.detach()  # the tensor itself will hold this run
        result = out.to(self._types[2]), lse[..., 0]
        if wait:  # last: the card has been computing meanwhile
            self._wait()
        return result

    def _wait(self):
        try:
            self._run.wait()
        except InputError:
            for name, tensor in zip("qkv", self._tensors):
                if not torch.isfinite(tensor).all():
                    raise InputError(f"{name} holds a NaN or infinity") from None
            raise

    def backward(self, dout):
        dout = _laid_well("dout", dout.to(self._out.dtype))
        gradients = [torch.empty_like(tensor) for tensor in self._tensors]
        self._run.backward(_told(self._out), _told(dout), *map(_told, gradients))
        return tuple(gradient.to(dtype) for gradient, dtype in zip(gradients, self._types))


def _stays_on_card(q, method, engine, settings):
    """What the front door for tensors on a GPU has: all on engine cuda but the theory's estimator."""
    return q.device.type == "cuda" and engine == "cuda" and method != "cudnn" and settings.get("estimator") != "theory"


def _prepare(q, k, v, call):
    method, engine, settings = call[0], call[3], call[7]
    return (_RunOnCard if _stays_on_card(q, method, engine, settings) else _RunOnHost)(q, k, v, call)


def _constant_result(function):
    """torch.compile calls it once instead of looking into it."""
    constant = getattr(getattr(torch, "compiler", None), "assume_constant_result", None)
    return constant(function) if constant else function


def _refuse_without_gradient(run):
    why = run.request.no_gradient()
    if why:
        raise UsageError(f"{why}, but a tensor requires one; call it under torch.no_grad()")


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, call, wait):
        run = _prepare(q, k, v, call)
        _refuse_without_gradient(run)
        out, lse = run.forward(True, wait)
        # What the gradient reads again; autograd refuses it where it was changed in place meanwhile.
        ctx.save_for_backward(*filter(_reads_in_place, (q, k, v, out)))
        ctx.run = run
        ctx.mark_non_differentiable(lse)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, _):
        ctx.saved_tensors  # noqa: B018 (refuses changed ones)
        return (*ctx.run.backward(dout), None, None)


def _eager(q, k, v, call, wait):
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v)):
        return _Attention.apply(q, k, v, call, wait)
    return _prepare(q, k, v, call).forward(False, wait)


def _compiled(q, k, v, call, wait):
    raise UsageError("hyperattn.torch.attention in torch.compile needs PyTorch 2.4")


def _is_compiling():
    return hasattr(torch, "compiler") and torch.compiler.is_compiling()


if hasattr(torch.library, "custom_op"):

    @torch.library.custom_op("hyperattn::attention", mutates_args=())
    def _operator(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, call: str, wait: bool = True
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        return _prepare(q, k, v, ast.literal_eval(call)).forward(False, wait)

    @_operator.register_fake
    def _(q, k, v, call, wait=True):
        return v.new_empty(q.shape[:-1] + v.shape[-1:]), q.new_empty(q.shape[:-1], dtype=torch.float32)

    @torch.library.custom_op("hyperattn::attention_gradient", mutates_args=())
    def _gradient_operator(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, dout: torch.Tensor, call: str
    ) -> Tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        run = _prepare(q, k, v, ast.literal_eval(call))
        _refuse_without_gradient(run)
        run.forward(True, wait=False)  # a NaN was told by the call whose gradient this is, if at all
        return run.backward(dout)

    @_gradient_operator.register_fake
    def _(q, k, v, dout, call):
        return tuple(tensor.new_empty(tensor.shape) for tensor in (q, k, v))

    def _setup_context(ctx, inputs, output):
        *tensors, ctx.call, _ = inputs
        ctx.save_for_backward(*tensors)
        ctx.mark_non_differentiable(output[1])

    def _operator_backward(ctx, dout, _):
        return (*_gradient_operator(*ctx.saved_tensors, dout, ctx.call), None, None)

    _operator.register_autograd(_operator_backward, setup_context=_setup_context)

    def _compiled(q, k, v, call, wait):  # noqa: F811
        return _operator(q, k, v, _text_of(call), wait)


@_constant_result
def _text_of(call):
    """The call as text, for operators take plain values alone."""
    return repr(call)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    method: str = "hyper",
    causal: bool = False,
    seed: int = 0,
    engine: Optional[str] = None,
    *,
    scale: Optional[float] = None,
    window: int = 0,
    trial: int = 0,
    return_lse: bool = False,
    wait: bool = True,
    **settings: Any,
) -> Union[torch.Tensor, Tuple[torch.Tensor, torch.Tensor]]:
    """softmax(scale · q kᵀ) v, exactly or approximately, with a gradient for autograd.

    q: (n_q, d), (heads, n_q, d) or (batch, heads, n_q, d); float16, bfloat16, float32 or float64, on the CPU or, with
        engine="cuda", on a CUDA device
    k, v: (…, n_k, d) and (…, n_k, d_v), with as many axes as q; fewer heads for grouped queries
    return_lse: also return the natural logarithm of each row's sum of exponentials, float32, (…, n_q), without a
        gradient
    wait: on a CUDA device, return when it is done, and refuse a result with a NaN or infinity by InputError; False:
        return while it computes, as PyTorch's own functions do, and leave a NaN in the result
    other arguments: as of `hyperattn.attention`

    Returns out, (…, n_q, d_v), in v's type; everything is computed in single precision. Tensors that are float32 and
    contiguous on the CPU are not copied. Nor are those of a CUDA device where they are contiguous and their rows have
    a multiple of 16 columns: they are read there in their own type, on PyTorch's current stream, and `precision` is that
    type where it is not given. (`cudnn`, and `estimator="theory"`, go through the host's memory.) The gradient is that
    of the method's own forward with its random choices held fixed; UsageError where a tensor requires one and the
    method has none. Gradients of gradients are refused.
    """
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor)
    check_ranks(q, k, v)
    _check_devices(q, k, v, method, engine)
    call = (method, causal, seed, engine, scale, window, trial, settings)
    out, lse = (_compiled if _is_compiling() else _eager)(q, k, v, call, flag("wait", wait))
    return (out, lse) if return_lse else out
