#!/usr/bin/env bash
# stack.sh up|down|status|logs|clean|running: Kafka, Cassandra and Redis together.
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/where.sh"
servers=(kafka cassandra redis)

# each VERB: all servers at once; fails if one failed.
each() {
  local server pids=() pid failed=0
  for server in "${servers[@]}"; do
    "$here/$server.sh" "$1" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return $failed
}

# in_turn VERB: one after the other, for what is read.
in_turn() {
  local server failed=0
  for server in "${servers[@]}"; do "$here/$server.sh" "$1" || failed=1; done
  return $failed
}

# lock: two commands at once would start two of each.
lock() {
  exec 9>"$local_dir/lock"
  if ! flock -n 9; then
    echo "waiting for another make up or make down on $local_dir"
    flock -w 600 9
  fi
}

case ${1:-} in
  up)
    lock
    # All ports first, so that a conflict leaves nothing half started.
    in_turn free-ports
    each up
    ;;
  down) lock && each down ;;
  clean) lock && in_turn clean ;;
  status | logs) in_turn "$1" ;;
  running)
    for server in "${servers[@]}"; do
      if "$here/$server.sh" running >/dev/null; then echo "$server"; fi
    done
    ;;
  *)
    echo "usage: $0 up|down|status|logs|clean|running" >&2
    exit 2
    ;;
esac
