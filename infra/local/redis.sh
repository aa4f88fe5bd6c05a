#!/usr/bin/env bash
# Redis as one node.
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/server.sh"

name=redis
dir=$local_dir/redis
port=$redis_port
ports=("$redis_port")
mark=$dir/redis.conf

prepare() {
  mkdir -p "$dir/data"
  fill "$here/redis/redis.conf" PORT="$redis_port" DATA="$dir/data" >"$mark"
  command=(redis-server "$mark")
}

answers() { [[ $(ask "$port" 'PING\r\n' 5) == 2b504f4e47 ]]; } # +PONG

serve "$@"
