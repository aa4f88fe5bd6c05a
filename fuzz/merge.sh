#!/usr/bin/env bash
# merge.sh [TARGET...]: keeps of each corpus the smallest entries that cover what all of them cover, and what
# examples/seeds.rs writes.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=fuzz/targets.sh
source ./targets.sh
build_targets "$@"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for target in "${targets[@]}"; do
  mkdir "$scratch/$target" "$scratch/$target.seeds"
  find "corpus/$target" -name 'seed-*' -exec mv -t "$scratch/$target.seeds" {} +
  cp "$scratch/$target.seeds"/* "$scratch/$target"
  "$(binary "$target")" -merge=1 "$scratch/$target" "corpus/$target" >"$scratch/log" 2>&1 </dev/null || {
    cp "$scratch/$target.seeds"/* "corpus/$target"
    tail -n 30 "$scratch/log" >&2
    echo "$target could not be merged" >&2
    exit 1
  }
  rm -r "corpus/$target"
  mv "$scratch/$target" "corpus/$target"
  echo "$target: $(find "corpus/$target" -type f | wc -l) entries"
done
