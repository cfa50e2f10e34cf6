#!/usr/bin/env bash
# Set-up, release build with warnings as errors, and the whole test suite. Arguments go to CTest
# (scripts/test.sh -R scripts). Ends with CTest's summary and its exit status.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

scripts/setup.sh
python=$(find_python)
build_preset release -DHYPERATTN_WARNINGS_AS_ERRORS=ON -DBUILD_TESTING=ON -DHYPERATTN_PYTHON=ON "-DPython_EXECUTABLE=$python"
ctest --preset release -j "$(nproc)" "$@"
