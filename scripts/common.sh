# shellcheck shell=bash
# Shared by the scripts in this folder; sourced, not run.
# Sets `project` to the repository's root, and offers say, die, find_python, build_preset.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n== %s\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# Prints the first Python interpreter that has the plotting modules. Debian's own comes first: that is where
# setup.sh puts them, and a `python3` earlier on PATH (pyenv, conda) often lacks them.
find_python() {
  local candidate
  for candidate in "${HYPERATTN_PYTHON:-}" /usr/bin/python3 python3; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import numpy, h5py, matplotlib, pandas' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  printf 'No Python interpreter with numpy, h5py, matplotlib and pandas was found (tried HYPERATTN_PYTHON, ' >&2
  printf '/usr/bin/python3 and python3). Run scripts/setup.sh, or set HYPERATTN_PYTHON to one that has them.\n' >&2
  return 1
}

# build_preset PRESET [CMAKE_OPTION ...] [--target=TARGET ...]: configures and builds build/PRESET, with ccache where
# there is one.
build_preset() {
  local preset=$1 argument
  local options=() targets=()
  for argument in "${@:2}"; do
    case $argument in
      --target=*) targets+=(--target "${argument#--target=}") ;;
      *) options+=("$argument") ;;
    esac
  done
  if command -v ccache >/dev/null 2>&1; then
    # ccache keeps no objects that were compiled with a precompiled header, unless it is told to be careless.
    options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache
              -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON)
  fi
  (
    cd "$project" || exit 1
    cmake --preset "$preset" "${options[@]}"
    cmake --build --preset "$preset" "${targets[@]}"
  )
}
