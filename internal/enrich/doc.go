// Package enrich says what the fingerprints of a connection mean: who is known
// for them, the MSS and the kind of link it hints at, and what an SSH session is
// used for.
//
// A Table is one file of Entries: fingerprints, alone or in combination, and the
// application or the malware they are known for. Tables are all files together,
// compiled and never changed; an Enricher has those in force, swaps them as a
// whole on Reload, and is what a collector gives to its tracker as the Enrich
// hook.
//
// Everything is a pure function of fingerprint values, the IP version and the
// tables in force: what it says decides nothing about which connections are
// tracked. A hint is a hint, never proof: an MSS names a class of link, a
// fingerprint what it is known for.
package enrich
