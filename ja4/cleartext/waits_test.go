package cleartext

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"

	"github.com/whorl-net/whorl/ja4"
)

// later moves the secrets of from to keys.
func later(keys, from *KeyLog) {
	for r, s := range from.byRandom {
		keys.byRandom[r] = s
	}
}

// A TLS that waits hears all of a connection whose secrets come last, all at
// once or first only those of its handshake.
func TestTLSWaitsForSecrets(t *testing.T) {
	certificate := testCertificate(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		segments, all := converse(t, &tls.Config{MaxVersion: version}, &tls.Config{Certificates: []tls.Certificate{certificate}})
		for _, inParts := range []bool{false, true} {
			keys := NewKeyLog(0)
			conn := NewTLS(keys)
			conn.Waits = true
			var h heard
			sink := h.sink()
			for i, s := range segments {
				if i == len(segments)-2 && inParts {
					for r, s := range all.byRandom {
						part := *s
						part.length[masterSecret], part.length[clientTraffic], part.length[serverTraffic] = 0, 0, 0
						keys.byRandom[r] = &part
					}
				}
				if i == len(segments)-1 {
					if h.data[0].Len() > 0 || conn.Held() == 0 {
						t.Errorf("%04x: heard %q, holds %d bytes before the secrets came", version, h.data[0].String(), conn.Held())
					}
					later(keys, all)
				}
				if got := conn.Write(s.side, s.p, sink); got != ja4.StatusMore {
					t.Fatal(got, conn.Err())
				}
			}
			if q, a := h.data[0].String(), h.data[1].String(); q != question || a != answer {
				t.Errorf("%04x, in parts %t: %q and %q", version, inParts, q, a)
			}
		}
	}
}

// It waits up to a bound, and no longer than it is told to.
func TestTLSWaitIsBounded(t *testing.T) {
	segments, _ := converse(t, &tls.Config{}, &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}})
	waiting := func() *TLS {
		conn := NewTLS(NewKeyLog(0))
		conn.Waits = true
		for _, s := range segments {
			if got := conn.Write(s.side, s.p, Sink{}); got != ja4.StatusMore {
				t.Fatal(got, conn.Err())
			}
		}
		return conn
	}
	conn := waiting()
	record := append([]byte{recordApplicationData, 3, 3, 0x20, 0}, make([]byte, 1<<13)...)
	for i := 0; conn.Write(0, record, Sink{}) == ja4.StatusMore; i++ {
		if i > maxHeld/len(record) {
			t.Fatal("no bound on what waits")
		}
	}
	if !errors.Is(conn.Err(), ErrNoSecrets) || conn.Held() != 0 {
		t.Errorf("%v, holds %d bytes", conn.Err(), conn.Held())
	}
	conn = waiting()
	conn.Waits = false
	if conn.Write(0, record, Sink{}); !errors.Is(conn.Err(), ErrNoSecrets) {
		t.Errorf("after the wait: %v", conn.Err())
	}
}

// A QUIC that waits hears what came before its secrets.
func TestQUICWaitsForSecrets(t *testing.T) {
	segments, all := converseQUIC(t, false, []byte(answer))
	keys := NewKeyLog(0)
	conn := NewQUIC(keys)
	conn.Waits = true
	var h heard
	sink := h.sink()
	first := -1 // that waits
	for i, s := range segments {
		if i == len(segments)-1 {
			later(keys, all)
		}
		if first < 0 && len(conn.waiting) > 0 {
			first = i - 1
		}
		if first >= 0 && !bytes.Equal(conn.waiting[0].p, segments[first].p) {
			t.Fatalf("datagram %d does not wait at the head", first)
		}
		if got := conn.Datagram(s.side, s.p, sink); got != ja4.StatusMore {
			t.Fatal(got, conn.Err())
		}
		if i < len(segments)-1 && len(h.streams) > 0 {
			t.Fatal("heard a stream without secrets")
		}
	}
	if got := h.streams[streamID{0, 0}]; got == nil || got.String() != question || len(conn.waiting) != 0 {
		t.Errorf("heard %v, %d datagrams wait", got, len(conn.waiting))
	}
	conn = NewQUIC(NewKeyLog(0))
	conn.Waits = true
	for i, s := range segments {
		if i == len(segments)-1 {
			conn.Waits = false
		}
		conn.Datagram(s.side, s.p, Sink{})
	}
	if !errors.Is(conn.Err(), ErrNoSecrets) {
		t.Errorf("after the wait: %v", conn.Err())
	}
}
