// Package numbered makes flows, rows and fingerprints by number, for tables that
// lie behind a probe and are filled by the million: no packets, no captures, and
// nothing that would weigh beside the table that is measured.
//
// Number n is always the same flow with the same fingerprints. What traffic on a
// link is like is a matter of package traffic.
package numbered
