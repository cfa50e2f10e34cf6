#!/usr/bin/env bash
# Opens a report in headless Chromium and checks that its scripts run, that values show under the mouse, that tables
# sort, that nothing is fetched from elsewhere, and that it prints; leaves screenshots of the light and the dark scheme.
#   scripts/report_browser_test.sh [-o DIR] RESULTS.h5 …      (default DIR: build/report_browser_test)
# Needs Debian's chromium package, which it installs if it may.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

out=$project/build/report_browser_test
if [ "${1:-}" = -o ]; then
  out=${2:-}
  shift 2 || true
fi
if [ $# -lt 1 ] || [ -z "$out" ]; then
  echo "Usage: scripts/report_browser_test.sh [-o DIR] RESULTS.h5 …" >&2
  exit 2
fi
mkdir -p "$out"
out=$(cd "$out" && pwd)

if ! command -v chromium >/dev/null 2>&1; then
  command -v apt-get >/dev/null 2>&1 || die "needs chromium, and there is no apt-get to install it with."
  as_root=()
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium
fi

python=$(find_python)
"$python" "$project/scripts/report.py" "$@" -o "$out/report.html"

profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
browser() {
  timeout 120 chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$profile" --window-size=1200,2400 "$@" \
    2>"$out/chromium.log"
}

failed=0
check() { # check WHAT COMMAND ...
  local what=$1
  shift
  if "$@" >/dev/null; then echo "ok      $what"; else
    echo "FAILED  $what"
    failed=1
  fi
}
# shellcheck disable=SC2317  # called through check
is_set() { grep -qE "<html[^>]* data-$1=\"$2\"" "$out/probed.html"; }
# shellcheck disable=SC2317
lacks_fetches() { ! grep -qE '(src|href)="?(https?:)?//' "$out/report.html" && ! grep -qE '@import|url\(["'"'"']?http' "$out/report.html"; }

# A copy with a probe at its end that acts as a reader would and writes down what it saw.
cat >"$out/probe.html" <<'PROBE'
<script>
window.addEventListener('load', () => {
  const root = document.documentElement, tip = document.getElementById('tip');
  const points = [...document.querySelectorAll('.point')];
  root.dataset.points = points.length;
  root.dataset.tips = points.filter(point => (point.dataset.tip || '').length > 3).length;
  if (points.length) {
    points[0].dispatchEvent(new MouseEvent('mousemove', {clientX: 100, clientY: 100, bubbles: true}));
    root.dataset.shown = !tip.hidden && tip.textContent === points[0].dataset.tip ? 'yes' : 'no';
    points[0].dispatchEvent(new MouseEvent('mouseleave'));
    root.dataset.gone = tip.hidden ? 'yes' : 'no';
  }
  const table = document.querySelector('table.sortable');
  if (table) {
    const head = [...table.querySelectorAll('th')].findIndex((_, i) => table.tBodies[0].rows[0].cells[i].dataset.value !== undefined);
    const values = () => [...table.tBodies[0].rows].map(row => Number(row.cells[head].dataset.value));
    const ordered = sign => values().every((value, i, all) => i === 0 || sign * (value - all[i - 1]) >= 0);
    table.querySelectorAll('th button')[head].click();
    const up = ordered(1);
    table.querySelectorAll('th button')[head].click();
    root.dataset.sorts = up && ordered(-1) ? 'yes' : 'no';
  }
  root.dataset.overflow = root.scrollWidth > root.clientWidth ? 'yes' : 'no';
});
</script>
PROBE
cat "$out/report.html" "$out/probe.html" >"$out/probe_page.html"
browser --virtual-time-budget=5000 --dump-dom "file://$out/probe_page.html" >"$out/probed.html" || die "Chromium failed; see $out/chromium.log"

check "scripts run" is_set ready yes
check "points have values" is_set points '[1-9][0-9]*'
check "every point shows its value under the mouse" is_set tips "$(grep -oE 'data-points="[0-9]+"' "$out/probed.html" | tr -dc 0-9)"
check "the value appears" is_set shown yes
check "the value goes away" is_set gone yes
check "tables sort" is_set sorts yes
check "the page is not wider than the window" is_set overflow no
check "nothing is fetched from elsewhere" lacks_fetches

browser --blink-settings=preferredColorScheme=1 --screenshot="$out/light.png" "file://$out/report.html"
browser --blink-settings=preferredColorScheme=0 --screenshot="$out/dark.png" "file://$out/report.html"
browser --window-size=420,2400 --screenshot="$out/narrow.png" "file://$out/report.html"
browser --no-pdf-header-footer --print-to-pdf="$out/report.pdf" "file://$out/report.html"
check "light and dark schemes differ" bash -c "! cmp -s '$out/light.png' '$out/dark.png'"
check "it prints" test -s "$out/report.pdf"

echo "Screenshots and the printed report are in $out."
exit "$failed"
