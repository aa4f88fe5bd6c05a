#!/usr/bin/env bash
# One process of Nearcast in the local cluster: nearcast.sh gateway|api|fanout|history-sink ORDINAL VERB, with the verbs
# of server.sh, where `down` drains, and
#   kill    ends it by SIGKILL
# or, for a command that ends by itself: nearcast.sh run ARGS, for example
#   nearcast.sh run topics list
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/../local/server.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"

# What the caller has set for a deployment of his own would override the file.
for variable in "${!NEARCAST_@}"; do
  if [[ $variable == *__* ]]; then unset "$variable"; fi
done
# A socket is a file.
ulimit -n "$(ulimit -Hn)"

program=${NEARCAST_BIN:-${CARGO_TARGET_DIR:-$root/target}/debug/nearcast}

# config FILE
config() {
  local urls=() node
  for node in "${redis_nodes[@]}"; do urls+=("redis://127.0.0.1:$(redis_port "$node")"); done
  fill "$cluster/nearcast.toml" KAFKA="$(bootstrap)" REDIS="$(joined '"%s"' "${urls[@]}")" \
    CASSANDRA_PORT="$cassandra_port" >"$1"
}

if [[ ${1:-} == run ]]; then
  shift
  config "$cluster_dir/nearcast.toml"
  exec "$program" --config "$cluster_dir/nearcast.toml" "$@"
fi

service=$1
ordinal=$2
shift 2
name=$service-$ordinal
dir=$cluster_dir/$name
port=$(service_port "$service" "$ordinal")
admin=$(admin_port "$service" "$ordinal")
ports=("$port")
if ((admin != port)); then ports+=("$admin"); fi
mark=$dir/nearcast.toml

prepare() {
  local sets=() set
  case $service in
    gateway)
      sets=("gateway.id=$ordinal" "gateway.listen=127.0.0.1:$port" "gateway.admin_listen=127.0.0.1:$admin"
        "gateway.api_url=http://127.0.0.1:$inner_port")
      if [[ ${NEARCAST_EDGE_TLS:-} == 1 ]]; then
        sets+=("gateway.tls_certificate=$cluster_dir/tls/certificate.pem" "gateway.tls_key=$cluster_dir/tls/key.pem")
      fi
      ;;
    api) sets=("api.listen=127.0.0.1:$port") ;;
    fanout) sets=("fanout.admin_listen=127.0.0.1:$admin" "fanout.worker=$name") ;;
    history-sink) sets=("history_sink.admin_listen=127.0.0.1:$admin") ;;
  esac
  mkdir -p "$dir"
  config "$mark"
  command=("$program" --config "$mark" "$service")
  # NEARCAST_SETTINGS holds further ones, one a word, for every service.
  read -ra set <<<"${NEARCAST_SETTINGS:-}"
  for set in "${sets[@]}" "${set[@]}"; do command+=(--set "$set"); done
}

answers() { curl -sf --max-time 3 -o /dev/null "http://127.0.0.1:$admin/readyz"; }

if [[ ${1:-} == kill ]]; then
  pid=$(running) || { say "not running"; exit 1; }
  kill -KILL "$pid"
  until gone "$pid"; do sleep 0.05; done
  rm -f "$dir/pid"
  say "killed (pid $pid)"
else
  serve "$@"
fi
