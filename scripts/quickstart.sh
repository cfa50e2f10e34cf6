#!/usr/bin/env bash
# From a fresh clone to plots of error and speedup over real attention inputs, in results/quickstart/.
# Run again, it builds what changed, runs what is missing and draws the plots anew.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"
cd "$project"

# Measured on two quiet cores of an AMD EPYC (family 25, model 17): compiling takes 430 s of processor time by g++ 12,
# without CUDA and ccache, on all cores alike; step 3 took 94 s and step 4 15 s. Step 1 depends on the network.
cores=$(nproc)
build_minutes=$(((430 / cores + 59) / 60))
cat <<MESSAGE
From this clone to pictures, in four steps. Run again, it does only what is missing.
  1  install missing Debian packages       a minute, or nothing
  2  build the program                     about $build_minutes min on $cores cores, or nothing
  3  measure errors and speeds             about 1.5 min
  4  draw pictures and a report            15 s
MESSAGE

config=configs/quickstart.yaml
out=results/quickstart
results=$out/quickstart.h5
hyperattn=build/release/hyperattn

say "1/4 Install what building and plotting need (a minute, or nothing)"
scripts/setup.sh --program
say "2/4 Build build/release/hyperattn (about $build_minutes min if nothing is built yet)"
build_preset release -DBUILD_TESTING=OFF --target=hyperattn

say "3/4 Measure what $config asks for: exact, lsh, hyper and tree on real and Gaussian inputs (about 1.5 min)"
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

say "4/4 Draw pictures and a report into $out (15 s)"
python=$(find_python)
"$python" scripts/plot_overview.py "$results" -o "$out"
"$python" scripts/plot_error.py "$results" -o "$out"
"$python" scripts/plot_speedup.py "$results" -o "$out"
"$python" scripts/plot_stages.py "$results" -o "$out"
"$python" scripts/report.py "$results" -o "$out/report.html"

say "Done"
# The captured heads alone; sed reads to the end, so that `show` never writes to a closed pipe.
"$hyperattn" show "$results" | sed '/ gaussian  *[0-9]*\/[0-9]/,$d'
cat <<MESSAGE

Look at          $out/overview.png, or at everything in $out/report.html
The whole table: $hyperattn show $results
Next:            $hyperattn run $config sweep.sample_size='[64, 1024]' -o results/mine.h5
MESSAGE
exit "$status"
