#!/usr/bin/env bash
# Runs the Python interpreter that has the plotting modules: scripts/python.sh scripts/plot_error.py RESULTS.h5
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
python=$(find_python)
exec "$python" "$@"
