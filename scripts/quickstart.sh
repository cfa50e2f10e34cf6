#!/usr/bin/env bash
# From a fresh clone to plots of error and speedup over real attention inputs, in results/quickstart/.
# Run again, it builds what changed, runs what is missing and draws the plots anew.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

config=configs/quickstart.yaml
out=results/quickstart
results=$out/quickstart.h5
hyperattn=build/release/hyperattn
shown_lines=24 # the captured heads

say "Set-up"
scripts/setup.sh
say "Build (build/release)"
build_preset release -DBUILD_TESTING=OFF

say "Run $config"
mkdir -p "$out"
# A results file of the same configuration is completed; one of another configuration or program version is
# refused by --resume (exit code 2) and then kept under another name, never thrown away.
status=0
if [ -e "$results" ]; then
  "$hyperattn" run "$config" -o "$results" --resume || status=$?
  if [ "$status" -eq 2 ]; then
    kept=$out/quickstart-before-$(date +%Y%m%d-%H%M%S).h5
    mv "$results" "$kept"
    echo "The old results are of another configuration; they are kept as $kept."
    status=0
    "$hyperattn" run "$config" -o "$results" || status=$?
  fi
else
  "$hyperattn" run "$config" -o "$results" || status=$?
fi
# Exit code 4: some trials failed, the others are good enough to plot.
[ "$status" -eq 0 ] || [ "$status" -eq 4 ] || exit "$status"

say "Plots"
python=$(find_python)
"$python" scripts/plot_overview.py "$results" -o "$out"
"$python" scripts/plot_error.py "$results" -o "$out"
"$python" scripts/plot_speedup.py "$results" -o "$out"
"$python" scripts/plot_stages.py "$results" -o "$out"
"$python" scripts/report.py "$results" -o "$out/report.html"

say "Done"
# sed reads to the end, so that `show` never writes to a closed pipe.
"$hyperattn" show "$results" | sed -n "1,${shown_lines}p"
cat <<MESSAGE

Look at          $out/overview.png, or at everything in $out/report.html
The whole table: $hyperattn show $results
Next:            $hyperattn run $config sweep.sample_size='[64, 1024]' -o results/mine.h5
MESSAGE
exit "$status"
