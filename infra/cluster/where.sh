# Where everything of the local cluster is. Sourced by the other scripts, after ../local/server.sh or ../local/where.sh.
# shellcheck shell=bash disable=SC2034,SC2154  # the variables are for whoever sources this, and come from there

cluster=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
mkdir -p "${NEARCAST_CLUSTER:-$local_dir/cluster}"
cluster_dir=$(cd "${NEARCAST_CLUSTER:-$local_dir/cluster}" && pwd -P)

# One number moves a whole cluster: all its ports are within the thousand from here on. Below 32768, where the system
# begins to hand ports out.
base=${NEARCAST_CLUSTER_BASE:-30000}
elsewhere="NEARCAST_CLUSTER_BASE=31000 make up-cluster"

brokers=(1 2 3)
# Three masters and a replica of each.
redis_nodes=(1 2 3 4 5 6)

edge_port=$((base + 443))
edge_metrics_port=$((base + 444))
# The API as gateways reach it, through the balancer, without TLS and on this machine alone.
inner_port=$((base + 480))
cassandra_port=$((base + 42))
kafka_port() { echo $((base + 92 + 100 * $1)); }
redis_port() { echo $((base + 370 + $1)); }

# service_port SERVICE ORDINAL, admin_port SERVICE ORDINAL: where clients connect, and where health and metrics are.
service_port() {
  case $1 in
    gateway) echo $((base + 500 + $2)) ;;
    *) admin_port "$1" "$2" ;;
  esac
}
admin_port() {
  case $1 in
    gateway) echo $((base + 520 + $2)) ;;
    api) echo $((base + 540 + $2)) ;;
    fanout) echo $((base + 560 + $2)) ;;
    history-sink) echo $((base + 580 + $2)) ;;
  esac
}

# Slots of the balancer for each of gateways and API.
slots=8

# joined PATTERN WORD...: the words put into a printf pattern, with commas.
joined() {
  local pattern=$1 all
  shift
  # shellcheck disable=SC2059  # the pattern is one
  all=$(printf "$pattern," "$@")
  echo "${all%,}"
}

bootstrap() {
  local ports=() broker
  for broker in "${brokers[@]}"; do ports+=("$(kafka_port "$broker")"); done
  joined 127.0.0.1:%s "${ports[@]}"
}
