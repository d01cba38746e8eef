// Package rpc holds what every gRPC connection of Whorl has in common: limits,
// keepalive, TLS, interceptors, and the rule which addresses may be spoken to
// without TLS.
//
// NewServer makes a server and DialOptions what a client dials with, so that
// the two sides of a setting stand in one place. ServerTLS and ClientTLS read
// certificates from files; a server reads them again when they change. The
// package knows no service of Whorl and keeps no state besides certificates.
package rpc
