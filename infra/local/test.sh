#!/usr/bin/env bash
# Tests the local stack's own commands, on ports and in a directory of its own, so that a running
# stack is not disturbed. The last line is `N passed, N failed`.
# No -e: a failed step must not hide the sum.
set -uo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/where.sh"

jars=$local_dir
scratch=$(mktemp -d "$local_dir/test.XXXXXX")
export NEARCAST_LOCAL=$scratch/stack
export NEARCAST_KAFKA_PORT=$((kafka_port - 2000)) NEARCAST_CASSANDRA_PORT=$((cassandra_port - 2000))
export NEARCAST_REDIS_PORT=$((redis_port - 2000))
mkdir -p "$NEARCAST_LOCAL"/{kafka,cassandra}
ln -s "$jars/kafka/libs" "$NEARCAST_LOCAL/kafka/libs"
ln -s "$jars/cassandra/lib" "$NEARCAST_LOCAL/cassandra/lib"

stranger=
clean_up() {
  if [[ -n $stranger ]]; then kill "$stranger" 2>/dev/null || true; fi
  "$here/stack.sh" down >/dev/null 2>&1 || true
  rm -rf "$scratch"
}
trap clean_up EXIT

passed=0
failed=0
# check TEXT COMMAND...
check() {
  if "${@:2}"; then
    passed=$((passed + 1))
    echo "ok      $1"
  else
    failed=$((failed + 1))
    echo "FAILED  $1"
    sed 's/^/    /' "$scratch/out"
  fi
}
stack() { "$here/stack.sh" "$1" >"$scratch/out" 2>&1 </dev/null; }
said() { grep -qE -- "$1" "$scratch/out"; }
pids() { cat "$NEARCAST_LOCAL"/{kafka,cassandra,redis}/pid 2>/dev/null; }
alive() { grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }
none_alive() {
  local pid
  for pid in "$@"; do alive "$pid" && return 1; done
  return 0
}
not() { ! "$@"; }
same() { [[ $1 == "$2" ]]; }

# A stranger on our port, that must be named and must live on.
redis-server --port "$NEARCAST_REDIS_PORT" --bind 127.0.0.1 --save '' --dir "$scratch" >/dev/null 2>&1 </dev/null &
stranger=$!
for _ in {1..50}; do
  if redis-cli -p "$NEARCAST_REDIS_PORT" ping >/dev/null 2>&1; then break; fi
  sleep 0.1
done
check "up refuses a port that is taken" not stack up
check "and names it" said "^redis +port $NEARCAST_REDIS_PORT is taken by something that this did not start"
check "and starts nothing" same "$(pids)" ""
stack down
check "down leaves the stranger alone" alive "$stranger"

# A pid file that outlasted its process, with a number that belongs to somebody else now.
mkdir -p "$NEARCAST_LOCAL/redis"
echo "$stranger" >"$NEARCAST_LOCAL/redis/pid"
stack down
check "down does not trust an old pid file" alive "$stranger"
kill "$stranger"
wait "$stranger" 2>/dev/null || true
echo "$stranger" >"$NEARCAST_LOCAL/redis/pid"
stranger=

# In a pipe: up must not hold its output open.
# shellcheck disable=SC2016
check "up starts everything and lets go of its output" \
  timeout 400 bash -c 'set -o pipefail; "$0" up 2>&1 | cat >"$1"' "$here/stack.sh" "$scratch/out"
check "three servers are up" same "$(grep -c ' up on 127.0.0.1:' "$scratch/out")" 3
check "status agrees" stack status

before=$(pids)
check "up again succeeds" stack up
check "and says that it had nothing to do" same "$(grep -c 'already up' "$scratch/out")" 3
check "and changed nothing" same "$(pids)" "$before"

kill -9 "$(cat "$NEARCAST_LOCAL/redis/pid")"
check "status sees a killed server" not stack status
check "up completes a half-up stack" stack up
check "and leaves the others" same "$(grep -c 'already up' "$scratch/out")" 2
check "status is content" stack status
check "clean refuses while they run" not stack clean

mapfile -t before < <(pids)
check "down succeeds" stack down
check "all three ended" none_alive "${before[@]}"
check "down again succeeds" stack down
check "and says that nothing ran" same "$(grep -c 'not running' "$scratch/out")" 3
check "clean wipes the data" stack clean
check "and keeps the jars" test -f "$jars/kafka/libs/.stamp"

echo "$passed passed, $failed failed"
((failed == 0))
