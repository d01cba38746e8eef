package anomaly

import (
	"fmt"
	"strings"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

// family is a family of operating systems, as far as a fingerprint shows it.
type family uint8

const (
	unknownFamily family = iota
	windowsFamily
	linuxFamily
	appleFamily
)

var familyNames = [...]string{"unknown", "Windows", "Linux", "Apple"}

func (f family) String() string { return familyNames[f] }

// stackFamily returns whose TCP stack sends the options of a ja4t in its order.
// The published examples of the method say so for these three; everything else
// is unknown, Android being Linux.
func stackFamily(ja4t string) family {
	switch part(ja4t, 1) {
	case "2-1-3-1-1-4":
		return windowsFamily
	case "2-4-8-1-3":
		return linuxFamily
	case "2-1-3-1-1-8-4-0-0":
		return appleFamily
	}
	return unknownFamily
}

// libraryFamily returns the family of the only systems whose TLS library offers
// the ciphers of a ja4: Apple's own (Safari and what uses the system's TLS).
// Browsers that bring their own library run everywhere and say nothing; the
// ciphers of Windows' library are those of some Go programs, too.
func libraryFamily(value string) family {
	if part(value, 1) == "a09f3c656075" {
		return appleFamily
	}
	return unknownFamily
}

// judgeInconsistency finds a client whose TCP and TLS are of different systems:
// somebody imitates a client, or a proxy is between them. Behind an HTTP CONNECT
// the TLS is that of another host, so such connections are left out.
func judgeInconsistency(_ *Rule, s *tracker.Snapshot) (tracker.Anomaly, bool) {
	tcp, tls := s.History(ja4.TypeJA4T), s.History(ja4.TypeJA4)
	if tcp == nil || tls == nil || len(tcp.Events) == 0 || connects(s) {
		return tracker.Anomaly{}, false
	}
	syn := &tcp.Events[len(tcp.Events)-1]
	stack := stackFamily(syn.Value)
	if stack == unknownFamily {
		return tracker.Anomaly{}, false
	}
	for i := range tls.Events {
		hello := &tls.Events[i]
		if lib := libraryFamily(hello.Value); lib != unknownFamily && lib != stack {
			return because(fmt.Sprintf("%s speaks TLS as %s does, but TCP as %s does", s.Src, lib, stack),
				evidence(ja4.TypeJA4T, syn), evidence(ja4.TypeJA4, hello)), true
		}
	}
	return tracker.Anomaly{}, false
}

// connects reports whether the client asked a proxy for a connection.
func connects(s *tracker.Snapshot) bool {
	h := s.History(ja4.TypeJA4H)
	if h == nil {
		return false
	}
	for i := range h.Events {
		if strings.HasPrefix(h.Events[i].Value, "co") {
			return true
		}
	}
	return false
}
