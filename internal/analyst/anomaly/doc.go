// Package anomaly holds the rules that say what is odd, and applies them.
//
// There are two kinds. A connection rule looks at one connection as it is known
// (a Snapshot) and at nothing else: Rules.Judge. A stream rule counts over many
// connections within a time: an Engine is given the events of a tracker in the
// order of the log and says which of them crosses a threshold. A rule is built
// in or comes from a file (Load); both are data of the same type.
//
// Rules never change once they are made and may be used by any goroutine; an
// Engine belongs to one. Nothing here reads a clock, and every decision is a
// function of the events and the rules. Anomalies that an allowlist silences
// are counted, never dropped in silence.
package anomaly
