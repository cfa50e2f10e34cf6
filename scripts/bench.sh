#!/usr/bin/env bash
# Builds the release preset and runs the headline benchmarks: lines `name value`, each a ratio taken in one run
# (docs/performance.md says what they mean). Arguments go to the program; a quiet machine gives better numbers.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

"$project/scripts/setup.sh" >&2
build_preset release >&2
exec "$project/build/release/hyperattn_bench" --headline "$@"
