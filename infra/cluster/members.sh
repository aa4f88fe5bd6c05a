# Which gateways and APIs the balancer knows, in a file, so that it knows them after a restart too.
# A line: service, slot, host, port, port for health. Sourced after where.sh.
# shellcheck shell=bash disable=SC2154

members=$cluster_dir/members

# first_members: two of each, where nothing else was said before.
first_members() {
  local service ordinal
  [[ -f $members ]] && return 0
  for service in gateway api; do
    for ordinal in 1 2; do enter "$service" "$ordinal" 127.0.0.1 "$(service_port "$service" "$ordinal")" "$(admin_port "$service" "$ordinal")"; done
  done
}

# member SERVICE SLOT: prints host, port and port for health.
member() { awk -v s="$1" -v n="$2" '$1 == s && $2 == n { print $3, $4, $5; found = 1 } END { exit !found }' "$members"; }

# slots_of SERVICE: prints the slots in use.
slots_of() { awk -v s="$1" '$1 == s { print $2 }' "$members"; }

# strike SERVICE SLOT
strike() {
  awk -v s="$1" -v n="$2" '!($1 == s && $2 == n)' "$members" >"$members.new"
  mv "$members.new" "$members"
}

# enter SERVICE SLOT HOST PORT HEALTH
enter() {
  touch "$members"
  strike "$1" "$2"
  echo "$*" >>"$members"
}
