#!/usr/bin/env bash
# Measures Whorl beside nfpcapd (nfdump), softflowd, ndpiReader, suricata and
# tshark, as far as they are installed, on the same captures in one run.
#
#   bench/peers.sh            1 M packets
#   bench/peers.sh -full      the flood has 5 M flows
set -euo pipefail
cd "$(dirname "$0")/.."
exec go run ./bench -only peers "$@"
