// Package handshake finds fingerprints in decoded packets.
//
// An Engine keeps a small state for every conversation it sees (a flow, by
// canonical 5-tuple), puts TCP segments back in order as long as there may be
// something to fingerprint, recognises TLS, HTTP/1, HTTP/2, SSH, QUIC, DTLS and
// DHCP by content, and hands their bytes to package ja4 and ja4plus. What it
// yields are Events: a fingerprint, the time and number of the packet that
// completed it, and the connection from client to server.
//
// An Engine belongs to one goroutine. Everything an outsider can grow is
// bounded by Config, and Stats counts what was given up, by reason. An engine
// reads no clock: time is packet time. It knows nothing of capture files,
// batches or who listens.
package handshake
