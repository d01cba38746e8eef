// Package handshake finds fingerprints in decoded packets.
//
// An Engine keeps a small state for every conversation it sees (a flow, by
// canonical 5-tuple), puts TCP segments back in order as long as there may be
// something to fingerprint, recognises TLS, HTTP/1, HTTP/2, SSH, QUIC, DTLS and
// DHCP by content, and hands their bytes to package ja4 and ja4plus. What it
// yields are Events: a fingerprint, the time and number of the packet that
// completed it, and the connection from client to server.
//
// Beside what is in clear, an Engine looks inside the TLS and QUIC connections
// whose secrets it was given (Config.Secrets, package cleartext): requests of
// HTTP/1, HTTP/2 and HTTP/3, certificates of TLS 1.3. That adds fingerprints
// and changes none of the others. Certificates may be compressed (RFC 8879). It
// does not read requests of HTTP/3 that refer to the dynamic table of
// QPACK, CBC cipher suites, renegotiated connections, DTLS, and connections
// with a hole in what was captured.
//
// An Engine belongs to one goroutine. Everything an outsider can grow is
// bounded by Config, and Stats counts what was given up, by reason. An engine
// reads no clock: time is packet time. It knows nothing of capture files,
// batches or who listens.
package handshake
