package cleartext

import (
	"encoding/binary"
	"errors"
	"slices"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/internal/wire"
)

// Why the work on a connection ended. Err returns one of these.
var (
	// ErrNoSecrets: the KeyLog has not what this connection needs.
	ErrNoSecrets = errors.New("no secrets for this connection")
	// ErrUnsupported: a version, cipher suite or feature that this package
	// does not open, such as CBC suites and renegotiation.
	ErrUnsupported = errors.New("not supported")
	// ErrUnopened: the secrets do not fit, or bytes are missing.
	ErrUnopened = errors.New("a record or packet does not open with the secrets")
	// ErrInvalid: the bytes are not, or no longer, this protocol.
	ErrInvalid = errors.New("not TLS or QUIC")
	// ErrTooLarge: a bound on what a connection may hold was reached.
	ErrTooLarge = errors.New("too much to hold")
)

// Sink takes what is inside a connection. Its functions may be nil. Bytes are
// lent: valid during the call only. The sides are those of the calls that
// bring the bytes.
type Sink struct {
	// Message is called for each handshake message, in clear or opened. Of
	// TLS 1.3 those are also the messages behind the handshake.
	Message func(side uint8, m ja4.Message)
	// Data is called for application data of TLS, in order.
	Data func(side uint8, p []byte)
	// Stream is called for the data of QUIC streams, in order within a stream.
	// end says that it is the last of the stream; p may then be empty.
	Stream func(side uint8, id uint64, p []byte, end bool)
}

const (
	versionTLS12 = 0x0303
	versionTLS13 = 0x0304

	// maxHeld bounds the records of one direction that wait for the other.
	maxHeld = 64 << 10
	// maxEarly bounds the early data that is passed over, because the server
	// refused it or its secret is not known.
	maxEarly = 64 << 10
)

// TLS opens one TLS connection on a byte stream. The two ends are called sides
// 0 and 1; the hellos tell which is the client. It is not safe for concurrent
// use.
type TLS struct {
	// Waits says that secrets which the KeyLog does not have may still come:
	// sealed records then wait for all that their connection needs, up to a
	// bound, and each Write looks again. It may be changed between calls; once
	// it is false, Write goes on with what there is.
	Waits bool

	keys *KeyLog
	// sides are the directions by sender.
	sides [2]direction
	hello helloState
	// looked: secrets holds what the KeyLog had.
	looked  bool
	secrets secrets
	// keys12 are the keys of TLS 1.2 by role, 0 the client.
	keys12  [2]*recordKeys
	scratch []byte
	err     error
}

// direction is what one side sends.
type direction struct {
	// buf holds records that are not complete or that wait.
	buf []byte
	// message is the beginning of a handshake message.
	message []byte
	keys    *recordKeys
	// early are the keys of early data, until a record opens with keys.
	early *recordKeys
	// secret is what keys of TLS 1.3 follow from.
	secret []byte
	// changed: a change of cipher spec was seen. opened: a record was opened.
	changed, opened bool
	skipped         int
}

// NewTLS returns a TLS for one connection, which finds its secrets in keys.
func NewTLS(keys *KeyLog) *TLS { return &TLS{keys: keys} }

// Write takes the next bytes that side (0 or 1) sent and calls sink for what
// they complete. It does not keep p. The two directions may be given at
// different paces: what is sealed waits, up to a bound, until both hellos are known.
//
// It returns ja4.StatusMore, or another status once the work has ended; Err
// then says why, and what is given is ignored.
func (c *TLS) Write(side uint8, p []byte, sink Sink) ja4.Status {
	side &= 1
	c.take(side, p, sink)
	if other := 1 - side; c.err == nil && c.hello.answered && len(c.sides[other].buf) >= recordHeaderLen {
		c.take(other, nil, sink)
	}
	if c.err != nil {
		c.sides, c.scratch = [2]direction{}, nil
	}
	return statusOf(c.err)
}

// Err returns why the work has ended, nil while it goes on.
func (c *TLS) Err() error { return c.err }

// Version returns the version that the server chose, 0 before its hello. The
// Certificate messages of TLS 1.3 (0x0304) have another form than before.
func (c *TLS) Version() uint16 { return c.hello.version }

// Client returns the side that is the client; known is false before a hello.
func (c *TLS) Client() (side uint8, known bool) { return c.hello.client, c.hello.known }

// Held returns the bytes of memory that c holds for what is not complete.
func (c *TLS) Held() int {
	n := cap(c.scratch)
	for i := range c.sides {
		n += cap(c.sides[i].buf) + cap(c.sides[i].message)
	}
	return n
}

func statusOf(err error) ja4.Status {
	switch err {
	case nil:
		return ja4.StatusMore
	case ErrTooLarge:
		return ja4.StatusTooLarge
	case ErrNoSecrets, ErrUnsupported:
		return ja4.StatusDone
	default:
		return ja4.StatusInvalid
	}
}

// take cuts the bytes of a side into records.
func (c *TLS) take(side uint8, p []byte, sink Sink) {
	d := &c.sides[side]
	in := p
	if len(d.buf) > 0 {
		d.buf = append(d.buf, p...)
		in = d.buf
	}
	used := 0
	for c.err == nil && len(in)-used >= recordHeaderLen {
		h := in[used:]
		n := recordHeaderLen + int(binary.BigEndian.Uint16(h[3:]))
		if h[0] < recordChangeCipherSpec || h[0] > recordHeartbeat || h[1] != 3 || n > recordHeaderLen+maxRecordLen {
			c.err = ErrInvalid
			return
		}
		if len(h) < n || !c.record(side, h[:n], sink) {
			break
		}
		used += n
	}
	d.buf = append(d.buf[:0], in[used:]...)
	if len(d.buf) > maxHeld && c.err == nil {
		c.err = ErrTooLarge
		if c.waits() {
			c.err = ErrNoSecrets
		}
	}
}

// waits reports whether sealed records have to wait for secrets.
func (c *TLS) waits() bool {
	if !c.Waits || c.looked || !c.hello.answered || !c.hello.supported {
		return false
	}
	c.secrets, _ = c.keys.lookup(c.hello.clientRandom)
	c.looked = c.secrets.complete(c.hello.version)
	return !c.looked
}

// record takes one record. It reports false when the record has to wait for
// the hello of the other side.
func (c *TLS) record(side uint8, r []byte, sink Sink) bool {
	d := &c.sides[side]
	kind, body := r[0], r[recordHeaderLen:]
	if !c.hello.answered {
		sealed := kind == recordApplicationData || kind == recordHandshake && d.changed && !isHello(body)
		if sealed && c.hello.retried && kind == recordApplicationData {
			return true // early data, refused
		}
		if sealed {
			return false
		}
	}
	if c.waits() && (kind == recordApplicationData || d.changed && kind != recordChangeCipherSpec && c.hello.version != versionTLS13) {
		return false
	}
	switch {
	case kind == recordChangeCipherSpec:
		if d.keys != nil && c.hello.version != versionTLS13 {
			c.err = ErrUnsupported // renegotiation
		}
		d.changed = true
		d.message = d.message[:0]
	case c.hello.version == versionTLS13:
		switch kind {
		case recordApplicationData:
			c.open13(side, r, sink)
		case recordHandshake:
			// In clear, so a second client hello that had to wait.
			c.messages(side, body, sink)
		}
	case d.changed && c.hello.answered:
		c.open12(side, r, sink)
	case kind == recordHandshake:
		c.messages(side, body, sink)
	case kind == recordApplicationData:
		c.err = ErrInvalid
	}
	return true
}

// isHello reports whether the body of a record is exactly one hello.
func isHello(body []byte) bool {
	return len(body) > 4 && (body[0] == byte(ja4.MessageClientHello) || body[0] == byte(ja4.MessageServerHello)) &&
		wire.Uint24(body[1:]) == len(body)-4
}

// content hands over what a record held.
func (c *TLS) content(side, kind uint8, plain []byte, sink Sink) {
	switch kind {
	case recordHandshake:
		c.messages(side, plain, sink)
	case recordApplicationData:
		if len(plain) > 0 && sink.Data != nil {
			sink.Data(side, plain)
		}
	}
}

// messages cuts p, the next bytes of the handshake layer, into messages.
func (c *TLS) messages(side uint8, p []byte, sink Sink) {
	d := &c.sides[side]
	d.message = append(d.message, p...)
	used := 0
	for c.err == nil && len(d.message)-used >= 4 {
		m := d.message[used:]
		n := 4 + wire.Uint24(m[1:])
		if n > ja4.MaxHandshakeBytes {
			c.err = ErrTooLarge
			return
		}
		if len(m) < n {
			break
		}
		used += n
		c.message(side, ja4.Message{Transport: ja4.TLS, Type: ja4.MessageType(m[0]), Body: m[4:n]}, sink)
	}
	d.message = append(d.message[:0], d.message[used:]...)
	if len(d.message) == 0 && cap(d.message) > 4<<10 {
		d.message = nil
	}
}

// message hands over a message and follows what it does to the keys.
func (c *TLS) message(side uint8, m ja4.Message, sink Sink) {
	if sink.Message != nil {
		sink.Message(side, m)
	}
	d := &c.sides[side]
	if d.keys == nil {
		c.hello.take(side, m)
		return
	}
	if c.hello.version != versionTLS13 {
		return
	}
	switch m.Type {
	case ja4.MessageFinished:
		l := serverTraffic
		if side == c.hello.client {
			l = clientTraffic
		}
		c.rekey13(side, c.secrets.get(l))
	case ja4.MessageKeyUpdate:
		s := c.hello.suite
		c.rekey13(side, s.expandLabel(d.secret, "traffic upd", s.hash().Size()))
	}
}

// ready looks up the secrets. It reports false, and why, when the connection
// cannot be opened.
func (c *TLS) ready() bool {
	if !c.looked {
		c.looked = true
		c.secrets, _ = c.keys.lookup(c.hello.clientRandom)
	}
	if !c.hello.supported {
		c.err = ErrUnsupported
	}
	return c.err == nil
}

// rekey13 makes the keys of a side from a traffic secret.
func (c *TLS) rekey13(side uint8, secret []byte) {
	s := c.hello.suite
	if len(secret) != s.hash().Size() {
		c.err = ErrNoSecrets
		return
	}
	d := &c.sides[side]
	d.secret = append([]byte(nil), secret...)
	d.keys = newRecordKeys13(s, secret)
}

// open13 opens a record of TLS 1.3.
func (c *TLS) open13(side uint8, r []byte, sink Sink) {
	d := &c.sides[side]
	fromClient := side == c.hello.client
	if d.keys == nil {
		if !c.ready() {
			return
		}
		l := serverHandshake
		if fromClient {
			l = clientHandshake
		}
		if c.rekey13(side, c.secrets.get(l)); c.err != nil {
			return
		}
		s := c.hello.suite
		if early := c.secrets.get(clientEarly); fromClient && c.hello.early && !c.hello.retried && len(early) == s.hash().Size() {
			d.early = newRecordKeys13(s, early)
		}
	}
	c.scratch = slices.Grow(c.scratch[:0], len(r))
	if d.early != nil {
		if kind, plain, ok := d.early.open(c.scratch, r); ok {
			c.content(side, kind, plain, sink)
			return
		}
	}
	kind, plain, ok := d.keys.open(c.scratch, r)
	switch {
	case ok:
		d.early, d.opened = nil, true
		c.content(side, kind, plain, sink)
	case fromClient && c.hello.early && !d.opened && d.skipped+len(r) <= maxEarly:
		d.skipped += len(r)
	default:
		c.err = ErrUnopened
	}
}

// open12 opens a record of TLS 1.2.
func (c *TLS) open12(side uint8, r []byte, sink Sink) {
	d := &c.sides[side]
	if d.keys == nil {
		if !c.ready() {
			return
		}
		if c.keys12[0] == nil {
			master := c.secrets.get(masterSecret)
			if len(master) != 48 {
				c.err = ErrNoSecrets
				return
			}
			c.keys12[0], c.keys12[1] = newRecordKeys12(c.hello.suite, master, c.hello.clientRandom, c.hello.serverRandom)
		}
		role := 0
		if side != c.hello.client {
			role = 1
		}
		d.keys = c.keys12[role]
	}
	c.scratch = slices.Grow(c.scratch[:0], len(r))
	kind, plain, ok := d.keys.open(c.scratch, r)
	if !ok {
		c.err = ErrUnopened
		return
	}
	c.content(side, kind, plain, sink)
}
