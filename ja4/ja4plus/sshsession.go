package ja4plus

import "strconv"

// What a JA4SSH suggests about the session.
const (
	SSHSessionInteractive = "Interactive SSH Session"
	SSHSessionReverse     = "Reverse SSH Session"
	SSHSessionDownload    = "SSH File Transfer"
	SSHSessionUpload      = "SSH File Transfer (Upload)"
	SSHSessionUnknown     = "Unknown"
)

// SSHSessionType names what a JA4SSH value suggests about the session: one of
// the constants, SSHSessionUnknown when it suggests nothing, "" when it is no
// JA4SSH. The thresholds fit full windows of 200 packets and ciphers whose
// smallest packet has 36 bytes; SSHInteractive is a wider rule.
//
// Source: the thresholds of the independent library Crank-Git/ja4plus-go, made
// after the three examples of FoxIO's JA4SSH sheet. The first that fits wins.
func SSHSessionType(value string) string {
	s, ok := parseSSH(value)
	switch {
	case !ok:
		return ""
	case s.clientMode == 36 && s.serverMode == 36 && s.clientACKs > 60:
		return SSHSessionInteractive
	case s.clientMode > 70 && s.serverMode > 70 && s.serverACKs > 60:
		return SSHSessionReverse
	case s.serverMode > 1000 && s.clientPackets < 20 && s.serverPackets > 80:
		return SSHSessionDownload
	case s.clientMode > 1000 && s.clientPackets > 80 && s.serverPackets < 20:
		return SSHSessionUpload
	}
	return SSHSessionUnknown
}

// Bounds of SSHInteractive, in bytes of payload.
const (
	interactiveMode   = 68
	interactiveSpread = 16
)

// SSHInteractive reports whether a JA4SSH value looks like a shell that a
// person types in, whatever the cipher: both modes small and close to each
// other, more bare ACKs from the client. Ciphers such as AES-GCM have smallest
// packets of 48 to 64 bytes, which SSHSessionType calls unknown.
//
// Source: our own rule; no FoxIO document has it.
func SSHInteractive(value string) bool {
	s, ok := parseSSH(value)
	return ok && s.clientMode > 0 && s.serverMode > 0 &&
		max(s.clientMode, s.serverMode) <= interactiveMode &&
		max(s.clientMode, s.serverMode)-min(s.clientMode, s.serverMode) <= interactiveSpread &&
		s.clientACKs > s.serverACKs
}

// sshParts are the numbers of a JA4SSH.
type sshParts struct {
	clientMode, serverMode       uint32
	clientPackets, serverPackets uint32
	clientACKs, serverACKs       uint32
}

// parseSSH reads c{n}s{n}_c{n}s{n}_c{n}s{n}.
func parseSSH(value string) (p sshParts, ok bool) {
	rest := value
	for i, n := range []*uint32{
		&p.clientMode, &p.serverMode, &p.clientPackets, &p.serverPackets, &p.clientACKs, &p.serverACKs,
	} {
		prefix := "c"
		switch {
		case i%2 == 1:
			prefix = "s"
		case i > 0:
			prefix = "_c"
		}
		if len(rest) < len(prefix) || rest[:len(prefix)] != prefix {
			return p, false
		}
		rest = rest[len(prefix):]
		end := 0
		for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
			end++
		}
		v, err := strconv.ParseUint(rest[:end], 10, 32)
		if err != nil {
			return p, false
		}
		*n, rest = uint32(v), rest[end:]
	}
	return p, rest == ""
}
