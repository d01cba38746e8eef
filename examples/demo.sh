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
export WHORL_COLLECTOR=$addr

log=$(mktemp)
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
show() { say "whorl $*"; "$whorl" "$@"; }

say "whorl collector &"
"$whorl" collector --listen "$addr" --durability memory 2>"$log" &
pid=$!
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -f "$log"' EXIT
for _ in $(seq 100); do
  grep -q 'collector on' "$log" && break
  kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; exit 1; }
  sleep 0.05
done
cat "$log"

show probe -r "$here/sample/sample.pcap" --network sample
show list -o table network:sample
show count -o table --by ja4 --top 5 'ja4:*'
show fp -o table --types ja4,ja4s,ja4t,ja4ssh "$here/sample/sample.pcap"
show flush --yes network:sample
show watch -o table --oldest --no-follow network:sample
show status -o table
printf '\nThat was a whole collector. Start one to keep:  bin/whorl collector\n'
