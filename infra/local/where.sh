# Where everything of the local stack is. Sourced by the other scripts.
# shellcheck shell=bash disable=SC2034  # the variables are for whoever sources this

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
root=$(cd "$here/../.." && pwd -P)

# Physical paths, because a process is recognised by the path on its command line.
mkdir -p "${NEARCAST_LOCAL:-$root/.local}"
local_dir=$(cd "${NEARCAST_LOCAL:-$root/.local}" && pwd -P)

# The inner ports follow the outer ones, so that three overrides move a whole stack.
kafka_port=${NEARCAST_KAFKA_PORT:-29092}
kafka_controller_port=$((kafka_port + 1))
cassandra_port=${NEARCAST_CASSANDRA_PORT:-29042}
cassandra_storage_port=$((cassandra_port + 28))
cassandra_jmx_port=$((cassandra_port + 157))
redis_port=${NEARCAST_REDIS_PORT:-26379}

# find_java: sets `java` to the launcher of a JDK 17, the only one that Cassandra 5.0 supports.
# It reads the release file, because a JVM takes too long to start for a question.
find_java() {
  local home
  java=
  for home in "${JAVA_HOME:-}" /usr/lib/jvm/*17* "$(readlink -f "$(command -v java)" | sed 's#/bin/java$##')"; do
    if [[ -x $home/bin/java ]] && grep -q '^JAVA_VERSION="17[."]' "$home/release" 2>/dev/null; then
      java=$home/bin/java
      return 0
    fi
  done
  return 1
}

# fill TEMPLATE NAME=VALUE...: prints the template with every @NAME@ replaced.
fill() {
  local text pair
  text=$(<"$1")
  shift
  for pair in "$@"; do
    text=${text//"@${pair%%=*}@"/"${pair#*=}"}
  done
  printf '%s\n' "$text"
}

# jar_path DIR: the jars of a directory as a class path, sorted, so that it is the same everywhere.
jar_path() { printf '%s\n' "$1"/*.jar | LC_ALL=C sort | paste -sd:; }
