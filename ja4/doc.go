// Package ja4 computes JA4, the fingerprint of a TLS, QUIC or DTLS client
// hello, from bytes.
//
// JA4 was published by FoxIO under the BSD 3-Clause licence. Nothing in this
// package or in what it imports implements a method under the FoxIO License
// 1.1: those live in package ja4plus, so that a program can import JA4 alone.
// The package also names all fingerprint types and parses fingerprints into
// their parts, which needs no method.
//
// It depends on the standard library only, keeps no state between calls and
// starts no goroutine.
package ja4
