// Package config reads the configuration file of the whorl command.
//
// A File has one section per command, with keys spelled like the flags of the
// command; the section client holds what every command that talks to a
// collector uses. Everything is checked against the flags there are: an unknown
// section or key is an error that names the line and, when one is near, what was
// probably meant. What a value means is the flag's to say.
//
// A File stands below flags and environment variables and above defaults.
package config
