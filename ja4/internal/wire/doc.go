// Package wire reads what TLS and QUIC have in common on the wire: vectors and
// integers (Reader), and pieces of a stream that come in any order (Assembly).
package wire
