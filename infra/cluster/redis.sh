#!/usr/bin/env bash
# One of the six nodes of the Redis Cluster: redis.sh 1..6 VERB, with the verbs of server.sh; and
#   redis.sh form   makes a cluster of them, unless they are one
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/../local/server.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"

# whole: every slot is served, by all the nodes that there are. Each node says what it believes.
whole() {
  local node info
  for node in "${redis_nodes[@]}"; do
    info=$(redis-cli -p "$(redis_port "$node")" cluster info | tr -d '\r') || return 1
    grep -qx cluster_state:ok <<<"$info" && grep -qx "cluster_known_nodes:${#redis_nodes[@]}" <<<"$info" || return 1
  done
}

form() {
  local node ports=() begin=$SECONDS
  for node in "${redis_nodes[@]}"; do ports+=("127.0.0.1:$(redis_port "$node")"); done
  # Each remembers its peers, so this is needed once. After a restart they only need a moment to meet.
  if redis-cli -p "$(redis_port 1)" cluster info | grep -q '^cluster_known_nodes:1[^0-9]'; then
    redis-cli --cluster create "${ports[@]}" --cluster-replicas 1 --cluster-yes >"$cluster_dir/redis.log" 2>&1 ||
      { tail -n 15 "$cluster_dir/redis.log" >&2; echo "the Redis Cluster was not formed" >&2; return 1; }
  fi
  until whole; do
    if ((SECONDS - begin >= start_seconds)); then
      echo "the Redis Cluster is not whole after $start_seconds s: redis-cli -p $(redis_port 1) cluster nodes" >&2
      return 1
    fi
    sleep 0.2
  done
}

if [[ ${1:-} == form ]]; then
  form
  exit
fi

node=$1
shift
name=redis-$node
dir=$cluster_dir/$name
port=$(redis_port "$node")
ports=("$port" $((port + 10)))
mark=$dir/redis.conf

prepare() {
  mkdir -p "$dir/data"
  {
    fill "$here/redis/redis.conf" PORT="$port" DATA="$dir/data"
    fill "$cluster/redis.conf" BUS_PORT=$((port + 10))
  } >"$mark"
  command=(redis-server "$mark")
}

answers() { [[ $(ask "$port" 'PING\r\n' 5) == 2b504f4e47 ]]; } # +PONG

serve "$@"
