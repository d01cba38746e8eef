#!/usr/bin/env bash
# Measures Whorl beside nfpcapd (nfdump), softflowd, ndpiReader, suricata and
# tshark, as far as they are installed, on the same captures in one run.
#
#   bench/peers.sh            1 M packets
#   bench/peers.sh -full      also a flood of 5 M flows
#   bench/peers.sh -rounds 6 -case '^mixed: (whorl probe --types none|nfpcapd)$'
#   bench/peers.sh -rounds 2 -case '^flood of 5: (whorl probe --types none|nfpcapd)$'
set -euo pipefail
cd "$(dirname "$0")/.."
exec go run ./bench -only peers "$@"
