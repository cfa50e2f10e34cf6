#!/usr/bin/env bash
# Runs the experiments of the paper and of its reviewers' questions (configs/paper/), draws their pictures, and writes one
# report. docs/reproducing.md sets the figures beside the paper's.
#
#   scripts/reproduce_paper.sh [smoke|base|paper]     (default: base)
#
# smoke: a minute, to see that everything runs. base: about 20 minutes on two cores. paper: the paper's sizes, for days on a
# large machine. Run again, it goes on where it stopped; results and pictures are in results/paper/LEVEL/. The pretrained
# model takes part where scripts/fetch_smollm2.sh has fetched it, for a minute, 10 minutes and an hour more.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

level=${1:-base}
case $level in
  smoke | base | paper) ;;
  *)
    echo "Usage: scripts/reproduce_paper.sh [smoke|base|paper]; '$level' is none of them." >&2
    exit 2
    ;;
esac
out=results/paper/$level
hyperattn=build/release/hyperattn

scripts/setup.sh
build_preset release >/dev/null
python=$(find_python)
mkdir -p "$out"

made=()
failed=()
# experiment NAME CONFIG COMMAND [KEY=VALUE …]: runs it, or what is missing of it.
experiment() {
  local name=$1 config=$2 command=$3
  shift 3
  local results=$out/$name.h5 resume=() status=0
  [ ! -e "$results" ] || resume=(--resume)
  say "$name ($level)"
  local began=$SECONDS
  "$hyperattn" "$command" "$config" "group=$level" "$@" -o "$results" "${resume[@]}" || status=$?
  case $status in
    0) ;;
    4) failed+=("$name: some trials failed") ;;
    130) exit 130 ;;
    *)
      failed+=("$name: exit code $status")
      return 0
      ;;
  esac
  echo "$name took $((SECONDS - began)) s."
  made+=("$results")
}
# plot SCRIPT NAME …: pictures of these results, where they were made.
plot() {
  local script=$1 name files=()
  shift
  for name in "$@"; do
    [ ! -e "$out/$name.h5" ] || files+=("$out/$name.h5")
  done
  [ ${#files[@]} -gt 0 ] || return 0
  "$python" "scripts/$script.py" "${files[@]}" -o "$out/$1" || failed+=("$script of $1")
}

began=$SECONDS
experiment speedup configs/paper/speedup.yaml run
experiment speedup_backward configs/paper/speedup.yaml run timing.pass=forward_backward
experiment language_model configs/paper/language_model.yaml lm
if [ -d results/models/smollm2/model ]; then
  experiment pretrained configs/paper/pretrained.yaml lm
else
  echo "Without the pretrained model, which scripts/fetch_smollm2.sh fetches."
fi
experiment assumptions configs/paper/assumptions.yaml run
for axis in sample_size block_size bucket_count condition_number; do
  experiment "error_$axis" "configs/paper/error_$axis.yaml" run
done
experiment ablations configs/paper/ablations.yaml run
experiment pareto configs/paper/pareto.yaml run
experiment causal configs/paper/causal.yaml run

say "Pictures"
plot plot_speedup speedup speedup_backward
plot plot_stages speedup
plot plot_language_model language_model
plot plot_language_model pretrained
plot plot_assumptions assumptions
plot plot_bounds assumptions
for axis in sample_size block_size bucket_count condition_number; do plot plot_error "error_$axis"; done
plot plot_ablations ablations
plot plot_stages ablations
plot plot_pareto pareto
plot plot_causal causal

[ ${#made[@]} -gt 0 ] || die "no experiment finished."
"$python" scripts/report.py "${made[@]}" -o "$out/report.html" --title "HyperAttention: the paper's experiments ($level)"

say "Done in $((SECONDS - began)) s: $out/report.html"
if [ ${#failed[@]} -gt 0 ]; then
  printf 'Not everything worked:\n' >&2
  printf '  %s\n' "${failed[@]}" >&2
  exit 4
fi
