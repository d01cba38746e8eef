// Package output shows values on standard output: as a table or in one line
// each for people, as JSON or CSV for programs.
//
// A Kind says how one sort of value is shown: its columns and its JSON. A
// Writer shows a sequence of values of one Kind in one Format. A Selection is
// what --fields left of them.
//
// JSON follows one set of rules wherever it is written: names as in the proto,
// in its order; 64-bit numbers as numbers; times in UTC with nine fractional
// digits; enums as short lower-case words; numbers and booleans always there,
// anything empty left out.
//
// The package holds no state, starts no goroutine and reads no clock.
package output
