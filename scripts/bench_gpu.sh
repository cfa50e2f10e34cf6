#!/usr/bin/env bash
# Times attention on a GPU: our lines beside PyTorch's cuDNN and flash attention, in one run (docs/performance.md).
#   scripts/bench_gpu.sh [ARGUMENT ...]    arguments of scripts/bench_gpu.py, such as --rows 131072 1048576
# HYPERATTN_PYTHON names a Python that has PyTorch for CUDA; PYTHONPATH, the package hyperattn built for it with CUDA.
set -euo pipefail
exec "${HYPERATTN_PYTHON:-python3}" "$(dirname "$0")/bench_gpu.py" "$@"
