#!/usr/bin/env bash
# setup.sh [build|stack|cluster|tools|fuzz]: what a bare Debian 12 lacks.
#   build   what compiles Nearcast: cargo, gcc, make
#   stack   what runs the local stack: a JDK 17, Redis, the jars of Kafka and Cassandra
#   cluster what runs the local cluster: the same, a balancer and openssl
#   tools   what `make check` needs besides: cargo-deny, cargo-machete
#   fuzz    what `make fuzz` needs besides: cargo-fuzz
# Without a word: build and cluster, and what the tests need besides, with the libraries of the test's clients. Quick when nothing is missing.
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/where.sh"

cargo_deny_version=0.20.2
cargo_fuzz_version=0.13.2
cargo_machete_version=0.9.2
rust_version=1.95

packages=()
# need COMMAND PACKAGE...
need() { command -v "$1" >/dev/null || packages+=("${@:2}"); }

build_packages() {
  # gcc only recommends the C headers. librdkafka is built by configure and make, with gcc and g++.
  need gcc gcc libc6-dev
  need g++ g++
  need make make
  need pkg-config pkg-config
  need python3 python3
  need curl curl
}

stack_packages() {
  find_java || packages+=(openjdk-17-jdk-headless)
  need mvn maven
  need redis-server redis-server
  need redis-cli redis-tools
}

cluster_packages() {
  stack_packages
  # Debian puts it where only root's path leads.
  if [[ ! -x /usr/sbin/haproxy ]]; then need haproxy haproxy; fi
  need openssl openssl
  need socat socat
}

# Recordings for the simulated phones come from a Python package, the README's session uses an npm one; tests/clients.sh
# has clients in both, and one in a browser.
test_packages() {
  need pip3 python3-pip
  need npx npm
  need chromium chromium
}

# Debian starts a server that it installs. policy-rc.d is its own way of saying no; whatever was there
# before comes back.
forbid_starts() {
  local policy=/usr/sbin/policy-rc.d
  if [[ -e $policy ]]; then mv "$policy" "$policy.before-nearcast"; fi
  # shellcheck disable=SC2064  # the path is known now
  trap "rm -f '$policy'; if [[ -e '$policy.before-nearcast' ]]; then mv '$policy.before-nearcast' '$policy'; fi" EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
}

install_packages() {
  ((${#packages[@]})) || return 0
  local install=(apt-get install -y --no-install-recommends "${packages[@]}")
  if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
    echo "missing on this machine: ${packages[*]}" >&2
    echo "install them with: sudo apt-get update && sudo ${install[*]}" >&2
    exit 1
  fi
  echo "installing ${packages[*]}"
  (
    export DEBIAN_FRONTEND=noninteractive
    forbid_starts
    # Old lists may do; what they cannot install is told by the next command.
    apt-get update -qq || true
    "${install[@]}" -qq || exit 1
    # Nor at the next boot. Only ours: what was there before is not in the list.
    for service in redis-server haproxy; do
      if [[ " ${packages[*]} " == *" $service "* && -d /run/systemd/system ]]; then
        systemctl disable --quiet "$service"
      fi
    done
  ) >"$local_dir/apt.log" 2>&1 || {
    tail -n 15 "$local_dir/apt.log" >&2
    echo "could not install by apt; the whole output is in $local_dir/apt.log. The command was: ${install[*]}" >&2
    exit 1
  }
}

check_cargo() {
  local version
  if ! version=$(cargo --version 2>/dev/null | cut -d' ' -f2) || [[ -z $version ]]; then
    echo "missing on this machine: cargo, Rust $rust_version or later" >&2
    echo "install it with: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y" >&2
    exit 1
  fi
  if [[ $(printf '%s\n' "$rust_version" "$version" | sort -V | head -n 1) != "$rust_version" ]]; then
    echo "cargo $version is too old: Nearcast needs Rust $rust_version or later" >&2
    echo "update it with: rustup update stable" >&2
    exit 1
  fi
}

# jars SERVER DIR: once for each content of the pom. They come into a directory of their own first, so
# that an interrupted download is not taken for a whole one.
jars() {
  local pom=$here/$1/pom.xml to=$local_dir/$1/$2 stamp tries
  stamp=$(sha256sum <"$pom")
  [[ $(cat "$to/.stamp" 2>/dev/null) == "$stamp" ]] && return 0
  echo "fetching the jars of $1 from Maven Central"
  rm -rf "$to" "$to.part"
  mkdir -p "$to.part"
  for tries in 2 1 0; do
    JAVA_HOME=${java%/bin/java} mvn -B -q -Dstyle.color=never -f "$pom" \
      org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$to.part" >"$local_dir/maven.log" 2>&1 && break
    if ((tries == 0)); then
      tail -n 15 "$local_dir/maven.log" >&2
      echo "could not fetch the jars of $1; the whole output is in $local_dir/maven.log" >&2
      exit 1
    fi
    sleep 3
  done
  echo "$stamp" >"$to.part/.stamp"
  mv "$to.part" "$to"
}

# cargo_tool NAME VERSION: uses one on the path if it has this very version. The builds share a target
# directory, and are not optimised much: they run for a second.
cargo_tool() {
  local program
  for program in "$local_dir/tools/bin/$1" "$1"; do
    if [[ $("$program" --version 2>/dev/null) =~ (^|[ v])"$2"$ ]]; then return 0; fi
  done
  echo "installing $1 $2 (some minutes, once)"
  CARGO_TARGET_DIR=$local_dir/tools/target CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    cargo install --quiet --locked --root "$local_dir/tools" --version "$2" "$1"
}

# fetched DIR NAME FILE COMMAND...: runs a command that fills a directory with what FILE asks for, once for each content.
fetched() {
  local to=$1 name=$2 stamp
  stamp=$(sha256sum <"$3")
  [[ $(cat "$to/.stamp" 2>/dev/null) == "$stamp" ]] && return 0
  echo "fetching $name for tests/clients.sh"
  rm -rf "$to"
  "${@:4}" >"$local_dir/clients.log" 2>&1 || {
    tail -n 15 "$local_dir/clients.log" >&2
    echo "could not fetch $name; the whole output is in $local_dir/clients.log" >&2
    exit 1
  }
  echo "$stamp" >"$to/.stamp"
}

# The libraries of the clients. --target keeps Python's away from the system's own.
clients() {
  local from=$root/tests/clients
  fetched "$local_dir/clients/python" "Python packages" "$from/requirements.txt" \
    pip3 install --no-input --disable-pip-version-check --target "$local_dir/clients/python" -r "$from/requirements.txt"
  fetched "$from/node_modules" "npm packages" "$from/package-lock.json" \
    npm ci --prefix "$from" --no-audit --no-fund
}

what=${1:-all}
case $what in
  all | build | stack | cluster | tools | fuzz) ;;
  *)
    echo "usage: $0 [build|stack|cluster|tools|fuzz]" >&2
    exit 2
    ;;
esac

# Two set-ups at once would fetch everything twice, and apt has a lock of its own.
exec 9>"$local_dir/setup.lock"
flock -w 1800 9

if [[ $what != stack ]]; then build_packages; fi
if [[ $what == stack ]]; then stack_packages; fi
if [[ $what == all || $what == cluster ]]; then cluster_packages; fi
if [[ $what == all ]]; then test_packages; fi
install_packages
if [[ $what == all || $what == stack || $what == cluster ]]; then
  find_java || { echo "no JDK 17 found, in JAVA_HOME, under /usr/lib/jvm or on the path" >&2; exit 1; }
  jars kafka libs
  jars cassandra lib
fi
if [[ $what == all ]]; then clients; fi
if [[ $what != stack ]]; then check_cargo; fi
if [[ $what == tools ]]; then
  cargo_tool cargo-deny "$cargo_deny_version"
  cargo_tool cargo-machete "$cargo_machete_version"
  rm -rf "$local_dir/tools/target"
fi
if [[ $what == fuzz ]]; then
  cargo_tool cargo-fuzz "$cargo_fuzz_version"
  rm -rf "$local_dir/tools/target"
fi
