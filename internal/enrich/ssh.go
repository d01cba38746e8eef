package enrich

import "github.com/whorl-net/whorl/ja4/ja4plus"

// SSHSession says what a JA4SSH value suggests of its session by the published
// thresholds, "" when it is not one. Where they say nothing, which session names
// as such, hint is what our wider rule for interactive sessions under ciphers
// with other smallest packets says; it is "" otherwise.
func SSHSession(value string) (session, hint string) {
	session = ja4plus.SSHSessionType(value)
	if session == ja4plus.SSHSessionUnknown && ja4plus.SSHInteractive(value) {
		hint = ja4plus.SSHSessionInteractive
	}
	return session, hint
}
