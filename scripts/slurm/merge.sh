#!/usr/bin/env bash
# Puts the shards of a sweep (scripts/slurm/sweep.sbatch) together: merge.sh OUTDIR MERGED.h5
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/../common.sh"

[ $# -eq 2 ] || { echo "Usage: scripts/slurm/merge.sh OUTDIR MERGED.h5" >&2; exit 2; }
shopt -s nullglob
shards=("$1"/shard-*-of-*.h5)
[ ${#shards[@]} -gt 0 ] || die "$1 holds no shard-*-of-*.h5."
wanted=${shards[0]##*-of-}
wanted=$((10#${wanted%.h5}))
[ ${#shards[@]} -eq "$wanted" ] || echo "merge.sh: ${#shards[@]} of $wanted shards are there; the others are missing." >&2
exec "${HYPERATTN:-$project/build/release/hyperattn}" merge "$2" "${shards[@]}"
