// Package wire turns what Whorl keeps in memory into what whorl.v1 says on the
// wire, and back, by hand where it is hot: batches of probes, connections and
// evictions.
//
// The bytes are those of the generated code, to the bit; only the way to them
// is shorter. A batch is decoded into memory that is used again, a connection
// is encoded from a Snapshot without a message in between. Everything that comes
// from outside is checked here once, and the error names the field.
//
// The package holds no state but pools. It does not know who is allowed to send
// what: that is service's.
package wire
