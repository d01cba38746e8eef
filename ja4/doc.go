// Package ja4 computes JA4, the fingerprint of a TLS, QUIC or DTLS client
// hello, from bytes.
//
// ClientHello parses one hello; TLSClientHello, QUICClientHello and
// DTLSClientHello find it in a few bytes at hand. For whole connections there
// are TLSStream, QUICFlow and DTLSStream: they take what one direction or one
// flow carries, in pieces as they come, and call back for each handshake
// message in clear, a server's too. They bound what they hold, say when they
// are done, and never panic, whatever they are given.
//
// JA4 was published by FoxIO under the BSD 3-Clause licence. Nothing in this
// package or in what it imports implements a method under the FoxIO License
// 1.1: those live in package ja4plus, so that a program can import JA4 alone.
// The package also names all fingerprint types and parses fingerprints into
// their parts, which needs no method.
//
// It depends on the standard library only, has no state of its own, reads no
// clock and starts no goroutine.
package ja4
