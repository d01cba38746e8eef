// Package measure times cases against one another and says what came of it.
//
// A Use is what something cost: CPU time of user and kernel together, and wall
// time beside it. On a machine with other work the first is the reliable figure,
// and a ratio within one run more so: Rounds runs all cases in turn, several
// times, so that what disturbs one disturbs all. A Report holds tables of what
// was found in each round, prints them, and writes them as JSON and as Go
// benchmarks, for benchstat.
//
// It measures processes on Linux only.
package measure
