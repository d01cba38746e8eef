#!/usr/bin/env bash
# The whole way in a minute: starts a collector, replays the sample capture
# through a probe in another process over gRPC, and shows what came of it:
# connections, fingerprints, evictions. Stops the collector at the end.
#
#   examples/demo.sh [WHORL] [HOST:PORT]     (default bin/whorl 127.0.0.1:4750)
set -euo pipefail

whorl=${1:-bin/whorl}
addr=${2:-127.0.0.1:4750}
here=$(cd "$(dirname "$0")" && pwd)

log=$(mktemp)
bold=''
plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
  bold=$'\033[1m'
  plain=$'\033[0m'
fi
say() { printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"; }
show() { say "whorl $*"; "$whorl" "$@"; }

pid=
trap 'if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; fi; rm -f "$log"' EXIT

# start ADDR ADMIN: a collector there. 1 when it ends at once: see $log.
start() {
  "$whorl" collector --listen "$1" --admin-listen "$2" --durability memory 2>"$log" &
  pid=$!
  for _ in $(seq 1000); do
    if grep -q 'collector on' "$log"; then return 0; fi
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.05
  done
  return 1
}

say "whorl collector &"
if ! start "$addr" 127.0.0.1:9750; then
  # Somebody has these ports, a collector of yours perhaps: any others will do.
  grep -q 'in use' "$log" || { cat "$log" >&2; exit 1; }
  sed -n '1s/^whorl: /(/;1s/$/: taking another)/p' "$log"
  start 127.0.0.1:0 127.0.0.1:0 || { cat "$log" >&2; exit 1; }
fi
cat "$log"
WHORL_COLLECTOR=$(sed -n 's/^collector on \([^ ,]*\).*/\1/p' "$log")
export WHORL_COLLECTOR

show probe -r "$here/sample/sample.pcap" --network sample
show list -o table network:sample
show count -o table --by ja4 --top 5 'ja4:*'
show fp -o table --types ja4,ja4s,ja4t,ja4ssh "$here/sample/sample.pcap"
show flush --yes network:sample
show watch -o table --oldest --no-follow network:sample
show status -o table
printf '\nThat was a whole collector. Start one to keep:  bin/whorl collector\n'
