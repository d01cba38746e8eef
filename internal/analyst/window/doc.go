// Package window counts what was seen of many keys within a time: how often
// (Counts), how many different elements (Distinct), how regularly (Rhythm).
//
// Each keeps a bounded number of keys in a cache of fixed size. Where a new key
// finds its place taken, the key that was unused for longest leaves, those seen
// once before those seen more often, and is counted. Keys are 64-bit hashes
// made with a Seed, which must be secret: who knows it can aim at one place.
//
// Time is an argument, in Unix nanoseconds, and goes back a little when packets
// come late. All state is a function of the calls: there is no clock, no map and no random
// number, and Save writes the same bytes for the same state. Nothing here is
// safe for concurrent use.
package window
