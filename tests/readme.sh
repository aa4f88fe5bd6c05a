#!/usr/bin/env bash
# Runs the commands of README.md and docs/accounting.md as they stand there, in one shell, and looks for what a reader would look for.
# The last line is `N passed, N failed`.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

# A deployment of its own on the same servers, so that nothing of an earlier run is in the way.
NEARCAST_DEPLOYMENT__PREFIX=readme$(date +%s%N | tail -c 10)
export NEARCAST_DEPLOYMENT__PREFIX
# Few partitions: this deployment is small, and its topics are deleted afterwards.
export NEARCAST_TOPICS__LOCATIONS_PARTITIONS=4 NEARCAST_TOPICS__VISIBILITY_PARTITIONS=4
# Where the runner found the servers, if not at the ports that the README has.
[ -z "${NEARCAST_TEST_KAFKA:-}" ] || export NEARCAST_KAFKA__BOOTSTRAP=$NEARCAST_TEST_KAFKA
[ -z "${NEARCAST_TEST_REDIS:-}" ] || export NEARCAST_REDIS__NODES=$NEARCAST_TEST_REDIS
[ -z "${NEARCAST_TEST_CASSANDRA:-}" ] || export NEARCAST_CASSANDRA__NODES=$NEARCAST_TEST_CASSANDRA
passed=0
failed=0
output=$(mktemp)
finish() {
  local running
  running=$(jobs -p)
  # shellcheck disable=SC2086  # a list of pids
  kill "$open" $running 2>/dev/null
  # shellcheck disable=SC2086
  wait $running
  rm -f "$output"
}
trap finish EXIT
# A reader's terminal stays open; wscat ends when its input does.
exec < <(exec tail -f /dev/null)
open=$!

page=README.md

# block NAME: the shell commands under `<!-- run: NAME -->` of the page.
block() {
  awk -v mark="<!-- run: $1 -->" '$0 == mark { on = 1; next } on && /^```/ { if (code) exit; code = 1; next } on && code' "$page"
}

# expect NAME TEXT...: runs a block in this shell and wants each of the texts in what it prints.
expect() {
  local name=$1 text code=0 commands
  shift
  commands=$(block "$name")
  if [ -z "$commands" ]; then
    echo "FAILED  $name: $page has no such block"
    failed=$((failed + 1))
    return
  fi
  eval "$commands" >"$output" 2>&1 || code=$?
  for text in "$@"; do
    if ! grep -qF -- "$text" "$output"; then
      echo "FAILED  $name: no '$text' (exit code $code) in:"
      tail -n 20 "$output"
      failed=$((failed + 1))
      return
    fi
  done
  if ((code != 0)); then
    echo "FAILED  $name: exit code $code"
    tail -n 20 "$output"
    failed=$((failed + 1))
    return
  fi
  echo "ok      $name"
  passed=$((passed + 1))
}

expect start
expect ready '"ready":true'
expect friends '"Alice"' '"Bob"' '"bob"'
expect report 'published'
expect watch '"welcome"' '"bob"'
expect rest '"bob"' '13.405'
expect simulate 'wrong'
expect config '[deployment]' 'NEARCAST_KAFKA__BOOTSTRAP' 'good'
page=docs/accounting.md
expect audit 'published' 'clean:'
expect one '"verdict": "clean"'
expect letters '0 waiting' '0 settled, 0 stay'

echo "$passed passed, $failed failed"
((failed == 0))
