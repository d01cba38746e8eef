package main

import (
	"strings"

	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/ja4"
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
	if n := t.LengthsRefused; n > 0 {
		c.say("%s%s said to be longer than any link carries: counted as long as what was captured", prefix, output.Plural(n, "packet"))
	}
	if t.Cut > 0 && fingerprints {
		verb := "were"
		if t.Cut == 1 {
			verb = "was"
		}
		c.say("%s%s %s cut by the snap length of the capture: fingerprints may be missing", prefix, output.Plural(t.Cut, "packet"), verb)
	}
}

// remarkRefused says that the collector drops fingerprints that are computed
// here.
func (c *console) remarkRefused(f *captureFlags, types []string) {
	set, err := f.set()
	if err != nil {
		return
	}
	var dropped []string
	for _, name := range types {
		if t, err := ja4.ParseType(name); err == nil && set.Has(t) {
			dropped = append(dropped, name)
		}
	}
	if len(dropped) > 0 {
		c.say("the collector keeps no JA4+ (it runs with --ja4plus=false): it drops and counts %s; with --ja4plus=false here they are not computed",
			strings.Join(dropped, ", "))
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
