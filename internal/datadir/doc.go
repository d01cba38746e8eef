// Package datadir is the directory in which a collector keeps what survives it.
//
// A Dir is an open directory that nobody else has open: it holds the lock until
// Close. Its Meta says what was decided when it was made and can never change:
// the format, the numbering of the feed, the number of shards and the seed that
// chooses among them. What lies in its folders belongs to others: the log and
// the journal of the feed to package jet, rounds to package checkpoint.
package datadir
