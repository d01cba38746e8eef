#!/usr/bin/env bash
# Asks a collector with plain grpcurl: what anybody can do without our client.
#
#   examples/grpcurl.sh [HOST:PORT]          (default localhost:4750)
#
# It pushes two packets of a connection of its own (network "grpcurl"), asks for
# it in several ways, evicts it and reads the eviction from the feed. Each
# answer is checked with jq; the first that is wrong ends the script with 1.
set -euo pipefail

addr=${1:-localhost:4750}
grpcurl=${GRPCURL:-grpcurl}
for tool in "$grpcurl" jq; do
  command -v "$tool" >/dev/null || { echo "grpcurl.sh: $tool is not installed" >&2; exit 2; }
done

# ask METHOD [JSON]: show the call, its answer, and keep the answer in $answer.
ask() {
  printf '\n$ grpcurl -plaintext%s %s whorl.v1.%s\n' "${2:+ -d '$2'}" "$addr" "$1"
  answer=$("$grpcurl" -plaintext ${2:+-d "$2"} "$addr" "whorl.v1.$1")
  printf '%s\n' "$answer"
}

# check WHAT JQ-EXPRESSION: the last answer must satisfy it.
check() {
  if ! jq -es "$2" <<<"$answer" >/dev/null; then
    echo "grpcurl.sh: $1: the answer above does not satisfy $2" >&2
    exit 1
  fi
}

echo "\$ grpcurl -plaintext $addr list"
services=$("$grpcurl" -plaintext "$addr" list)
echo "$services"
for s in TrackerService FeedService IngestService StatusService; do
  grep -qx "whorl.v1.$s" <<<"$services" || { echo "grpcurl.sh: reflection does not name $s" >&2; exit 1; }
done

echo
echo "\$ grpcurl -plaintext $addr describe whorl.v1.TrackerService.Get"
"$grpcurl" -plaintext "$addr" describe whorl.v1.TrackerService.Get

echo
echo "\$ grpcurl -plaintext $addr grpc.health.v1.Health/Check"
answer=$("$grpcurl" -plaintext "$addr" grpc.health.v1.Health/Check)
echo "$answer"
check health '.[0].status == "SERVING"'

# A port of this run, so that the script can be run again and again.
port=$((20000 + $$ % 40000))
id="tcp/192.0.2.7:$port-198.51.100.9:443@grpcurl"

ask IngestService/Push "{\"network\":\"grpcurl\",\"idempotency_key\":\"demo-$port-$RANDOM$RANDOM\",\"flows\":[{\"src_ip\":\"192.0.2.7\",\"src_port\":$port,\"dst_ip\":\"198.51.100.9\",\"dst_port\":443,\"protocol\":\"tcp\",\"tcp_flags\":2,\"packets\":2,\"bytes\":120,\"fingerprints\":[{\"type\":\"ja4\",\"value\":\"t13d1516h2_8daaf6152771_02713d6af862\"}]}]}"
check push ".[0].acceptedFlows == 1 and .[0].connectionIds == [\"$id\"]"

ask TrackerService/Get "{\"id\":\"$id\",\"fields\":[\"id\",\"packet_count\",\"primary_fingerprint\"]}"
check 'get by id' '.[0].connection.packetCount == "2" and .[0].connection.primaryFingerprint.value == "t13d1516h2_8daaf6152771_02713d6af862"'

ask TrackerService/Get "{\"tuple\":{\"src_ip\":\"198.51.100.9\",\"src_port\":443,\"dst_ip\":\"192.0.2.7\",\"dst_port\":$port,\"protocol\":\"tcp\",\"network\":\"grpcurl\"},\"fields\":[\"id\",\"src_ip\"]}"
check 'get by tuple, other direction' ".[0].connection.id == \"$id\" and .[0].connection.srcIp == \"192.0.2.7\""

ask TrackerService/Count '{"filter":"proto:tcp network:grpcurl","group_by":["dst_port"],"limit":1}'
check 'count with group_by' '.[0].groups[0].key == ["443"]'

ask TrackerService/All '{"filter":"network:grpcurl ja4:t13d1516h2_*_02713d6af862","page_size":1,"view":"CONNECTION_VIEW_BASIC","fields":["id"]}'
check 'all' '(.[0].connections | length) <= 1 and (.[0].feedCursor | length) > 0'
cursor=$(jq -r .feedCursor <<<"$answer")
pages=1
while token=$(jq -r '.nextPageToken // empty' <<<"$answer"); [ -n "$token" ] && [ $pages -lt 20 ]; do
  ask TrackerService/All "{\"filter\":\"network:grpcurl ja4:t13d1516h2_*_02713d6af862\",\"page_size\":1,\"view\":\"CONNECTION_VIEW_BASIC\",\"fields\":[\"id\"],\"page_token\":\"$token\"}"
  check 'next page' '(.[0].connections // [] | length) <= 1'
  pages=$((pages + 1))
done

ask StatusService/FlushConnections "{\"filter\":\"network:grpcurl src.port:$port\",\"confirm\":true}"
check flush '.[0].matched == "1"'

ask FeedService/Watch "{\"after_cursor\":\"$cursor\",\"filter\":\"network:grpcurl src.port:$port\",\"no_follow\":true,\"fields\":[\"id\",\"packet_count\"]}"
check 'watch after the cursor of All' "[.[].evictions // [] | .[]] | length == 1 and .[0].cause == \"EVICTION_CAUSE_FLUSH\" and .[0].connection.id == \"$id\""

printf '\nall answers are as they should be\n'
