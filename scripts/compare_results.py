#!/usr/bin/env python3
"""Whether two results files hold the same cases, trials and figures, but for what a clock or a machine decides.

    compare_results.py A.h5 B.h5 [--tolerance 0]

Exit code 0 if so, 1 if not (with the first differences), 3 if a file cannot be read. For differences in error and
speed between versions of the program there is `hyperattn show --compare`.
"""

import argparse
import sys

import hyperattn_results as hr
import numpy as np

# Decided by a clock: compared only for being there or not.
CLOCK = {"seconds", "seconds_mad", "gflops", "speedup", "baseline_backend", "baseline_seconds", "peak_bytes", "threads"}
SHOWN = 10


def column_differences(first, second, column, tolerance):
    """Indices at which the column differs."""
    a, b = first[column], second[column]
    if a.dtype.kind == "f" and b.dtype.kind == "f":
        same = np.isclose(a, b, rtol=tolerance, atol=0, equal_nan=True)
    else:
        same = (a.astype(str) == b.astype(str)).to_numpy()
    return np.flatnonzero(~same)


def table_differences(name, first, second, tolerance):
    """Sentences on what differs."""
    if len(first) == 0 and len(second) == 0:
        return []
    if sorted(first.columns) != sorted(second.columns):
        only = sorted(set(first.columns) ^ set(second.columns))
        return [f"/{name}: the columns {only} are in one file only."]
    keys = [key for key in ("case_id", "trial", "head", "level") if key in first]
    missing = set(map(tuple, first[keys].to_numpy())) ^ set(map(tuple, second[keys].to_numpy()))
    if missing or len(first) != len(second):
        return [f"/{name}: {len(first)} rows and {len(second)} rows; {len(missing)} are in one file only, such as {sorted(missing)[:3]}."]
    first = first.sort_values(keys, kind="stable").reset_index(drop=True)
    second = second.sort_values(keys, kind="stable").reset_index(drop=True)
    found = []
    for column in first.columns:
        if column in CLOCK:
            continue
        rows = column_differences(first, second, column, tolerance)
        if len(rows):
            row = rows[0]
            where = ", ".join(f"{key} {first[key][row]}" for key in keys)
            found.append(f"/{name}: {column} differs in {len(rows)} rows; at {where}: {first[column][row]} and {second[column][row]}.")
    return found


def run():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--tolerance", type=float, default=0.0, help="relative; default 0: equal bits")
    arguments = parser.parse_args()
    if not arguments.tolerance >= 0:
        raise hr.ResultsError(f"--tolerance {arguments.tolerance}: must be 0 or more.", hr.EXIT_CALL)
    first, second = hr.load(arguments.first), hr.load(arguments.second)
    found = []
    if first.cases != second.cases:
        only = sorted(set(first.cases) ^ set(second.cases))
        found.append(f"/cases: {len(first.cases)} and {len(second.cases)} cases; {len(only)} are in one file only, such as {only[:3]}.")
    for name in ("trials", "heads", "levels"):
        found += table_differences(name, getattr(first, name), getattr(second, name), arguments.tolerance)
    for line in found[:SHOWN]:
        print(line)
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more.")
    if not found:
        print(f"{arguments.first} and {arguments.second}: the same {len(first.trials)} trials of {len(first.cases)} cases.")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    hr.main(run)
