#!/usr/bin/env bash
# An authority of the cluster's own, and by it a certificate for localhost: once, and again when it is about to end.
# Clients trust authority.pem. edge.pem is what HAProxy reads; certificate.pem and key.pem are the same in two files.
set -euo pipefail
# shellcheck source=infra/local/where.sh
source "$(dirname "$0")/../local/where.sh"
# shellcheck source=infra/cluster/where.sh
source "$(dirname "$0")/where.sh"

dir=$cluster_dir/tls
if openssl x509 -checkend 604800 -noout -in "$dir/certificate.pem" >/dev/null 2>&1 && [[ -s $dir/edge.pem ]]; then
  exit 0
fi
mkdir -p "$dir"
chmod 700 "$dir"
cd "$dir"
# Keys are for their owner alone.
umask 077
{
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=Nearcast local cluster" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -keyout authority.key -out authority.pem
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout key.pem -out request.pem
  openssl x509 -req -in request.pem -CA authority.pem -CAkey authority.key -CAcreateserial -days 90 \
    -extfile <(printf '%s\n' subjectAltName=DNS:localhost,IP:127.0.0.1 basicConstraints=critical,CA:FALSE \
      extendedKeyUsage=serverAuth) -out certificate.pem
} >openssl.log 2>&1 || { cat openssl.log >&2; echo "no certificate was made" >&2; exit 1; }
cat certificate.pem key.pem >edge.pem
