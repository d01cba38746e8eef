// Package ja4plus computes the JA4+ fingerprints other than JA4, from bytes:
// JA4S, JA4H, JA4X, JA4L, JA4LS, JA4T, JA4TS, JA4SSH, JA4D and JA4D6.
//
// The code is our own; the methods are FoxIO's and come under the FoxIO
// License 1.1 (patent pending):
// https://github.com/FoxIO-LLC/ja4/blob/main/LICENSE. It permits
// non-commercial use, internal use by a company included; selling the use of
// these methods or offering them as a service needs a licence from FoxIO. JA4
// and JA4+ are trademarks of FoxIO, LLC. A program that wants JA4 alone, which
// is under the BSD 3-Clause licence, imports package ja4 and not this one.
//
// Everything here is a function of the bytes it is given: no goroutine, no
// clock, no input or output. What keeps state between calls is bounded and
// says what it does when it is full.
package ja4plus
