#!/usr/bin/env bash
# HAProxy in front of gateways and API: haproxy.sh VERB, with the verbs of server.sh.
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/../local/server.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"
# shellcheck source=infra/cluster/members.sh
source "$(dirname "$0")/members.sh"

name=haproxy
dir=$cluster_dir/haproxy
port=$edge_port
ports=("$edge_port" "$edge_metrics_port" "$inner_port")
mark=$dir/haproxy.cfg

# server_lines SERVICE: every slot, those of members in use and the others waiting for `balancer.sh add`.
server_lines() {
  local slot host at health
  for ((slot = 1; slot <= slots; slot++)); do
    if read -r host at health < <(member "$1" "$slot"); then
      echo "    server $1$slot $host:$at id $slot check port $health"
    else
      echo "    server $1$slot 127.0.0.1:1 id $slot check port 1 disabled"
    fi
  done
}

prepare() {
  local upstream=
  # The hop behind the balancer, too; health is asked on the port for health, which has no TLS.
  if [[ ${NEARCAST_EDGE_TLS:-} == 1 ]]; then
    upstream="ssl verify required ca-file $cluster_dir/tls/authority.pem verifyhost localhost"
  fi
  fill "$cluster/haproxy.cfg" DIR="$dir" TLS="$cluster_dir/tls" EDGE_PORT="$edge_port" INNER_PORT="$inner_port" \
    METRICS_PORT="$edge_metrics_port" UPSTREAM_TLS="$upstream" \
    GATEWAYS="$(server_lines gateway)" APIS="$(server_lines api)" >"$mark"
  command=("$(PATH=$PATH:/usr/sbin command -v haproxy)" -db -f "$mark")
}

# It serves while it knows no server that is up: the answer is 503 then, and still one.
answers() { [[ $(curl -s --max-time 3 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$edge_metrics_port/healthz") =~ ^(200|503)$ ]]; }

serve "$@"
