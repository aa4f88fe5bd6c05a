#!/usr/bin/env bash
# run.sh [TARGET...]: fuzzes each target, or those named, for FUZZ_SECONDS (600), two at a time. A line a target;
# what breaks a promise is below fuzz/artifacts. What covers something new is below fuzz/found; fuzz/merge.sh takes over what
# the corpora want of it.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${FUZZ_SECONDS:-600}
if ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
  echo "FUZZ_SECONDS must be a whole number of seconds, not \"$seconds\"" >&2
  exit 2
fi
# shellcheck source=fuzz/targets.sh
source ./targets.sh
build_targets "$@"

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# run TARGET
run() {
  local code=0 options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1)
  mkdir -p "artifacts/$1" "found/$1"
  if [[ -e dict/$1.dict ]]; then options+=("-dict=dict/$1.dict"); fi
  "$(binary "$1")" "${options[@]}" -artifact_prefix="artifacts/$1/" "found/$1" "corpus/$1" \
    >"$logs/$1" 2>&1 </dev/null || code=$?
  local runs covered
  runs=$(grep -oP 'stat::number_of_executed_units: \K\d+' "$logs/$1" || echo 0)
  covered=$(grep -oP 'cov: \K\d+' "$logs/$1" | tail -n 1 || echo 0)
  if ((code == 0)); then
    echo "ok      $1: $runs runs in $seconds s, $covered edges covered"
    rmdir "artifacts/$1" 2>/dev/null || true
    return 0
  fi
  echo "FAILED  $1 after $runs runs:"
  tail -n 30 "$logs/$1" | sed 's/^/    /'
  return 1
}

failed=0
waiting=()
for target in "${targets[@]}"; do
  run "$target" &
  waiting+=($!)
  if ((${#waiting[@]} == 2)); then
    wait "${waiting[0]}" || failed=1
    waiting=("${waiting[1]}")
  fi
done
for job in "${waiting[@]}"; do wait "$job" || failed=1; done
rmdir artifacts 2>/dev/null || true
exit "$failed"
