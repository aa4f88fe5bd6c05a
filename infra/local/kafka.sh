#!/usr/bin/env bash
# Apache Kafka as one KRaft node that is broker and controller.
# Beside the verbs of server.sh: kafka.sh tool CLASS ARGS, for example
#   kafka.sh tool org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:29092 --list
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/server.sh"

name=kafka
dir=$local_dir/kafka
port=$kafka_port
ports=("$kafka_port" "$kafka_controller_port")
mark=$dir/conf/server.properties

# tool CLASS ARGS
tool() {
  find_java
  "$java" -Xmx256m -XX:TieredStopAtLevel=1 -cp "$dir/conf/tools:$(jar_path "$dir/libs")" "$@"
}

prepare() {
  find_java
  mkdir -p "$dir/conf/tools" "$dir/tmp"
  cp "$here/kafka/log4j2.properties" "$dir/conf/"
  sed 's/^rootLogger.level=.*/rootLogger.level=warn/' "$here/kafka/log4j2.properties" >"$dir/conf/tools/log4j2.properties"
  fill "$here/kafka/server.properties" \
    PORT="$kafka_port" CONTROLLER_PORT="$kafka_controller_port" DATA="$dir/data" >"$mark"
  if [[ ! -f $dir/data/meta.properties ]]; then
    # A cluster id is 16 random bytes in URL-safe base64; the leading letter keeps off a dash.
    tool kafka.tools.StorageTool format --config "$mark" \
      --cluster-id "N$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)" >"$dir/log" 2>&1 ||
      { fail "could not format $dir/data"; return 1; }
  fi
  command=("$java" -server -Xms512m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20
    -XX:+ExplicitGCInvokesConcurrent -XX:+PerfDisableSharedMem -XX:+ExitOnOutOfMemoryError
    -Djava.awt.headless=true "-Djava.io.tmpdir=$dir/tmp"
    -cp "$dir/conf:$(jar_path "$dir/libs")" kafka.Kafka "$mark")
}

# A metadata request (v1, no topics). The broker opens its port before it serves, and it lists itself
# only when the controller lets it: bytes 9 to 12 of the answer are the number of brokers.
answers() {
  local answer
  answer=$(ask "$port" '\0\0\0\016\0\003\0\001\0\0\0\007\377\377\0\0\0\0' 12) || return 1
  [[ $answer == ????????00000007* && ${answer:16} =~ ^0*[1-9a-f] ]]
}

if [[ ${1:-} == tool ]]; then
  shift
  tool "$@"
else
  serve "$@"
fi
