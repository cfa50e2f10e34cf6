"""HyperAttention with prescribed random choices in plain double precision, written from tests/golden/README.md alone,
and cases in the form of that page."""

import h5py
import numpy as np


def ranks_of(rows, case):
    """The place of each row after the stable sort by bucket."""
    codes = ((rows @ case["projections"]) > 0) @ (1 << np.arange(case["projections"].shape[1], dtype=np.int64))
    if case["bucket_order"] == "reference":
        keys = codes ^ (codes >> 1)
    else:  # gray: the inverse of that map
        keys = codes.copy()
        for shift in range(1, 31):
            keys ^= codes >> shift
    ranks = np.empty(len(rows), dtype=np.int64)
    ranks[np.argsort(keys, kind="stable")] = np.arange(len(rows))
    return ranks


def causal_parts(begin, end, min_seq_len):
    """Leaves [(begin, end)] and cross nodes [(begin, middle, end)] of a segment, from the start of the sequence."""
    if end - begin <= min_seq_len:
        return [(begin, end)], []
    middle = begin + (end - begin) // 2
    leaves, nodes = causal_parts(begin, middle, min_seq_len)
    more_leaves, more_nodes = causal_parts(middle, end, min_seq_len)
    return leaves + more_leaves, nodes + [(begin, middle, end)] + more_nodes


def seen_nodes(rows, keys, min_seq_len):
    """(begin, middle, end, row) of the cross nodes that have query rows: row `row` of the queries stands at key position
    max(middle, keys - rows), the first of the node's second half that has one."""
    for begin, middle, end in causal_parts(0, keys, min_seq_len)[1]:
        first = max(middle, keys - rows)
        if first < end:
            yield begin, middle, end, first - (keys - rows)


def node_parts(q, k, v, drawn, case):
    """What the rows of an unmasked node see: [(scores with their log-weights, values)]."""
    scores = case["scale"] * q @ k.T
    key_blocks = ranks_of(k, case) // case["block_size"]
    query_blocks = ranks_of(q, case) * len(k) // len(q) // case["block_size"]
    own = query_blocks[:, None] == key_blocks[None, :]
    parts = [(np.where(own, scores, -np.inf), v)]
    if drawn is not None:
        sampled = np.where(own[:, drawn], -np.inf, scores[:, drawn] + np.log(len(k) / len(drawn)))
        parts.append((sampled, v[drawn]))
    return parts


def merged(parts):
    scores = np.concatenate([scores for scores, _ in parts])
    values = np.concatenate([values for _, values in parts])
    weights = np.exp(scores - scores.max())
    return weights @ values / weights.sum(), scores.max() + np.log(weights.sum())


def replayed(q, k, v, samples, case):
    """out (n_q, d_v) and lse (n_q) of one head. `samples`: for each number of query rows, a list over the nodes."""
    of_row = [[] for _ in q]

    def add(rows, parts):
        for i, row in enumerate(rows):
            of_row[row] += [(scores[i], values) for scores, values in parts]

    offset = len(k) - len(q)  # of the key position over the row
    for begin, end in causal_parts(0, len(k), case["min_seq_len"])[0] if case["causal"] else []:
        for row in range(max(begin - offset, 0), end - offset):
            seen = slice(begin, row + offset + 1)
            add([row], [(case["scale"] * q[row : row + 1] @ k[seen].T, v[seen])])
    used = {}
    for begin, middle, end, row in seen_nodes(len(q), len(k), case["min_seq_len"]) if case["causal"] else []:
        keys, values, rows = k[begin:middle], v[begin:middle], range(row, end - offset)
        if end - middle < case["min_seq_len"]:
            add(rows, [(case["scale"] * q[rows] @ keys.T, values)])
            continue
        number = used[len(rows)] = used.get(len(rows), -1) + 1
        add(rows, node_parts(q[rows], keys, values, samples[len(rows)][number] if samples else None, case))
    if not case["causal"]:
        add(range(len(q)), node_parts(q, k, v, samples[len(q)][0] if samples else None, case))
    rows = [merged(parts) if parts else (np.zeros(v.shape[1]), -np.inf) for parts in of_row]
    return np.array([out for out, _ in rows]), np.array([lse for _, lse in rows])


def make_case(seed=1, batch=1, heads=2, rows=256, keys=None, dim=16, value_dim=None, bits=5, block_size=32, sample_size=16,
              causal=False, min_seq_len=64, bucket_order="reference", scale=None, dtype="f4"):  # fmt: skip
    """A case with all its random choices and, as `out` and `lse`, what is expected."""
    random = np.random.default_rng(seed)
    keys = keys or rows
    case = {"block_size": block_size, "sample_size": sample_size, "causal": causal, "min_seq_len": min_seq_len,
            "bucket_order": bucket_order, "scale": scale or dim**-0.5}  # fmt: skip
    tensors = [random.standard_normal((batch, heads, n, width)).astype(dtype)
               for n, width in ((rows, dim), (keys, dim), (keys, value_dim or dim))]  # fmt: skip
    q, k, v = (tensor.astype("f8") for tensor in tensors)
    # Directions that no row is nearly orthogonal to, so that every implementation finds the same bits.
    directions = random.standard_normal((500, dim)).astype("f4").astype("f8")
    clear = np.abs(np.concatenate([q, k], axis=2).reshape(-1, dim) @ directions.T).min(axis=0) > 1e-5
    case["projections"] = directions[clear][:bits].T
    assert case["projections"].shape[1] == bits
    samples = {}
    if sample_size:
        whole = [(0, keys, keys + rows, 0)]
        for begin, middle, end, row in seen_nodes(rows, keys, min_seq_len) if causal else whole:
            count = end - (keys - rows) - row if causal else rows
            if not causal or end - middle >= min_seq_len:
                samples.setdefault(count, []).append(random.integers(0, middle - begin, (batch, heads, sample_size)))
    results = [[replayed(q[b, h], k[b, h], v[b, h], {n: [one[b, h] for one in nodes] for n, nodes in samples.items()}, case)
                for h in range(heads)] for b in range(batch)]  # fmt: skip
    case.update(zip("qkv", tensors), samples={n: np.stack(nodes, axis=2) for n, nodes in samples.items()},
                out=np.array([[out for out, _ in row] for row in results]), lse=np.array([[lse for _, lse in row] for row in results]))  # fmt: skip
    return case


ATTRIBUTES = ("block_size", "sample_size", "num_projections", "causal", "min_seq_len", "scale", "bucket_order")


def write_case(case, path, attribute=lambda value: value, leave_out=(), index_type="i8", projection_type="f4"):
    """`attribute` chooses how HDF5 stores an attribute's value."""
    case = {**case, "num_projections": case["projections"].shape[1]}
    with h5py.File(path, "w") as file:
        for name in "qkv":
            file[f"inputs/{name}"] = case[name]
        file["replay/projections"] = case["projections"].astype(projection_type)
        for rows, drawn in case["samples"].items():
            file[f"replay/samples_rows_{rows}"] = drawn.astype(index_type)
        for name in ATTRIBUTES:
            if name not in leave_out:
                file.attrs[name] = attribute(case[name])
