package enrich

import "github.com/whorl-net/whorl/ja4/ja4plus"

// SSHSession says what a JA4SSH value suggests of its session, "" when it is not
// one. The published thresholds go first; where they say nothing, the wider rule
// for interactive sessions under ciphers with other smallest packets decides.
func SSHSession(value string) string {
	session := ja4plus.SSHSessionType(value)
	if session == ja4plus.SSHSessionUnknown && ja4plus.SSHInteractive(value) {
		return ja4plus.SSHSessionInteractive
	}
	return session
}
