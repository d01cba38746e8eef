package ja4

import (
	"errors"
	"fmt"

	"github.com/whorl-net/whorl/ja4/internal/wire"
)

// ErrNoHello is wrapped by the errors of TLSClientHello, QUICClientHello and
// DTLSClientHello when the bytes hold no complete client hello.
var ErrNoHello = errors.New("no complete client hello")

// TLSClientHello returns the JA4 of the first client hello in b, which holds
// the TLS records of one direction from their beginning, or the bare handshake
// message.
func TLSClientHello(b []byte) (Event, error) {
	if len(b) >= messageHeaderLen && MessageType(b[0]) == MessageClientHello {
		body := b[messageHeaderLen:]
		if n := wire.Uint24(b[1:]); n <= len(body) {
			return helloEvent(TLS, body[:n])
		}
		return Event{}, fmt.Errorf("handshake message of %d bytes: %w", len(b), ErrNoHello)
	}
	var s TLSStream
	var first firstHello
	status := s.Write(b, first.take)
	return first.result(fmt.Sprintf("TLS stream is %v after %d bytes", status, len(b)))
}

// QUICClientHello returns the JA4 of the first client hello in the datagrams,
// which are UDP payloads from the client in any order.
func QUICClientHello(datagrams ...[]byte) (Event, error) {
	var f QUICFlow
	var first firstHello
	for _, p := range datagrams {
		f.Datagram(0, p, func(_ uint8, m Message) { first.take(m) })
	}
	return first.result(fmt.Sprintf("%d QUIC datagrams", len(datagrams)))
}

// DTLSClientHello returns the JA4 of the first client hello that the datagrams
// complete; they are UDP payloads from the client in any order. The hello that
// answers a HelloVerifyRequest differs from the first in its cookie only,
// which is no part of a fingerprint.
func DTLSClientHello(datagrams ...[]byte) (Event, error) {
	var s DTLSStream
	var first firstHello
	for _, p := range datagrams {
		s.Datagram(p, first.take)
	}
	return first.result(fmt.Sprintf("%d DTLS datagrams", len(datagrams)))
}

// firstHello keeps the result for the first client hello it is given.
type firstHello struct {
	found bool
	event Event
	err   error
}

func (f *firstHello) take(m Message) {
	if m.Type == MessageClientHello && !f.found {
		f.found = true
		f.event, f.err = helloEvent(m.Transport, m.Body)
	}
}

func (f *firstHello) result(where string) (Event, error) {
	if !f.found {
		return Event{}, fmt.Errorf("%s: %w", where, ErrNoHello)
	}
	return f.event, f.err
}

func helloEvent(t Transport, body []byte) (Event, error) {
	h, err := ClientHello(t, body)
	if err != nil {
		return Event{}, err
	}
	return h.Event(), nil
}
