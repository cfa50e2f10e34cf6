#!/usr/bin/env bash
# Kills a sweep with signal 9 at random moments (default: 100), resumes it after each, and compares the outcome with
# that of an undisturbed run: kill_test.sh [KILLS]. CI does the same with 10.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project/tests/cli"

python=$(find_python)
HYPERATTN_KILLS=${1:-100} HYPERATTN="$project/build/release/hyperattn" HYPERATTN_SOURCE=$project \
  exec "$python" -B -m unittest -v test_runner.Interrupted.test_killed_at_random_moments
