#!/usr/bin/env bash
# merge.sh [TARGET...]: the corpora become what examples/seeds.rs writes, and the fewest other entries that cover what they
# and fuzz/found cover.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=fuzz/targets.sh
source ./targets.sh
build_targets "$@"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
  mkdir -p "$scratch/$target" "found/$target"
  cp "corpus/$target"/seed-* "$scratch/$target"
  "$(binary "$target")" -set_cover_merge=1 -use_counters=0 "$scratch/$target" "corpus/$target" "found/$target" >"$scratch/log" 2>&1 \
    </dev/null || {
    tail -n 30 "$scratch/log" >&2
    echo "$target could not be merged" >&2
    exit 1
  }
  rm -r "corpus/$target"
  mv "$scratch/$target" "corpus/$target"
  echo "$target: $(find "corpus/$target" -type f | wc -l) entries"
done
