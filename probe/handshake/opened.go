package handshake

import (
	"errors"
	"unsafe"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// An opened looks inside a TLS connection with its secrets, beside the streams
// that find what is in clear: with secrets or without, that is found the same
// way.
type opened struct {
	tls  *cleartext.TLS
	http ja4plus.HTTPStream // what the client says
	// until is the packet time until which it waits for secrets.
	until    int64
	finished [2]bool // by side: the Finished of TLS 1.3 was seen
	over     bool    // nothing more is wanted
}

const versionTLS13 = 0x0304

// keyBytes is about what the keys of a connection hold.
const keyBytes = 4 << 10

const openedBytes = int64(unsafe.Sizeof(opened{})+unsafe.Sizeof(cleartext.TLS{})) + keyBytes

func (o *opened) bytes() int64 { return openedBytes + int64(o.tls.Held()+o.http.Held()) }

// inside reports whether to look inside a connection that begins now.
func (g *Engine) inside() bool {
	return g.want.inside && (g.cfg.SecretsWait > 0 || g.cfg.Secrets.Connections() > 0)
}

// beginOpened makes c one to look inside, once.
func (g *Engine) beginOpened(c *conn) {
	if c.inside != nil || c.insideDone || !g.inside() {
		return
	}
	c.inside = &opened{
		tls:   cleartext.NewTLS(g.cfg.Secrets),
		http:  ja4plus.HTTPStream{OriginalOrder: g.types.Has(ja4.TypeJA4HRO)},
		until: g.p.Time + int64(g.cfg.SecretsWait),
	}
}

// openTLS gives the next bytes of a direction to what looks inside c.
func (g *Engine) openTLS(c *conn, side uint8, data []byte) {
	o := c.inside
	o.tls.Waits = g.p.Time < o.until
	if o.tls.Write(side, data, g.inTLS) != ja4.StatusMore {
		g.stats.GivenUp[reasonOf(o.tls.Err())]++
		g.endOpened(c)
		return
	}
	client, known := o.tls.Client()
	version := o.tls.Version()
	if !known || version == 0 {
		return
	}
	if !g.want.http && (version != versionTLS13 || o.finished[0] && o.finished[1]) {
		o.over = true // there are no more certificates
	}
	if o.over {
		g.endOpened(c)
		return
	}
	// What the server says behind its handshake is not needed, and may be long.
	if s := &c.streams[client^1]; s.sealed && (version != versionTLS13 || o.finished[client^1]) {
		s.finish()
	}
}

// endOpened looks no further inside c; a direction that was read for that
// alone has ended.
func (g *Engine) endOpened(c *conn) {
	if c.inside == nil {
		return
	}
	c.inside, c.insideDone = nil, true
	for i := range c.streams {
		if s := &c.streams[i]; s.sealed {
			s.finish()
		}
	}
}

// openedMessage takes a handshake message from inside the TLS connection of
// the packet in work. Those in clear, and all of TLS 1.2, come another way.
func (g *Engine) openedMessage(side uint8, m ja4.Message) {
	o := g.c.inside
	if o.tls.Version() != versionTLS13 {
		return
	}
	switch m.Type {
	case ja4.MessageCertificate:
		g.certificates13(m.Body)
	case ja4.MessageCompressedCertificate:
		g.compressedCertificates(m.Body)
	case ja4.MessageFinished:
		o.finished[side] = true
	}
}

func (g *Engine) certificates13(body []byte) {
	if g.types.Has(ja4.TypeJA4X) {
		ja4plus.Certificates13(body, g.onCert)
	}
}

// openedData takes application data from inside the TLS connection of the
// packet in work.
func (g *Engine) openedData(side uint8, p []byte) {
	o := g.c.inside
	client, known := o.tls.Client()
	if !known || side != client || o.over || !g.want.http {
		return
	}
	packetSide := g.side
	g.side = side
	defer func() { g.side = packetSide }()
	for len(p) > 0 {
		n, status := o.http.Write(p, g.onHTTP)
		switch status {
		case ja4plus.HTTPMore:
			return
		case ja4plus.HTTPSwitch:
			p = p[n:] // a request again, or something else and the end
			continue
		case ja4plus.HTTPTooLarge:
			g.stats.GivenUp[ReasonTooLarge]++
		default:
			g.stats.GivenUp[ReasonUnrecognised]++
		}
		o.over = true
		return
	}
}

// reasonOf says why what looked inside a connection has ended.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, cleartext.ErrNoSecrets):
		return ReasonNoSecrets
	case errors.Is(err, cleartext.ErrUnsupported):
		return ReasonUnsupported
	case errors.Is(err, cleartext.ErrTooLarge):
		return ReasonTooLarge
	default:
		return ReasonUnopened
	}
}
