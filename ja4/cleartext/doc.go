// Package cleartext opens recorded TLS and QUIC connections with the secrets
// of one of their ends.
//
// A KeyLog holds secrets in the format that browsers and TLS libraries write
// for SSLKEYLOGFILE. A TLS or a QUIC takes the bytes of one connection as they
// were seen, finds its secrets by the random of the client hello, and hands
// over what is inside: handshake messages, application data, the streams of
// QUIC. It opens TLS 1.3 and the AEAD cipher suites of TLS 1.2 (AES-GCM,
// ChaCha20-Poly1305), and QUIC 1 and 2.
//
// It is for connections of which somebody gave the secrets away, to look at
// what they say. It breaks nothing, verifies no certificate and no signature,
// and does not prove that the bytes are from who they claim to be: whoever has
// the secrets may have made them.
//
// What a connection holds is bounded. A part that cannot be opened ends the
// work on that connection and says why; there is no way to go on behind a gap
// in TLS.
package cleartext
