#!/usr/bin/env bash
# The edge and everything behind it, as processes of this machine:
#   cluster.sh up|down|status|logs|clean
#   cluster.sh add gateway|api ORDINAL      starts one, and the balancer sends to it
#   cluster.sh drain gateway|api ORDINAL    ends it as a rollout does: its clients are told to go elsewhere
#   cluster.sh remove gateway|api ORDINAL   drains it, and the balancer forgets it
#   cluster.sh kill SERVICE ORDINAL         ends it by SIGKILL; `up` starts it again
#   cluster.sh start|stop|pid PART [N]      one process: kafka, redis, gateway, api, fanout, history-sink N, cassandra, haproxy
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/../local/where.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"
# shellcheck source=infra/cluster/members.sh
source "$(dirname "$0")/members.sh"

cassandra() { NEARCAST_LOCAL=$cluster_dir NEARCAST_CASSANDRA_PORT=$cassandra_port "$here/cassandra.sh" "$@"; }

# servers: what holds the data. services: Nearcast's own. One a line, as the words before the verb.
servers() {
  printf 'kafka %s\n' "${brokers[@]}"
  echo cassandra
  printf 'redis %s\n' "${redis_nodes[@]}"
}
services() {
  local service slot
  printf '%s\n' 'fanout 1' 'fanout 2' 'history-sink 1' 'history-sink 2'
  for service in api gateway; do
    for slot in $(slots_of "$service"); do echo "$service $slot"; done
  done
}

# one WORDS... VERB
one() {
  case $1 in
    cassandra) cassandra "${@:2}" ;;
    kafka | redis | haproxy) "$cluster/$1.sh" "${@:2}" ;;
    *) "$cluster/nearcast.sh" "$@" ;;
  esac
}

# each VERB: of the list on standard input, all at once; fails if one failed.
each() {
  local words pids=() pid failed=0
  while read -ra words; do
    one "${words[@]}" "$1" </dev/null &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  return $failed
}

# in_turn VERB: one after the other, for what is read.
in_turn() {
  local words failed=0
  while read -ra words; do one "${words[@]}" "$1" </dev/null || failed=1; done
  return $failed
}

everything() {
  servers
  services
  echo haproxy
}

# lock: two commands at once would start two of each.
lock() {
  exec 9>"$cluster_dir/lock"
  if ! flock -n 9; then
    echo "waiting for another command on $cluster_dir"
    flock -w 600 9
  fi
}

up() {
  # The jars are those of the local stack.
  mkdir -p "$cluster_dir/cassandra"
  ln -sfn "$local_dir/cassandra/lib" "$cluster_dir/cassandra/lib"
  # All ports first, so that a conflict leaves nothing half started.
  everything | in_turn free-ports
  "$cluster/tls.sh"
  servers | each up
  "$cluster/redis.sh" form
  "$cluster/nearcast.sh" run topics create >"$cluster_dir/topics.log" 2>&1 || { cat "$cluster_dir/topics.log" >&2; return 1; }
  "$cluster/nearcast.sh" run migrate >"$cluster_dir/migrate.log" 2>&1 || { cat "$cluster_dir/migrate.log" >&2; return 1; }
  # The balancer before the gateways, because they ask the API through it.
  "$cluster/haproxy.sh" up
  services | each up
  # With a part of the gateways, users would come to other ones than later.
  while "$cluster/balancer.sh" show | awk 'NR > 1 && $2 !~ /^(UP|DRAIN)/ { waits = 1 } END { exit !waits }'; do sleep 0.1; done
  echo "edge       wss://localhost:$edge_port/v1/ws and https://localhost:$edge_port/v1, trusting $cluster_dir/tls/authority.pem"
}

down() {
  local failed=0 entry
  # Gateways before what they need, so that their clients take leave; the balancer last of the edge.
  services | grep gateway | each down || failed=1
  services | grep -v gateway | each down || failed=1
  # Those that the balancer was told to forget, and that run on.
  for entry in "$cluster_dir"/{gateway,api}-*/pid; do
    [[ -f $entry ]] || continue
    entry=${entry%/pid} entry=${entry##*/}
    one "${entry%-*}" "${entry##*-}" down || failed=1
  done
  "$cluster/haproxy.sh" down || failed=1
  servers | each down || failed=1
  return $failed
}

member_verb() {
  local verb=$1 service=${2:-} ordinal=${3:-}
  if [[ ! $service =~ ^(gateway|api)$ || ! $ordinal =~ ^[1-9]$ ]]; then
    echo "usage: $0 $verb gateway|api ORDINAL" >&2
    exit 2
  fi
  case $verb in
    add)
      "$cluster/nearcast.sh" "$service" "$ordinal" up
      "$cluster/balancer.sh" add "$service" "$ordinal"
      ;;
    # The balancer sees at /readyz that it is no longer ready.
    drain) "$cluster/nearcast.sh" "$service" "$ordinal" down ;;
    remove)
      "$cluster/nearcast.sh" "$service" "$ordinal" down
      "$cluster/balancer.sh" remove "$service" "$ordinal"
      ;;
  esac
}

first_members
case ${1:-} in
  up) lock && up ;;
  down) lock && down ;;
  clean)
    lock
    if [[ -n $(everything | in_turn running || true) ]]; then
      echo "is running: make down-cluster first" >&2
      exit 1
    fi
    for entry in "$cluster_dir"/*; do
      if [[ $entry != "$cluster_dir/lock" ]]; then rm -rf "$entry"; fi
    done
    echo "data wiped"
    ;;
  status | logs) everything | in_turn "$1" ;;
  add | drain | remove) lock && member_verb "$@" ;;
  # Without the lock: one process does not wait for another.
  start) one "${@:2}" up ;;
  stop) one "${@:2}" down ;;
  pid) one "${@:2}" running ;;
  kill) "$cluster/nearcast.sh" "${2:?service}" "${3:?ordinal}" kill ;;
  *)
    sed -n '3,8s/^# *//p' "$0" >&2
    exit 2
    ;;
esac
