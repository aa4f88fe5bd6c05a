#!/usr/bin/env bash
# Runs a command on the local stack, which is left as it was found: with-stack.sh COMMAND [ARGUMENT...]
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/where.sh"
cd "$root"

was_running=$("$here/stack.sh" running)
finish() {
  local server
  trap - EXIT
  for server in kafka cassandra redis; do
    grep -qx "$server" <<<"$was_running" || "$here/$server.sh" down &
  done
  wait
}
trap finish EXIT
"$here/stack.sh" up

# Tests and benches find the servers by these.
export NEARCAST_TEST_KAFKA=127.0.0.1:$kafka_port
export NEARCAST_TEST_REDIS=redis://127.0.0.1:$redis_port
export NEARCAST_TEST_CASSANDRA=127.0.0.1:$cassandra_port
"$@"
