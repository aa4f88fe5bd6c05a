#!/usr/bin/env bash
# Three clients, written from docs/protocol.md and docs/asyncapi.yaml alone, play whole sessions with a deployment of
# their own on the local stack: Python's websockets, npm's ws, and headless Chromium. `make setup` installs them.
# The last line is `N passed, N failed`.
set -uo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/../infra/local/where.sh"
cd "$root" || exit 1

scratch=$(mktemp -d)
nearcast=${CARGO_TARGET_DIR:-target}/debug/nearcast
started=()
passed=0
failed=0

finish() {
  trap - EXIT
  kill "${started[@]}" 2>/dev/null
  wait
  "$root/infra/local/kafka.sh" tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$NEARCAST_KAFKA__BOOTSTRAP" \
    --delete --if-exists --topic "$NEARCAST_DEPLOYMENT__PREFIX\\..*" >/dev/null 2>&1
  rm -rf "$scratch"
}
trap finish EXIT

# give_up TEXT LOG: without a server there is nothing to test.
give_up() {
  echo "FAILED  $1"
  tail -n 20 "$2"
  echo "$passed passed, $((failed + 1)) failed"
  exit 1
}

# Free ports, held together for a moment so that they differ.
mapfile -t ports < <(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
for one in sockets:
    print(one.getsockname()[1])')
export NEARCAST_API=http://127.0.0.1:${ports[0]}
export NEARCAST_WS=ws://127.0.0.1:${ports[1]}/v1/ws NEARCAST_WSS=wss://localhost:${ports[2]}/v1/ws
export NEARCAST_AUTHORITY=$scratch/authority.pem NEARCAST_PAGE_PORT=${ports[3]}
# Tokens are signed by the clients, as an identity provider would do.
export NEARCAST_AUTH__HS256_SECRET="only the clients of this test know it: $RANDOM$RANDOM$RANDOM"

# The certificate of the gateway that speaks TLS, by an authority that only the clients trust.
(
  cd "$scratch" || exit 1
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=Nearcast's clients" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -keyout authority.key -out authority.pem &&
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key.pem -out request.pem &&
    openssl x509 -req -in request.pem -CA authority.pem -CAkey authority.key -CAcreateserial -days 2 \
      -extfile <(printf '%s\n' subjectAltName=DNS:localhost basicConstraints=critical,CA:FALSE \
        extendedKeyUsage=serverAuth) -out certificate.pem
) >"$scratch/openssl.log" 2>&1 || give_up "no certificate was made" "$scratch/openssl.log"

export NEARCAST_DEPLOYMENT__PREFIX
NEARCAST_DEPLOYMENT__PREFIX=clients$(date +%s%N | tail -c 10)
# Few partitions: this deployment is small.
export NEARCAST_TOPICS__LOCATIONS_PARTITIONS=4 NEARCAST_TOPICS__VISIBILITY_PARTITIONS=4
export NEARCAST_KAFKA__BOOTSTRAP=${NEARCAST_TEST_KAFKA:-127.0.0.1:$kafka_port}
export NEARCAST_REDIS__NODES=${NEARCAST_TEST_REDIS:-redis://127.0.0.1:$redis_port}
# What is unchanged is known to be so only while Redis answers.
export NEARCAST_REDIS__TIMEOUT=10s
export NEARCAST_CASSANDRA__NODES=${NEARCAST_TEST_CASSANDRA:-127.0.0.1:$cassandra_port}
# The clients wait for digests.
export NEARCAST_FANOUT__DIGEST_EVERY=1s
export NEARCAST_API__LISTEN=127.0.0.1:${ports[0]} NEARCAST_GATEWAY__API_URL=$NEARCAST_API
# The browser's page signs out.
export NEARCAST_API__CORS_ORIGINS=http://127.0.0.1:$NEARCAST_PAGE_PORT
export NEARCAST_FANOUT__ADMIN_LISTEN=127.0.0.1:${ports[4]} NEARCAST_HISTORY_SINK__ADMIN_LISTEN=127.0.0.1:${ports[5]}

# serve NAME ADMIN_PORTS COMMAND...: runs a process and waits until each of the ports says that it is ready.
serve() {
  local name=$1 log=$scratch/$1.log admin=$2 port
  "$nearcast" "${@:3}" >"$log" 2>&1 </dev/null &
  started+=($!)
  for port in $admin; do
    curl -s --retry 90 --retry-delay 1 --retry-all-errors --fail -o "$scratch/ready" "http://127.0.0.1:$port/readyz" ||
      give_up "$name is not ready on port $port" "$log"
  done
}

cargo build --quiet -p nearcast 2>"$scratch/build.log" || give_up "nearcast does not build" "$scratch/build.log"
serve all "${ports[0]} ${ports[4]} ${ports[6]}" all \
  --set gateway.listen="127.0.0.1:${ports[1]}" --set gateway.admin_listen="127.0.0.1:${ports[6]}"
serve tls "${ports[7]}" gateway --set gateway.id=tls \
  --set gateway.listen="127.0.0.1:${ports[2]}" --set gateway.admin_listen="127.0.0.1:${ports[7]}" \
  --set gateway.tls_certificate="$scratch/certificate.pem" --set gateway.tls_key="$scratch/key.pem"
# The last client sends this one away.
export NEARCAST_WSS_PID=${started[1]}

# client COMMAND...: adds up what it says in its last line.
client() {
  local sum
  "$@" 2>&1 | tee "$scratch/client.log"
  sum=$(tail -n 1 "$scratch/client.log")
  if [[ $sum =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed$ ]]; then
    passed=$((passed + BASH_REMATCH[1]))
    failed=$((failed + BASH_REMATCH[2]))
  else
    echo "FAILED  $*: ended before its sum"
    failed=$((failed + 1))
  fi
}
client node tests/clients/browser.mjs
client node tests/clients/session.mjs
client env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$local_dir/clients/python" python3 tests/clients/session.py

if ((failed > 0)); then
  grep -hE ' (WARN|ERROR) ' "$scratch"/{all,tls}.log | tail -n 20
fi
echo "$passed passed, $failed failed"
((failed == 0))
