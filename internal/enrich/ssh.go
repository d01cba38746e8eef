package enrich

import (
	"strconv"
	"strings"
)

// SSHWindow is a JA4SSH value taken apart: per direction the most frequent
// payload length, the number of SSH packets, and the number of bare ACKs.
type SSHWindow struct {
	ClientMode, ServerMode       int
	ClientPackets, ServerPackets int
	ClientACKs, ServerACKs       int
}

// ParseSSH reads a JA4SSH value such as c36s36_c51s80_c69s0 and reports whether
// it is one.
func ParseSSH(value string) (w SSHWindow, ok bool) {
	modes, rest, ok1 := strings.Cut(value, "_")
	packets, acks, ok2 := strings.Cut(rest, "_")
	if !ok1 || !ok2 {
		return SSHWindow{}, false
	}
	ok1 = parsePair(modes, &w.ClientMode, &w.ServerMode)
	ok2 = parsePair(packets, &w.ClientPackets, &w.ServerPackets)
	ok3 := parsePair(acks, &w.ClientACKs, &w.ServerACKs)
	if !ok1 || !ok2 || !ok3 {
		return SSHWindow{}, false
	}
	return w, true
}

// parsePair reads c{client}s{server}.
func parsePair(s string, client, server *int) bool {
	s, ok := strings.CutPrefix(s, "c")
	if !ok {
		return false
	}
	c, v, ok := strings.Cut(s, "s")
	return ok && parseNumber(c, client) && parseNumber(v, server)
}

func parseNumber(s string, n *int) bool {
	v, err := strconv.ParseUint(s, 10, 31)
	*n = int(v)
	return err == nil && s[0] != '+'
}

// What an SSH session is used for, judged by one window.
const (
	SSHInteractive = "Interactive SSH Session"
	SSHReverse     = "Reverse SSH Session"
	SSHDownload    = "SSH File Transfer"
	SSHUpload      = "SSH File Transfer (Upload)"
	SSHUnknown     = "Unknown"
)

// SSHSession says what a JA4SSH value tells of its session, "" when it is not
// one. The thresholds fit full windows of 200 packets. Where the reference
// rules say nothing, one of our own recognises interactive sessions under
// ciphers with other minimum packet sizes.
func SSHSession(value string) string {
	w, ok := ParseSSH(value)
	if !ok {
		return ""
	}
	if t := w.reference(); t != SSHUnknown {
		return t
	}
	if w.looksTyped() {
		return SSHInteractive
	}
	return SSHUnknown
}

// reference holds the published thresholds: 36 bytes is the smallest padded
// packet under chacha20-poly1305, 76 one shell inside another, and the side
// that types sends the ACKs.
func (w SSHWindow) reference() string {
	switch {
	case w.ClientMode == 36 && w.ServerMode == 36 && w.ClientACKs > 60:
		return SSHInteractive
	case w.ClientMode > 70 && w.ServerMode > 70 && w.ServerACKs > 60:
		return SSHReverse
	case w.ServerMode > 1000 && w.ClientPackets < 20 && w.ServerPackets > 80:
		return SSHDownload
	case w.ClientMode > 1000 && w.ClientPackets > 80 && w.ServerPackets < 20:
		return SSHUpload
	}
	return SSHUnknown
}

// looksTyped widens the first rule to ciphers whose smallest packets are 48, 52
// or 64 bytes: small packets of about equal size both ways, acknowledged mostly
// by the client.
func (w SSHWindow) looksTyped() bool {
	small := func(mode int) bool { return mode >= 28 && mode <= 68 }
	apart := w.ClientMode - w.ServerMode
	return small(w.ClientMode) && small(w.ServerMode) && apart >= -16 && apart <= 16 &&
		w.ClientACKs > 60 && w.ClientACKs > 2*w.ServerACKs
}
