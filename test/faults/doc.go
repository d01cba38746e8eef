// Package faults breaks things around the real binaries, under load, and counts:
// what was sent, what the feed says, what queries say. The truth is kept outside
// the system: every connection has a number, and its key, packets, bytes and
// fingerprints are functions of it.
//
// A Feeder sends connections at a known rate; an Auditor reads the feed with
// cursors, is cut off at random, and compares. A fault counts only if the load
// before it reached its floor. Everything but this page is behind the build tag
// e2e: make e2e runs a short form, make faults the long one (WHORL_FAULTS=long).
package faults
