# One local server as a process of its own: start it, wait until it answers, stop exactly it.
# Sourced by kafka.sh, cassandra.sh and redis.sh, which set
#   name, port   what it is called, and the port that its clients use
#   ports        every port that it listens on
#   mark         an argument on its command line that no other process has
#   elsewhere    if its port is not NEARCAST_<NAME>_PORT: what to run when that port is taken
# and define
#   prepare      writes the configuration and sets the array `command`
#   answers      succeeds when the server answers a request in its own protocol
# shellcheck shell=bash disable=SC2154

set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "${BASH_SOURCE[0]}")/where.sh"

# Cassandra needs 15 s on an idle machine and far longer beside a build.
start_seconds=180
stop_seconds=40

say() { printf '%-10s %s\n' "$name" "$*"; }

# running: prints the pid if the process of the pid file lives and is ours. A pid file may outlast
# its process, and the number may belong to somebody else by now.
running() {
  local pid
  pid=$(cat "$dir/pid" 2>/dev/null) || return 1
  [[ $pid =~ ^[0-9]+$ ]] && grep -zqxF -- "$mark" "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"
}

# gone PID: a process gives up its memory, and with it its command line, before its ports. A zombie
# has given up both.
gone() { ! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }

# ask PORT BYTES N: sends the bytes (printf escapes) and prints N bytes of the answer in hex.
# The limit is for a server that accepts connections and says nothing.
ask() {
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout 3 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf "$2" >&3
    head -c "$3" <&3 | od -An -v -tx1 | tr -d " \n"
  ' ask "$@" 2>/dev/null
}

# taken PORT: succeeds if something listens there.
# shellcheck disable=SC2016
taken() { timeout 3 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$1"' taken "$1" 2>/dev/null; }

# free_ports: fails, and says why, if another process holds a port that this server needs.
free_ports() {
  local p owner
  running >/dev/null && return 0
  for p in "${ports[@]}"; do
    taken "$p" || continue
    # ss may be absent, and names the owner only to who may know.
    owner=$(ss -Hltnp "sport = :$p" 2>/dev/null | grep -o 'users:.*' || true)
    say "port $p is taken by something that this did not start${owner:+: $owner}"
    say "stop that, or choose another port: ${elsewhere:-NEARCAST_${name^^}_PORT=... make up}"
    return 1
  done
}

fail() {
  say "$1"
  say "the last lines of $dir/log, without stack frames:"
  grep -vE '^[[:space:]]+(at |\.\.\. )' "$dir/log" | tail -n 15 | sed 's/^/    /'
  return 1
}

# wait_until_up PID
wait_until_up() {
  local begin=$SECONDS
  until answers; do
    ! gone "$1" || { fail "ended while starting"; return 1; }
    ((SECONDS - begin < start_seconds)) || { fail "does not answer after $start_seconds s (pid $1)"; return 1; }
    sleep 0.2
  done
}

start() {
  # Nothing of the caller's may stay open in the server: `make up | cat` waits for the last writer,
  # and a held lock would stop the next command.
  (
    for fd in /proc/"$BASHPID"/fd/*; do
      fd=${fd##*/}
      if ((fd > 2)); then exec {fd}>&-; fi
    done
    cd "$dir"
    exec setsid "${command[@]}"
  ) </dev/null >"$dir/log" 2>&1 &
  echo $! >"$dir/pid"
}

up() {
  local pid begin
  if pid=$(running); then
    if answers; then
      say "already up on 127.0.0.1:$port (pid $pid)"
      return 0
    fi
    say "runs (pid $pid) and does not answer yet: waiting"
    wait_until_up "$pid" || return 1
    say "up on 127.0.0.1:$port (pid $pid)"
    return 0
  fi
  free_ports || return 1
  mkdir -p "$dir"
  if [[ -f $dir/pid ]]; then
    say "was stopped by something else: starting it again"
    rm -f "$dir/pid"
  fi
  if [[ -f $dir/log ]]; then mv "$dir/log" "$dir/log.before"; fi
  begin=${EPOCHREALTIME/./}
  prepare
  start
  pid=$(cat "$dir/pid")
  wait_until_up "$pid" || return 1
  begin=$(((${EPOCHREALTIME/./} - begin) / 100000))
  say "up on 127.0.0.1:$port in $((begin / 10)).$((begin % 10)) s (pid $pid)"
}

down() {
  local pid begin=$SECONDS
  if ! pid=$(running); then
    rm -f "$dir/pid"
    say "not running"
    return 0
  fi
  # A process that was stopped by a signal cannot act on TERM before it goes on.
  kill -TERM "$pid" 2>/dev/null || true
  kill -CONT "$pid" 2>/dev/null || true
  until gone "$pid" || ((SECONDS - begin >= stop_seconds)); do sleep 0.1; done
  if ! gone "$pid"; then
    say "did not stop within $stop_seconds s: killing it"
    kill -KILL "$pid" 2>/dev/null || true
    until gone "$pid"; do sleep 0.1; done
  fi
  rm -f "$dir/pid"
  say "stopped (pid $pid)"
}

# status: exit code 0 if it is up, 1 if not.
status() {
  local pid
  if ! pid=$(running); then
    say "down"
    return 1
  fi
  if ! answers; then
    say "not answering on 127.0.0.1:$port (pid $pid)"
    return 1
  fi
  say "up on 127.0.0.1:$port (pid $pid)"
}

logs() {
  say "$dir/log"
  if [[ -f $dir/log ]]; then tail -n 8 "$dir/log" | sed 's/^/    /'; fi
}

# clean: wipes the data and keeps the jars.
clean() {
  if running >/dev/null; then
    say "is running: make down first"
    return 1
  fi
  rm -rf "${dir:?}/data" "$dir/log" "$dir/log.before"
  say "data wiped"
}

serve() {
  case ${1:-} in
    up | down | status | logs | clean | running) "$1" ;;
    free-ports) free_ports ;;
    *)
      echo "usage: $0 up|down|status|logs|clean|running|free-ports" >&2
      return 2
      ;;
  esac
}
