#!/usr/bin/env bash
# Installs what building, testing and plotting need, as Debian 12 packages. Does nothing (and needs neither root
# nor a network) when all of them are there. HYPERATTN_SKIP_SETUP=1 skips it, for systems set up another way.
# With --program only what the program and its pictures need; with --sanitizers also clang, for the preset `sanitize` and
# scripts/fuzz.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

packages=(
  build-essential cmake ninja-build pkg-config git
  libeigen3-dev libyaml-cpp-dev libspdlog-dev libfmt-dev libhdf5-dev nlohmann-json3-dev libcli11-dev
  librandom123-dev libhwy-dev libbenchmark-dev
  python3 python3-venv python3-numpy python3-h5py python3-matplotlib python3-pandas fonts-droid-fallback
)
tests_and_documents=(
  catch2 python3-yaml python3-jsonschema
  pybind11-dev python3-pybind11 python3-dev python3-torch
  mkdocs mkdocs-material python3-pymdownx libjs-katex
)

case "${1:-}" in
  "") packages+=("${tests_and_documents[@]}") ;;
  --program) ;;
  --sanitizers) packages+=("${tests_and_documents[@]}" clang libclang-rt-dev libomp-dev) ;;
  *) die "takes no argument but --program or --sanitizers" ;;
esac

if [ "${HYPERATTN_SKIP_SETUP:-0}" = 1 ]; then
  echo "Set-up skipped (HYPERATTN_SKIP_SETUP=1)."
  exit 0
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
  cat >&2 <<MESSAGE
setup.sh installs Debian packages, and this system has no dpkg or apt-get. Install the equivalents of these by
other means, then run the scripts with HYPERATTN_SKIP_SETUP=1:
  ${packages[*]}
Versions that are known to work: those of Debian 12 (g++ 12, CMake 3.25, Eigen 3.4, HDF5 1.10, Catch2 2.13).
MESSAGE
  exit 1
fi

is_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
for package in "${packages[@]}"; do
  is_installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "Set-up: all ${#packages[@]} packages are installed."
  exit 0
fi
echo "Set-up: to install: ${missing[*]}"

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null 2>&1 ||
    die "installing needs root, and there is no sudo. As root: apt-get install ${missing[*]}"
  as_root=(sudo)
fi
install_missing() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
}
"${as_root[@]}" apt-get update || echo "setup.sh: apt-get update failed; going on with the package lists there are." >&2
install_missing || die "apt-get could not install: ${missing[*]}. The project is built for Debian 12 (bookworm)."
echo "Set-up: done."
