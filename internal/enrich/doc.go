// Package enrich says what the fingerprints of a connection mean: the MSS and
// the kind of link it hints at, and what an SSH session is used for.
//
// Everything is a pure function of fingerprint values and the IP version.
// Snapshot applies them to a tracker.Snapshot and is what a collector gives to
// its tracker as the Enrich hook. A hint is a hint, never proof: it names a
// class of link, not a product.
package enrich
