#!/usr/bin/env bash
# One of the three Kafka brokers, each a controller too: kafka.sh 1|2|3 VERB, with the verbs of server.sh.
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/../local/server.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"

node=$1
shift
name=kafka-$node
dir=$cluster_dir/$name
port=$(kafka_port "$node")
ports=("$port" $((port + 1)))
mark=$dir/conf/server.properties

# One id for all three; whoever comes first makes it.
cluster_id() {
  (
    flock 8
    # 16 random bytes in URL-safe base64; the leading letter keeps off a dash.
    [[ -s $cluster_dir/kafka.id ]] ||
      echo "N$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)" >"$cluster_dir/kafka.id"
    cat "$cluster_dir/kafka.id"
  ) 8>"$cluster_dir/kafka.id.lock"
}

prepare() {
  local voters=() broker jars=$local_dir/kafka/libs
  find_java
  mkdir -p "$dir/conf" "$dir/tmp"
  cp "$here/kafka/log4j2.properties" "$dir/conf/"
  for broker in "${brokers[@]}"; do voters+=("$broker@127.0.0.1:$(($(kafka_port "$broker") + 1))"); done
  fill "$cluster/server.properties" NODE="$node" PORT="$port" CONTROLLER_PORT=$((port + 1)) \
    VOTERS="$(joined %s "${voters[@]}")" DATA="$dir/data" >"$mark"
  if [[ ! -f $dir/data/meta.properties ]]; then
    "$java" -Xmx128m -XX:TieredStopAtLevel=1 -cp "$dir/conf:$(jar_path "$jars")" kafka.tools.StorageTool format \
      --config "$mark" --cluster-id "$(cluster_id)" >"$dir/log" 2>&1 || { fail "could not format $dir/data"; return 1; }
  fi
  command=("$java" -server -Xms256m -Xmx384m -XX:+UseG1GC -XX:MaxGCPauseMillis=20
    -XX:+ExplicitGCInvokesConcurrent -XX:+PerfDisableSharedMem -XX:+ExitOnOutOfMemoryError
    -Djava.awt.headless=true "-Djava.io.tmpdir=$dir/tmp"
    -cp "$dir/conf:$(jar_path "$jars")" kafka.Kafka "$mark")
}

# A metadata request (v1, no topics) as in ../local/kafka.sh. A broker lists itself when the controllers let it, and not
# before that a topic can have a copy on it: its number, then 9 bytes of host. Each broker in the answer has 27 bytes.
answers() {
  local question='\0\0\0\016\0\003\0\001\0\0\0\007\377\377\0\0\0\0' answer
  answer=$(ask "$port" "$question" 12) || return 1
  [[ $answer == ????????00000007???????? ]] || return 1
  answer=$(ask "$port" "$question" $((12 + 27 * 16#${answer:16}))) || return 1
  [[ $answer == *"$(printf '%08x0009' "$node")3132372e302e302e31"* ]]
}

serve "$@"
