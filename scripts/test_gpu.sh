#!/usr/bin/env bash
# Runs the suite of the engine cuda on a GPU. What it carries is one archive: the test program, the shared libraries
# that it was linked with, and a script; the machine that runs it needs a driver for the CUDA version of the build, and
# nothing else.
#   scripts/test_gpu.sh               on this machine
#   scripts/test_gpu.sh user@machine  there, by ssh
#   scripts/test_gpu.sh --pack FILE   makes the archive FILE (.tar.gz); unpack it anywhere and call hyperattn_gpu/run.sh
# run.sh takes arguments of the test program in place of the whole suite. GPU_SPEED=1 adds timings, GPU_SANITIZER=1 a
# part of the suite under compute-sanitizer, where that is installed, GPU_GENERAL=1 a part of it by the code for all GPUs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

pack() {
  local archive=$1 folder
  folder=$(mktemp -d)
  mkdir -p "$folder/hyperattn_gpu/lib"
  strip -o "$folder/hyperattn_gpu/test_cuda" build/release/tests/test_cuda
  # All but the C library, which is the machine's own.
  ldd build/release/tests/test_cuda | awk '$3 ~ /^\// && $1 !~ /^lib(c|m|pthread|dl|rt)\.so/ {print $3}' |
    xargs -I{} cp -L {} "$folder/hyperattn_gpu/lib/"
  cat > "$folder/hyperattn_gpu/run.sh" <<'RUN'
#!/bin/sh
# The suite of the engine cuda; see scripts/test_gpu.sh.
here=$(cd "$(dirname "$0")" && pwd)
LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
test=$here/test_cuda
status=0
say() { printf '\n== %s\n' "$*"; }

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv 2>/dev/null ||
  say "nvidia-smi says nothing: is there a driver?"
if [ $# -gt 0 ]; then exec "$test" "$@"; fi
say "Suite"
"$test" --durations yes || status=1
if [ "${GPU_GENERAL:-0}" = 1 ]; then
  say "The code for all GPUs from 8.0 on, compiled by the driver"
  CUDA_FORCE_PTX_JIT=1 "$test" "cuda: the plan of every method*" || status=1
fi
if [ "${GPU_SANITIZER:-0}" = 1 ]; then
  for tool in memcheck racecheck; do
    say "compute-sanitizer $tool"
    if command -v compute-sanitizer >/dev/null; then
      compute-sanitizer --tool $tool --error-exitcode 9 "$test" "cuda: a window*" || status=1
    else
      echo "skipped: there is no compute-sanitizer on this machine"
    fi
  done
fi
if [ "${GPU_SPEED:-0}" = 1 ]; then
  say "Speed"
  "$test" "cuda: speed" || status=1
fi
say "Exit status $status"
exit $status
RUN
  chmod +x "$folder/hyperattn_gpu/run.sh"
  tar -czf "$archive" -C "$folder" hyperattn_gpu
  rm -r "$folder"
}

command -v nvcc >/dev/null 2>&1 || [ -x /usr/local/cuda/bin/nvcc ] ||
  die "there is no nvcc, so the engine cuda cannot be built here"
build_preset release -DHYPERATTN_CUDA=ON --target=test_cuda

case "${1:-}" in
  --pack)
    [ $# = 2 ] || die "--pack takes the name of one file"
    pack "$2"
    say "Packed $2"
    ;;
  -*) die "takes no argument, the name of a machine, or --pack FILE" ;;
  *)
    work=$(mktemp -d)
    trap 'rm -r "$work"' EXIT
    pack "$work/hyperattn_gpu.tar.gz"
    if [ -n "${1:-}" ]; then
      settings="GPU_SPEED=${GPU_SPEED:-0} GPU_SANITIZER=${GPU_SANITIZER:-0} GPU_GENERAL=${GPU_GENERAL:-0}"
      # shellcheck disable=SC2029  # the settings are this side's
      ssh "$1" "rm -rf hyperattn_gpu && tar -xz && $settings hyperattn_gpu/run.sh" < "$work/hyperattn_gpu.tar.gz"
    else
      tar -xzf "$work/hyperattn_gpu.tar.gz" -C "$work"
      "$work/hyperattn_gpu/run.sh"
    fi
    ;;
esac
