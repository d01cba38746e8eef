// Package flow holds the values that travel from a probe to a tracker: the
// Tuple a packet carries, the Key that is equal for both directions of a
// connection, and the Batch of observations that is the unit everywhere.
//
// It has no goroutines, no I/O and no locks. A Batch is owned by one party at
// a time; who owns it when is said by whoever takes one.
package flow
