#!/usr/bin/env bash
# Apache Cassandra as one node.
# Beside the verbs of server.sh: cassandra.sh nodetool ARGS
set -euo pipefail
# shellcheck source=infra/local/server.sh
source "$(dirname "$0")/server.sh"

name=cassandra
dir=$local_dir/cassandra
port=$cassandra_port
ports=("$cassandra_port" "$cassandra_storage_port" "$cassandra_jmx_port")
mark=-Dcassandra.storagedir=$dir/data

nodetool() {
  find_java
  "$java" @"$here/cassandra/jvm17.options" -Xms64m -Xmx128m -XX:TieredStopAtLevel=1 \
    -cp "$dir/conf:$(jar_path "$dir/lib")" org.apache.cassandra.tools.NodeTool -p "$cassandra_jmx_port" "$@"
}

prepare() {
  find_java
  mkdir -p "$dir/conf" "$dir/tmp" "$dir/data"
  # Both files are found on the class path, under the names that are looked for by default.
  cp "$here/cassandra/logback.xml" "$dir/conf/"
  fill "$here/cassandra/cassandra.yaml" \
    PORT="$cassandra_port" STORAGE_PORT="$cassandra_storage_port" DATA="$dir/data" >"$dir/conf/cassandra.yaml"
  # One node has nobody to wait for: no gossip to settle, no ring to join.
  command=("$java" @"$here/cassandra/jvm17.options" "-javaagent:$(echo "$dir"/lib/jamm-*.jar)"
    "$mark" "-Dcassandra.logdir=$dir" "-Djava.io.tmpdir=$dir/tmp" "-Djna.tmpdir=$dir/tmp"
    -Dcassandra-foreground=yes "-Dcassandra.jmx.local.port=$cassandra_jmx_port"
    -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.ring_delay_ms=1000
    -Dcassandra.superuser_setup_delay_ms=0
    -cp "$dir/conf:$(jar_path "$dir/lib")" org.apache.cassandra.service.CassandraDaemon)
}

# An OPTIONS request of protocol v4; the answer to it is SUPPORTED, opcode 6.
answers() { [[ $(ask "$port" '\004\0\0\0\005\0\0\0\0' 5) == 8400000006 ]]; }

if [[ ${1:-} == nodetool ]]; then
  shift
  nodetool "$@"
else
  serve "$@"
fi
