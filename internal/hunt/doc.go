// Package hunt searches the past when tables of known fingerprints change.
//
// A Hunter is given each change of an enrich.Enricher. When entries that condemn
// were added it walks the live connections of a tracker and the evictions that a
// feed.Journal holds, and appends a Discovery to the feed for each connection
// that matches one of them and that the tables of before did not condemn.
//
// It works in pages and rests in between, so that it takes a stated share of one
// processor; it runs one hunt at a time, and what a hunt may announce is bounded.
package hunt
