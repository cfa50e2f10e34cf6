#!/usr/bin/env bash
# Feeds the readers of untrusted input with bytes that libFuzzer makes up, each for a number of seconds, under the
# address and undefined-behaviour sanitizers. Needs clang (scripts/setup.sh --sanitizers).
#   scripts/fuzz.sh [SECONDS [TARGET ...]]      60 seconds, all targets of tests/fuzz/targets.h
# FUZZ_SEED=N makes up the same bytes in every run (CI does, so that it fails for a change and not by chance).
# What it learns stays in build/sanitize/fuzz and is where the next call begins. A finding ends its target: the input is
# kept, and belongs into tests/fuzz/corpus/TARGET, which the test suite runs, once the reader is mended.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

seconds=${1:-60}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || die "SECONDS must be a positive whole number, but is '$seconds'"
targets=("${@:2}")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls tests/fuzz/corpus)
for target in "${targets[@]}"; do
  [ -d "tests/fuzz/corpus/$target" ] || die "there is no target '$target' in tests/fuzz/corpus"
done

build_preset sanitize --target=fuzzers
say "Fuzzing for $seconds s each: ${targets[*]}"

fuzz() {
  local target=$1 seconds=$2
  local work=build/sanitize/fuzz/$target
  mkdir -p "$work/corpus" "$work/findings"
  # A few thousand bytes must never take half a gigabyte or ten seconds. (HDF5 may ask malloc for more, and gets nothing.)
  local options=(-max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048
                 -seed="${FUZZ_SEED:-0}" -print_final_stats=1 -artifact_prefix="$work/findings/")
  local memory=/dev/shm
  [ -w $memory ] || memory=${TMPDIR:-/tmp}
  if ASAN_OPTIONS=max_allocation_size_mb=512 TMPDIR=$memory "build/sanitize/tests/fuzz/fuzz_$target" \
      "${options[@]}" "$work/corpus" "tests/fuzz/corpus/$target" >"$work/log" 2>&1; then
    printf '%-12s %s inputs, nothing found\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")"
  else
    printf '%-12s FOUND SOMETHING; the end of %s:\n' "$target" "$work/log"
    tail -n 40 "$work/log"
    return 1
  fi
}
export -f fuzz
printf '%s\n' "${targets[@]}" | xargs -P "$(nproc)" -I{} bash -c "fuzz {} $seconds"
