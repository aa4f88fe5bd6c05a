#!/usr/bin/env bash
# What the balancer sends where, changed while it runs; no socket is lost by that.
#   balancer.sh show                                      every server: state, last check, sessions
#   balancer.sh add gateway|api SLOT [HOST:PORT HEALTH]   a new one, which is ready; by default this machine's with this ordinal
#   balancer.sh drain gateway|api SLOT                    nothing new to it; what it has stays
#   balancer.sh ready gateway|api SLOT                    the end of that
#   balancer.sh remove gateway|api SLOT                   cuts what it still has, and forgets it
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/../local/where.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"
# shellcheck source=infra/cluster/members.sh
source "$(dirname "$0")/members.sh"

usage() {
  sed -n '3,7s/^# *//p' "$0" >&2
  exit 2
}

# tell COMMAND: by HAProxy's socket. Most commands answer nothing when they did what they should.
tell() {
  local answer
  answer=$(socat -t 5 - "UNIX-CONNECT:$cluster_dir/haproxy/socket" <<<"$1")
  if [[ -n ${answer//[$'\n ']/} && ! $answer =~ ^[[:space:]]*(IP|port|no\ need) ]]; then
    echo "haproxy: $1: $answer" >&2
    return 1
  fi
}

show() {
  # Fields of `show stat`: proxy, server, current sessions, total sessions, status, last check.
  socat -t 5 - "UNIX-CONNECT:$cluster_dir/haproxy/socket" <<<'show stat' | awk -F, '
    BEGIN { printf "%-12s %-8s %9s %9s  %s\n", "server", "state", "sockets", "so far", "check" }
    ($1 == "gateways" || $1 == "api") && $2 != "BACKEND" && $18 != "MAINT" {
      printf "%-12s %-8s %9d %9d  %s\n", $2, $18, $5, $8, $37
    }'
}

if [[ ${1:-} == show ]]; then
  show
  exit
fi
(($# >= 3)) || usage
verb=$1 service=$2 slot=$3
case $service in gateway) server=gateways/gateway$slot ;; api) server=api/api$slot ;; *) usage ;; esac
if [[ ! $slot =~ ^[0-9]+$ ]] || ((slot < 1 || slot > slots)); then
  echo "slots are 1 to $slots" >&2
  exit 2
fi

case $verb in
  add)
    address=${4:-127.0.0.1:$(service_port "$service" "$slot")}
    health=${5:-$(admin_port "$service" "$slot")}
    host=${address%:*} port=${address##*:}
    # A server that leaves maintenance counts as up until a check says otherwise.
    if ! curl -sf --max-time 3 -o /dev/null "http://$host:$health/readyz"; then
      echo "$service at $address is not ready: http://$host:$health/readyz" >&2
      exit 1
    fi
    tell "set server $server addr $host port $port"
    tell "set server $server check-port $health"
    tell "set server $server state ready"
    enter "$service" "$slot" "$host" "$port" "$health"
    ;;
  drain | ready) tell "set server $server state $verb" ;;
  remove)
    tell "set server $server state maint"
    tell "shutdown sessions server $server"
    strike "$service" "$slot"
    ;;
  *) usage ;;
esac
