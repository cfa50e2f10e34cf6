"""Models of transformers with some layers' attention replaced: `patch` and `unpatch`.

A patched layer has a configuration of its own, which names this attention; the model's stays as it is. So masks are
made, and the other layers run, as before.
"""

import copy
import inspect
import sys
from typing import Any, List, NamedTuple, Optional, Sequence, Union

import numpy as np
import torch
from transformers import AttentionInterface

from .calls import prepare
from .errors import Error, UsageError
from .torch import attention

__all__ = ["patch", "unpatch"]

_NAME = "hyperattn"
_ORIGINALS = ("sdpa", "eager")
# What the interface can hand over that changes scores, and that no plan of weighted keys has.
_REFUSED = {
    "softcap": "a soft cap of scores",
    "s_aux": "attention sinks",
    "position_bias": "a position bias",
    "head_mask": "a mask of heads",
}


class _Replaced(NamedTuple):
    """What a patched layer keeps."""

    config: Any  # its configuration before
    call: dict  # the arguments of attention


class _Seen(NamedTuple):
    """The keys that rows see: the first `keys`, all or (causal) up to a row's own, the last row's being the last."""

    keys: int
    causal: bool
    window: int = 0


def _place(module):
    return f"layer {module.layer_idx} ({type(module).__name__})"


def _refuse(module, what):
    method = module._hyperattn.call["method"]
    raise UsageError(f"{_place(module)}: method '{method}' cannot honour {what}")


def _visible(module, mask, keys):
    """True where a row sees a key."""
    if mask.dim() != 4 or mask.shape[-1] < keys:
        _refuse(module, f"a mask of the shape {tuple(mask.shape)} for {keys} keys")
    mask = mask[..., :keys]
    if mask.dtype == torch.bool:
        return mask
    hidden = mask <= torch.finfo(mask.dtype).min / 2
    if not torch.all(hidden | (mask == 0)):
        _refuse(module, "a mask that adds to scores")
    return ~hidden


def _pattern_of(module, mask, rows, keys, window):
    """What a mask shows, where it is a causal one (with a window), or none at all."""
    visible = _visible(module, mask, keys)
    if bool(visible.all()):
        return _Seen(keys, causal=False)
    last = torch.nonzero(visible[0, 0, -1])
    if len(last) == 0:
        _refuse(module, "a padding mask: a row sees no key")
    end = int(last[-1]) + 1
    key = torch.arange(keys, device=mask.device)
    own = torch.arange(end - rows, end, device=mask.device)[:, None]
    causal = key <= own
    if bool((visible == causal).all()):
        return _Seen(end, causal=True)
    if window and bool((visible == (causal & (key > own - window))).all()):
        return _Seen(end, causal=True, window=window)
    if bool((visible <= causal).all()) and not bool((visible.any(dim=-2)[..., :end]).all()):
        _refuse(module, "a padding mask: some keys are hidden from all rows; give it sequences of one length")
    _refuse(module, "a mask other than a causal one, such as that of packed sequences")


def _seen_keys(module, query, key, mask, is_causal, window, original):
    rows, keys = query.shape[-2], key.shape[-2]
    if mask is not None:
        return _pattern_of(module, mask, rows, keys, window)
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    # `eager` without a mask hides nothing. `sdpa` counts rows from the first key, and a static cache is longer.
    causal = bool(is_causal) and original == "sdpa"
    return _Seen(min(rows, keys), causal=True) if causal else _Seen(keys, causal=False)


def _original(module, name):
    if name == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return AttentionInterface()[name]


def _attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, is_causal=None, **kwargs):
    """The function of transformers' attention interface."""
    config, call = module._hyperattn
    original = config._attn_implementation
    if query.shape[-2] == 1:  # a step of decoding
        if is_causal is not None:
            kwargs["is_causal"] = is_causal
        return _original(module, original)(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    for name, meaning in _REFUSED.items():
        if kwargs.get(name) is not None:
            _refuse(module, f"{meaning} ({name})")
    if dropout:
        _refuse(module, f"dropout of {dropout}; call model.eval(), or set the configuration's attention_dropout to 0")
    seen = _seen_keys(module, query, key, attention_mask, is_causal, kwargs.get("sliding_window"), original)
    key, value = key[..., : seen.keys, :], value[..., : seen.keys, :]
    try:
        out = attention(query, key, value, causal=seen.causal, window=seen.window, scale=scaling, **call)
    except Error as error:
        raise type(error)(f"{_place(module)}: {error}") from None
    return out.transpose(1, 2).contiguous(), None


def _attention_layers(model):
    """The modules that call the attention interface, by layer."""
    found = {}
    for module in model.modules():
        is_layer = isinstance(getattr(module, "layer_idx", None), int) and hasattr(module, "config")
        if is_layer and "attention_interface" in inspect.getsource(type(module).forward):
            found.setdefault(module.layer_idx, []).append(module)
    if not found:
        raise UsageError(
            f"no layer of {type(model).__name__} calls transformers' attention interface, so none can be replaced"
        )
    return dict(sorted(found.items()))


def _chosen(layers, indices):
    """The indices that `layers` names."""
    if isinstance(layers, str):
        word, _, count = layers.partition(":")
        if layers == "all":
            return indices
        if word in ("first", "last") and count.isdigit() and 1 <= int(count) <= len(indices):
            return indices[: int(count)] if word == "first" else indices[-int(count) :]
    elif isinstance(layers, Sequence) and layers and all(index in indices for index in layers):
        return sorted(set(layers))
    raise UsageError(
        f"layers must be 'all', 'first:N', 'last:N' or a list of indices, of the layers {indices[0]} to {indices[-1]}, "
        f"but is {layers!r}"
    )


def patch(
    model: Any,
    method: str = "hyper",
    layers: Union[str, Sequence[int]] = "all",
    seed: int = 0,
    engine: Optional[str] = None,
    *,
    trial: int = 0,
    **settings: Any,
) -> List[int]:
    """Replaces the attention of some layers of a model that uses transformers' attention interface.

    layers: "all", "first:N", "last:N" or a list of layer indices
    other arguments: as of `hyperattn.attention`. Layers draw random numbers of their own

    Returns the indices of the replaced layers. Prompts, with and without a key-value cache, and training run by the
    method; steps of decoding (one row) by the model's own attention. What a method cannot honour is refused when the
    layer runs, by the layer's name: padding masks, sliding windows (but for `exact`), soft caps, sinks, dropout.
    UsageError if the model has no such layers, one is replaced already, or its attention is neither `sdpa` nor
    `eager`.
    """
    nothing = np.zeros((1, 1, 1, 1), dtype=np.float32)
    prepare(nothing, nothing, nothing, method, True, seed, engine, None, 0, trial, settings)  # wrong settings end here
    modules = _attention_layers(model)
    chosen = _chosen(layers, list(modules))
    for module in (module for index in chosen for module in modules[index]):
        if hasattr(module, "_hyperattn"):
            raise UsageError(f"{_place(module)} is replaced already; call unpatch first")
        if module.config._attn_implementation not in _ORIGINALS:
            raise UsageError(
                f"{_place(module)} has the attention '{module.config._attn_implementation}'; load the model with "
                f"attn_implementation='sdpa' or 'eager'"
            )
    AttentionInterface.register(_NAME, _attend)
    for index in chosen:
        call = dict(settings, method=method, seed=seed, engine=engine, trial=trial * (max(modules) + 1) + index)
        for module in modules[index]:
            module._hyperattn = _Replaced(module.config, call)
            module.config = copy.copy(module.config)
            module.config._attn_implementation_internal = _NAME
    return chosen


def unpatch(model: Any) -> List[int]:
    """Gives all replaced layers their own attention back, and returns their indices."""
    restored = set()
    for module in model.modules():
        if hasattr(module, "_hyperattn"):
            module.config = module._hyperattn.config
            del module._hyperattn
            restored.add(module.layer_idx)
    return sorted(restored)
