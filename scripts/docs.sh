#!/usr/bin/env bash
# Builds the documents into a site with search and formulas, in build/site; it needs no network to be read.
#   scripts/docs.sh [-o DIR] [--serve]      --serve: shows it at http://localhost:8000, where the search works, too
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

out=$project/build/site
serve=0
while [ $# -gt 0 ]; do
  case $1 in
    -o) out=${2:?-o needs a folder} && shift 2 ;;
    --serve) serve=1 && shift ;;
    *) die "takes -o DIR and --serve only" ;;
  esac
done
"$project/scripts/setup.sh"
PYTHONDONTWRITEBYTECODE=1 mkdocs build --quiet --clean --config-file "$project/docs/site/mkdocs.yml" --site-dir "$(realpath -m "$out")"
echo "The site is in $out: index.html is its first page."
[ $serve = 0 ] || exec /usr/bin/python3 -m http.server --bind localhost --directory "$out" 8000
