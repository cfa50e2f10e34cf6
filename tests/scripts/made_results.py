"""Made results files in the format of docs/results-format.md, for the tests of the scripts. The numbers are
invented; nothing shown to a reader is drawn from them."""

import json

import h5py
import numpy as np

TEXT = "S64"
TRIAL_COLUMNS = (
    [("case_id", "S16"), ("backend", TEXT), ("source", TEXT), ("seq_len", "i8"), ("key_len", "i8"), ("head_dim", "i8"),
     ("value_dim", "i8"), ("heads", "i8"), ("batch", "i8"), ("causal", "i1"), ("pass", TEXT), ("bucket_count", "i8"),
     ("block_size", "i8"), ("sample_size", "i8"), ("condition_number", "f8"), ("min_seq_len", "i8"), ("estimator", TEXT),
     ("mask", TEXT), ("bucket_order", TEXT), ("sampling", TEXT), ("collisions", TEXT), ("blocks", TEXT), ("buckets", TEXT),
     ("trial", "i8"), ("seed", "u8"), ("threads", "i8"), ("status", TEXT), ("message", "S256"), ("seconds", "f8"),
     ("seconds_mad", "f8"), ("gflops", "f8"), ("speedup", "f8"), ("baseline_backend", TEXT), ("baseline_seconds", "f8"),
     ("peak_bytes", "i8"), ("input_label", TEXT), ("approx_kappa", "f8"), ("approx_epsilon", "f8"), ("clip_constant", "f8"),
     ("error_op", "f8"), ("epsilon", "f8"), ("error_fro_rel", "f8"), ("norm_status", TEXT)]
)  # fmt: skip
INTEGERS = {name for name, kind in TRIAL_COLUMNS if kind[0] in "iu"}
TEXTS = {name for name, kind in TRIAL_COLUMNS if kind[0] == "S"}


LANGUAGE_MODEL_COLUMNS = [
    ("model", TEXT), ("text", TEXT), ("text_sha256", TEXT), ("windows", "i8"), ("replace", TEXT), ("replaced", "i8"), ("layers", TEXT),
    ("attention_seconds", "f8"), ("bits_per_byte", "f8"), ("bits_per_token", "f8"), ("perplexity", "f8"), ("attention_speedup", "f8"),
]  # fmt: skip


def language_model_rows(lengths=(1024, 4096), samples=(64, 256), layers=4, trials=2):
    """Rows of `hyperattn lm`, to be completed by `trial`."""
    rows = []
    for length in lengths:
        for number in range(trials):
            for sample in samples:
                for replaced in range(layers + 1):
                    if replaced == 0 and sample != samples[0]:
                        continue
                    bits = 1.1 + 0.1 * replaced**1.5 / sample**0.3 + 0.01 * number
                    rows.append({
                        "case_id": f"lm{length}m{sample}", "model": "made", "text": "folder", "text_sha256": "0123456789" * 6, "seq_len": length,
                        "windows": 2, "replace": "last", "replaced": replaced, "layers": "", "backend": "hyper" if replaced else "",
                        "bucket_count": 64 if replaced else -1, "block_size": 128 if replaced else -1, "sample_size": sample if replaced else -1,
                        "trial": number, "threads": 2, "status": "ok", "message": "", "bits_per_byte": bits, "bits_per_token": bits, "perplexity": 2**bits,
                        "source": "language_model", "attention_seconds": length / 4096 / (1.0 + replaced * length / 4096),
                        "attention_speedup": 1.0 + replaced * length / 4096, "speedup": 1.0 + 0.5 * replaced * length / 4096,
                    })  # fmt: skip
    return rows


def trial(**values):
    row = {}
    for name, _ in TRIAL_COLUMNS:
        row[name] = b"" if name in TEXTS else (-1 if name in INTEGERS - {"seed"} else (0 if name == "seed" else np.nan))
    row.update(source="gaussian", head_dim=64, value_dim=64, heads=1, batch=1, causal=0, threads=2, status="ok", trial=0)
    row["pass"] = "forward"
    row.update(values)
    row.setdefault("key_len", -1)
    if row["key_len"] == -1:
        row["key_len"] = row["seq_len"]
    return row


def encode(value):
    return value.encode() if isinstance(value, str) else value


def table(rows, columns):
    made = np.zeros(len(rows), dtype=columns)
    for index, row in enumerate(rows):
        for name, _ in columns:
            made[name][index] = encode(row[name])
    return made


def write(path, trials, timings=(), levels=None, heads=None, language_model=None, cases=None, experiment="made", schema="hyperattn.results/1", extra=()):
    """`extra`: more columns of /trials."""
    with h5py.File(path, "w") as file:
        file.attrs["schema"] = schema
        file.attrs["name"] = experiment
        file.attrs["created"] = "2024-01-01T00:00:00Z"
        file.attrs["complete"] = True
        file["config"] = "name: made\nsweep:\n  seq_len: [1024]\n"
        provenance = file.create_group("provenance")
        provenance.attrs["processor"] = "Made Processor 9000"
        provenance.attrs["instruction_set"] = "avx2"
        provenance.attrs["threads"] = 2
        provenance.attrs["commit"] = "0123456789abcdef"
        provenance.attrs["warnings"] = "the machine was busy"
        if language_model is not None:
            extra = [*extra, *LANGUAGE_MODEL_COLUMNS]
            plain = {name: "" if kind == TEXT else (-1 if kind == "i8" else np.nan) for name, kind in LANGUAGE_MODEL_COLUMNS}
            trials = [{**plain, **row} for row in trials] + [trial(**row) for row in language_model]
        file["trials"] = table(trials, TRIAL_COLUMNS + list(extra))
        ids = sorted({row["case_id"] for row in trials})
        made_cases = [(encode(i), json.dumps((cases or {}).get(i, {"backend": {"name": "hyper", "residual": "sample"}}))) for i in ids]
        file["cases"] = np.array(made_cases, dtype=[("case_id", "S16"), ("parameters", "S4096")])
        columns = [("case_id", "S16"), ("trial", "i8"), ("stage", TEXT), ("repeat", "i8"), ("seconds", "f8")]
        file["timings"] = table(list(timings), columns)
        if heads is not None:
            columns = [("case_id", "S16"), ("trial", "i8"), ("head", "i8"), ("level", "i8"), ("alpha", "f8")]
            file["heads"] = table(list(heads), columns)
        if levels is not None:
            columns = [("case_id", "S16"), ("trial", "i8"), ("level", "i8"), ("epsilon", "f8"), ("error_op", "f8")]
            file["levels"] = table(list(levels), columns)


def sweep(seq_lens=(1024, 2048, 4096), buckets=(16, 64), samples=(64, 128, 256), trials=3, passes=("forward",), causals=(0,), label=""):
    """Rows of a sweep like the quickstart's."""
    random = np.random.default_rng(7)
    rows = []
    for seq_len in seq_lens:
        for a_pass in passes:
            for causal in causals:
                for number in range(trials):
                    base = seq_len**2 * 1e-9 * (3.5 if a_pass != "forward" else 1) * (0.5 if causal else 1)
                    common = {"seq_len": seq_len, "trial": number, "pass": a_pass, "causal": causal, "input_label": label,
                              "baseline_backend": "exact", "baseline_seconds": base, "seed": 2024}  # fmt: skip
                    key = f"{label[:3]}{seq_len}{a_pass[-1]}{causal}"
                    rows.append(trial(case_id=f"e{key}", backend="exact", seconds=base, speedup=1.0, epsilon=1e-7, error_op=1e-6,
                                      error_fro_rel=1e-7, **common))  # fmt: skip
                    for bucket_count in buckets:
                        noise = random.uniform(0.9, 1.1)
                        seconds = seq_len * 256e-9 * noise
                        rows.append(trial(case_id=f"l{key}b{bucket_count}", backend="lsh", bucket_count=bucket_count, block_size=128,
                                          bucket_order="gray", blocks="aligned", buckets="lsh", mask="sort_lsh", seconds=seconds,
                                          speedup=base / seconds, epsilon=0.4 * noise, error_op=3 * noise, error_fro_rel=0.5 * noise,
                                          min_seq_len=2048, **common))  # fmt: skip
                        for sample in samples:
                            noise = random.uniform(0.9, 1.1)
                            seconds = seq_len * (256 + sample) * 1e-9 * noise
                            error = 5 / sample**0.5 / bucket_count**0.1 * noise
                            rows.append(trial(case_id=f"h{key}b{bucket_count}s{sample}", backend="hyper", bucket_count=bucket_count,
                                              block_size=128, sample_size=sample, bucket_order="gray", blocks="aligned", buckets="lsh",
                                              mask="sort_lsh", estimator="residual", sampling="uniform", collisions="mask",
                                              min_seq_len=2048, seconds=seconds, speedup=base / seconds, epsilon=error,
                                              error_op=9 * error, error_fro_rel=error, **common))  # fmt: skip
    return rows


def stage_timings(trials, stages=("hash", "sort", "gather", "block", "sample"), repeats=3):
    rows = []
    for row in trials:
        if row["status"] != "ok" or row["seconds"] != row["seconds"]:
            continue
        mine = stages if row["backend"] != "exact" else ("block",)
        for repeat in range(repeats):
            rows.append({"case_id": row["case_id"], "trial": row["trial"], "stage": "total", "repeat": repeat, "seconds": row["seconds"]})
            for index, stage in enumerate(mine):
                share = (index + 1) / sum(range(1, len(mine) + 1))
                rows.append({"case_id": row["case_id"], "trial": row["trial"], "stage": stage, "repeat": repeat, "seconds": row["seconds"] * share})
    return rows
