package main

import (
	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/decode"
)

// remarkCapture says, behind prefix, what kept packets of a capture from giving
// all they could: fingerprints says whether any were wanted.
func (c *console) remarkCapture(prefix string, t *probe.Totals, fingerprints bool) {
	if n := t.Decode.Verdicts[decode.UnknownLink]; n > 0 {
		verb := "have"
		if n == 1 {
			verb = "has"
		}
		c.say("%s%s %s a link type that is not supported: %s", prefix, output.Plural(n, "packet"), verb, t.Decode.UnknownLink.Label())
	}
	if t.Cut > 0 && fingerprints {
		verb := "were"
		if t.Cut == 1 {
			verb = "was"
		}
		c.say("%s%s %s cut by the snap length of the capture: fingerprints may be missing", prefix, output.Plural(t.Cut, "packet"), verb)
	}
}

// remarkSecrets says that the file of --keylog, which has been read, helps
// nobody, or not yet when it is followed.
func (c *console) remarkSecrets(keylog string, secrets *cleartext.KeyLog, followed bool) {
	if keylog == "" || secrets == nil || secrets.Connections() > 0 {
		return
	}
	if followed {
		c.say("--keylog: %s holds no TLS secret yet", keylog)
		return
	}
	c.say("--keylog: %s holds no TLS secret; want lines of SSLKEYLOGFILE, such as CLIENT_RANDOM and two hexadecimal numbers", keylog)
}
