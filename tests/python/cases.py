"""What the tests of the package share: random arrays, and exact attention in double precision."""

import numpy as np

# Settings that make small problems approximate.
SMALL = {"block_size": 16, "sample_size": 8, "bucket_count": 4}
# With these the plan does not depend on the values, so that differences of the output are those of the plan's formula.
FIXED_PLAN = {"mask": "band", "band_width": 5, "sample_size": 8}


def arrays(*shapes, seed=1, dtype=np.float32):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def exact(q, k, v, causal=False, scale=None):
    """out and lse of (heads, rows, dim) arrays, by the formula."""
    q, k, v = (np.asarray(array, dtype=np.float64) for array in (q, k, v))
    group = q.shape[0] // k.shape[0]
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = np.einsum("hid,hjd->hij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        rows, keys = scores.shape[1:]
        seen = np.arange(keys) <= np.arange(rows)[:, None] + keys - rows
        scores = np.where(seen, scores, -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - largest)
    total = weights.sum(axis=-1, keepdims=True)
    return np.einsum("hij,hjd->hid", weights / total, v), (np.log(total) + largest)[..., 0]
