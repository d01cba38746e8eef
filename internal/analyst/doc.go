// Package analyst says what is new and what is odd about connections.
//
// It has two halves. What a connection shows by itself (a reverse shell, a
// known-bad fingerprint, an operating system that contradicts its TLS) is
// judged on its Snapshot, by Enrich, anywhere and at any time. What only many
// connections together show (a scan, a beacon, a fingerprint that a network has
// never seen) needs memory: Take reads the ordered outputs of a tracker, one
// after the other, and keeps what it finds for each connection until it leaves.
//
// The second half is a function of the outputs and of the reloads at their
// positions: it reads no clock (each network has its own, from packet times),
// no map order and no random number, so a replay of the log finds the same. All
// that it remembers is bounded, however much is invented: see docs/anomalies.md.
//
// The package decides nothing about eviction. It knows neither gRPC nor files.
package analyst
