package handshake

import (
	"bytes"
	"encoding/binary"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// inOrder takes the next bytes of a direction. data begins where a segment
// begins, which is where a protocol may begin: TLS after the answer to a
// CONNECT, after SOCKS, after STARTTLS.
func (g *Engine) inOrder(c *conn, side uint8, data []byte) {
	for len(data) > 0 && c.streams != nil {
		s := &c.streams[side]
		switch {
		case s.done || s.paused:
			return
		case s.tls != nil || s.sealed:
			g.runTLS(c, side, data)
			return
		case s.httpRuns:
			data = g.runHTTP(c, side, data)
		default:
			data = g.detect(c, side, data)
		}
	}
}

// protocol is what detection tells apart.
type protocol uint8

const (
	protocolNone protocol = iota
	protocolUndecided
	protocolTLS
	protocolHTTP
	protocolSSH
)

// guess says how b begins, as far as this engine cares.
func (g *Engine) guess(b []byte) protocol {
	undecided := protocolNone
	if g.want.tls {
		switch ja4.LooksLikeTLS(b) {
		case ja4.Yes:
			return protocolTLS
		case ja4.NeedMore:
			undecided = protocolUndecided
		}
	}
	if g.want.ssh {
		const banner = "SSH-"
		if ja4plus.IsSSH(b) {
			return protocolSSH
		}
		if len(b) < len(banner) && string(b) == banner[:len(b)] {
			undecided = protocolUndecided
		}
	}
	if g.want.http {
		switch ja4plus.LooksLikeHTTP(b) {
		case ja4.Yes:
			return protocolHTTP
		case ja4.NeedMore:
			undecided = protocolUndecided
		}
	}
	return undecided
}

// detect finds out what begins in data, together with what was undecided
// before, and returns what is left to be taken.
func (g *Engine) detect(c *conn, side uint8, data []byte) []byte {
	s := &c.streams[side]
	begin := data
	if len(s.prefix) > 0 {
		s.prefix = append(s.prefix, data...)
		begin = s.prefix
	}
	found := protocolUndecided
	if n, complete := g.preamble(begin); complete {
		if begin = begin[n:]; len(begin) == 0 {
			s.looked += max(0, len(s.prefix)-len(data))
			begin, found, s.prefix = data, protocolNone, nil // it was all of it
		} else {
			found = g.guess(begin)
		}
	}
	if len(s.prefix) > 0 && (found == protocolNone || found == protocolHTTP && bodyBefore(begin, data)) {
		// What was kept is nothing; the newest segment may begin something.
		s.looked += len(s.prefix) - len(data)
		s.prefix = nil
		begin = data
		found = g.guess(begin)
	}
	if found == protocolUndecided && len(begin) > maxPrefixBytes {
		found = protocolNone
	}
	switch found {
	case protocolUndecided:
		if len(s.prefix) == 0 {
			s.prefix = append(make([]byte, 0, max(2*len(data), 64)), data...)
		}
		return nil
	case protocolNone:
		s.prefix = nil
		if s.looked += len(data); s.looked > maxLookedBytes {
			g.stats.GivenUp[ReasonUnrecognised]++
			s.finish()
		}
		return nil
	case protocolSSH:
		g.beginSSH(c)
		return nil
	case protocolTLS:
		s.tlsState = ja4.TLSStream{}
		s.tls = &s.tlsState
		s.http = nil
		g.beginOpened(c)
		c.streams[side^1].paused = false
	case protocolHTTP:
		if s.http == nil {
			s.httpState = ja4plus.HTTPStream{OriginalOrder: g.types.Has(ja4.TypeJA4HRO)}
			s.http = &s.httpState
		}
		s.httpRuns = true
		// The answers say nothing, until they follow a CONNECT or an Upgrade.
		if other := &c.streams[side^1]; other.tls == nil && !other.httpRuns && !other.done {
			other.pause()
		}
	}
	s.prefix = nil
	s.looked, s.holes = 0, 0
	return begin
}

// preamble returns the length of what a proxy put before the protocol at the
// beginning of b: a header of the PROXY protocol, or a CONNECT whose answer the
// client does not await, if HTTP is not looked into. It is not complete while it
// may go on.
//
// Source: The PROXY protocol, versions 1 & 2, sections 2.1 and 2.2.
func (g *Engine) preamble(b []byte) (n int, complete bool) {
	const (
		line, maxLine    = "PROXY ", 107
		signature, fixed = "\r\n\r\n\x00\r\nQUIT\n", 16
		connect, end     = "CONNECT ", "\r\n\r\n"
	)
	switch {
	case bytes.HasPrefix(b, []byte(line)):
		head := b[len(line):min(len(b), maxLine)]
		if i := bytes.IndexAny(head, " \r\n"); i >= 0 && !proxied(head[:i]) {
			return 0, true
		}
		if i := bytes.IndexByte(head, '\n'); i >= 0 {
			return len(line) + i + 1, true
		}
		return 0, len(b) >= maxLine
	case bytes.HasPrefix(b, []byte(signature)):
		if len(b) < fixed {
			return 0, false
		}
		n = fixed + int(binary.BigEndian.Uint16(b[fixed-2:]))
		return min(n, len(b)), n <= len(b)
	case !g.want.http && bytes.HasPrefix(b, []byte(connect)):
		if i := bytes.Index(b[:min(len(b), maxPrefixBytes)], []byte(end)); i >= 0 {
			return i + len(end), true
		}
	}
	return 0, true
}

// proxied reports whether family is one that the PROXY protocol names.
func proxied(family []byte) bool {
	switch string(family) {
	case "TCP4", "TCP6", "UNKNOWN":
		return true
	}
	return false
}

// bodyBefore reports whether all, which looks like a request, is the end of a
// body whose length nobody could tell, and the request segment behind it: a
// method that nobody knows, which ends with one that is known.
func bodyBefore(all, segment []byte) bool {
	return !ja4plus.KnownHTTPMethod(all) && ja4plus.KnownHTTPMethod(segment)
}

// runTLS feeds the TLS stream of a direction, and what looks inside.
func (g *Engine) runTLS(c *conn, side uint8, data []byte) {
	s := &c.streams[side]
	if s.tls != nil {
		switch s.tls.Write(data, g.onMessage) {
		case ja4.StatusMore:
		case ja4.StatusDone:
			if s.tls, s.sealed = nil, c.inside != nil; !s.sealed {
				s.finish()
			}
		case ja4.StatusInvalid:
			s.tls = nil
			s.looked += len(data)
			g.endOpened(c)
		case ja4.StatusTooLarge:
			g.stats.GivenUp[ReasonTooLarge]++
			s.finish()
			g.endOpened(c)
		}
	}
	if c.inside != nil {
		g.openTLS(c, side, data)
	}
}

// message takes a handshake message of the packet in work.
func (g *Engine) message(m ja4.Message) {
	switch m.Type {
	case ja4.MessageClientHello:
		g.clientHello(m)
	case ja4.MessageServerHello:
		if !g.types.Has(ja4.TypeJA4S) {
			return
		}
		ev, err := ja4plus.ServerHello(m.Transport, m.Body)
		if err != nil {
			g.stats.GivenUp[ReasonMalformed]++
			return
		}
		g.event(ev)
	case ja4.MessageCertificate:
		if g.types.Has(ja4.TypeJA4X) {
			ja4plus.Certificates(m.Body, g.onCert)
		}
	}
}

func (g *Engine) clientHello(m ja4.Message) {
	h, err := ja4.ClientHello(m.Transport, m.Body)
	if err != nil {
		g.stats.GivenUp[ReasonMalformed]++
		return
	}
	g.setClient(g.e, g.side, evidenceHello)
	if g.types.Has(ja4.TypeJA4) {
		g.event(h.Event())
	}
	if g.types.Has(ja4.TypeJA4O) && m.Transport != ja4.DTLS { // nobody defines it
		g.event(h.EventOriginal())
	}
}

// runHTTP feeds the HTTP stream of a direction and returns what follows HTTP.
func (g *Engine) runHTTP(c *conn, side uint8, data []byte) []byte {
	s := &c.streams[side]
	n, status := s.http.Write(data, g.onHTTP)
	switch status {
	case ja4plus.HTTPMore:
		return nil
	case ja4plus.HTTPSwitch:
		// Both directions may become something else, or stay what they are.
		s.httpRuns = false
		if other := &c.streams[side^1]; other.paused {
			other.paused = false
		}
		return data[max(n, 1):]
	case ja4plus.HTTPTooLarge:
		g.stats.GivenUp[ReasonTooLarge]++
		s.finish()
		return nil
	default:
		s.http, s.httpRuns = nil, false
		rest := data[n:]
		if g.guess(rest) == protocolHTTP { // it begins so and goes on otherwise
			s.looked += len(rest)
			return nil
		}
		return rest
	}
}

// request takes the JA4H of a request of the packet in work.
func (g *Engine) request(ev ja4.Event) {
	g.setClient(g.e, g.side, evidenceHello)
	g.event(ev)
}
