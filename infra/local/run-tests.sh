#!/usr/bin/env bash
# Runs every test on the local stack: the workspace's, the stack's own, and tests/*.sh.
# The last line is `N passed, N failed`. The stack is left as it was found.
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/where.sh"
cd "$root"

# Some tests open more sockets than a shell's soft limit allows.
ulimit -n "$(ulimit -Hn)"

was_running=$("$here/stack.sh" running)
output=$(mktemp)
finish() {
  local server
  trap - EXIT
  rm -f "$output" "$output.last"
  for server in kafka cassandra redis; do
    grep -qx "$server" <<<"$was_running" || "$here/$server.sh" down &
  done
  wait
}
trap finish EXIT

if ! "$here/stack.sh" up; then
  finish
  echo "FAILED  the stack did not come up"
  echo "0 passed, 1 failed"
  exit 1
fi

# The integration tests find the servers by these.
export NEARCAST_TEST_KAFKA=127.0.0.1:$kafka_port
export NEARCAST_TEST_REDIS=redis://127.0.0.1:$redis_port
export NEARCAST_TEST_CASSANDRA=127.0.0.1:$cassandra_port

passed=0
failed=0
troubles=()

# count NAME CODE PASSED FAILED: a run that failed without a failed test, or that ran no test, counts
# as one failure: it did not build, crashed, or was not there.
count() {
  passed=$((passed + $3))
  failed=$((failed + $4))
  if (($2 != 0 && $4 == 0)); then
    failed=$((failed + 1))
    troubles+=("$1 ended with exit code $2 and no failed test: it did not build, or crashed")
  elif (($4 > 0)); then
    troubles+=("$1: $4 failed")
  elif (($3 == 0)); then
    failed=$((failed + 1))
    troubles+=("$1 ran no test")
  fi
}

# sum PATTERN WORD: adds up the numbers before a word, over all matches of the pattern in the output.
sum() {
  sed 's/\x1b\[[0-9;]*m//g' "$output" | grep -oE "$1" | grep -oE "[0-9]+ $2" |
    awk '{ n += $1 } END { print n + 0 }' || true
}

cargo_tests() {
  local code=0 result='test result: [A-Za-z]+\. [0-9]+ passed; [0-9]+ failed'
  # In CI the lock file must be the one that was committed.
  cargo test --workspace --no-fail-fast ${CI:+--locked} </dev/null | tee "$output" || code=$?
  count "cargo test" "$code" "$(sum "$result" passed)" "$(sum "$result" failed)"
}

# script FILE
script() {
  local code=0 result='^[0-9]+ passed, [0-9]+ failed$'
  echo "== $1"
  "$1" </dev/null 2>&1 | tee "$output" || code=$?
  # Only the last such line is the script's own sum.
  grep -E "$result" "$output" | tail -n 1 >"$output.last" || true
  mv "$output.last" "$output"
  count "$1" "$code" "$(sum "$result" passed)" "$(sum "$result" failed)"
}

cargo_tests
script infra/local/test.sh
for file in tests/*.sh; do
  if [[ -x $file ]]; then script "$file"; fi
done

finish
for trouble in "${troubles[@]}"; do echo "FAILED  $trouble"; done
echo "$passed passed, $failed failed"
((failed == 0))
