#!/usr/bin/env bash
# Tests the Python package with PyTorch and transformers from PyPI, which Debian lacks or has in old versions: the layers
# that patch() replaces, torch.compile, bfloat16, and examples/perplexity.py against `hyperattn lm`. Needs a network, once,
# and some 6 GB; PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu makes that 1 GB. Not part of the test suite.
#   scripts/test_transformers.sh [VENV]      # default: build/transformers-venv; made if it is not there
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

venv=${1:-build/transformers-venv}
python=$venv/bin/python
[ -x "$python" ] || python3 -m venv "$venv"
"$python" -m pip install --quiet torch transformers ml_dtypes h5py .
python=$(realpath -s "$python")

say "Tests of the package"
(cd tests/python && "$python" -B -m unittest with_transformers test_torch test_arrays)

say "Perplexity of the shipped byte-level model, by transformers and by hyperattn lm"
program=build/release/hyperattn
[ -x "$program" ] || die "$program is not there; run scripts/test.sh first"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$program" lm configs/paper/language_model.yaml --group smoke 'sweep.seq_len=[2048]' 'backends.min_seq_len=512' \
  'inputs.replaced=[0, 3, 6]' -o "$folder/lm.h5" >"$folder/log" 2>&1 || die "$(cat "$folder/log")"
"$python" - "$folder/text" <<'PYTHON'
import sys
from pathlib import Path

def files(folder):
    """A folder's own files in sorted order, then those of its subfolders."""
    entries = sorted(folder.iterdir())
    return [e for e in entries if e.is_file()] + [f for e in entries if e.is_dir() for f in files(e)]

texts = [file.read_bytes() for file in files(Path("/usr/include/eigen3/Eigen/src"))]
Path(sys.argv[1]).write_bytes(b"\0".join(texts))
PYTHON
"$python" examples/perplexity.py experiments/data/language_model "$folder/text" --bytes --length 2048 --layers 0,3,6 \
  --seed 2024 block_size=256 sample_size=256 bucket_count=128 min_seq_len=512 | tee "$folder/table"
"$python" - "$folder" <<'PYTHON'
import math
import sys
from pathlib import Path

import hyperattn

folder = Path(sys.argv[1])
lines = [line.split() for line in (folder / "table").read_text().splitlines()[1:]]
seen = {int(line[0]): float(line[1]) / math.log(2) for line in lines}
trials = hyperattn.load(folder / "lm.h5").language_model
trials = trials[trials["backend"] != "lsh"]
expected = dict(zip(trials["replaced"], trials["bits_per_byte"]))
for count, bits in seen.items():
    print(f"{count} layers: {bits:.5f} bits per byte by transformers, {expected[count]:.5f} by hyperattn lm")
    assert abs(bits - expected[count]) < 1e-4, "they differ by more than 1e-4"
PYTHON
say "All passed."
