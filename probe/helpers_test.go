package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// frame returns an IPv4 packet (link type Raw) of a TCP connection between
// 10.x.y.z:port and 192.0.2.1:443, sent by the client or the server.
func frame(n uint32, fromClient bool, flags uint8, seq uint32, payload string) []byte {
	b := make([]byte, 40, 40+len(payload))
	b[0], b[8], b[9] = 0x45, 64, byte(flow.TCP)
	binary.BigEndian.PutUint16(b[2:], uint16(40+len(payload)))
	client, server := b[12:16], b[16:20]
	clientPort, serverPort := b[20:22], b[22:24]
	if !fromClient {
		client, server, clientPort, serverPort = server, client, serverPort, clientPort
	}
	binary.BigEndian.PutUint32(client, 10<<24|n)
	binary.BigEndian.PutUint32(server, 192<<24|2<<8|1)
	binary.BigEndian.PutUint16(clientPort, 1024+uint16(n))
	binary.BigEndian.PutUint16(serverPort, 443)
	binary.BigEndian.PutUint32(b[24:], seq)
	b[32], b[33] = 0x50, flags
	return append(b, payload...)
}

// raw returns a captured packet.
func raw(at time.Duration, data []byte) capture.Packet {
	return capture.Packet{Data: data, Time: epoch + int64(at), WireLength: uint32(len(data)), LinkType: capture.Raw}
}

const epoch = 1_700_000_000_000_000_000

// poll is how long a live list waits for a packet.
const poll = 50 * time.Millisecond

// list is a source of packets made by hand. Each is lent in one buffer that
// the next overwrites. Behind them it is at its end, or idle if it is live.
type list struct {
	packets []capture.Packet
	live    bool      // sleeps until packets are due, and says ErrIdle behind them
	start   time.Time // when the first packet is due
	base    int64     // its time
	err     error     // instead of io.EOF
	buffer  []byte
}

func (l *list) Next(p *capture.Packet) error {
	for i := range l.buffer {
		l.buffer[i] = 0xee
	}
	if l.live && l.start.IsZero() && len(l.packets) > 0 {
		l.start = time.Now()
		if first := time.Unix(0, l.packets[0].Time); first.After(l.start) && first.Sub(l.start) < time.Hour {
			l.start = first
		}
		l.base = l.packets[0].Time
	}
	if l.live {
		wait := time.Hour
		if len(l.packets) > 0 {
			wait = time.Duration(l.packets[0].Time-l.base) - time.Since(l.start)
		}
		time.Sleep(min(max(wait, 0), poll))
		if wait > poll {
			return capture.ErrIdle
		}
	}
	if len(l.packets) == 0 {
		if l.err != nil {
			return l.err
		}
		return io.EOF
	}
	*p = l.packets[0]
	l.buffer = append(l.buffer[:0], p.Data...)
	p.Data = l.buffer
	l.packets = l.packets[1:]
	return nil
}

func (l *list) Close() error { return nil }

// collector keeps copies of the batches it is given.
type collector struct {
	mu      sync.Mutex
	batches []*flow.Batch
	at      []time.Time
	fail    error
	calls   int
}

func (c *collector) Report(ctx context.Context, b *flow.Batch) error {
	if !c.mu.TryLock() {
		return errors.New("a second call at a time")
	}
	defer c.mu.Unlock()
	c.calls++
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.fail != nil {
		return c.fail
	}
	copied := *b
	copied.Flows = slices.Clone(b.Flows)
	copied.Flow = slices.Clone(b.Flow)
	copied.Time = slices.Clone(b.Time)
	copied.WireLength = slices.Clone(b.WireLength)
	copied.TCPFlags = slices.Clone(b.TCPFlags)
	copied.RunPackets = slices.Clone(b.RunPackets)
	copied.RunSpan = slices.Clone(b.RunSpan)
	copied.Fingerprints = slices.Clone(b.Fingerprints)
	c.batches = append(c.batches, &copied)
	c.at = append(c.at, time.Now())
	return nil
}

// count is what a connection comes to.
type count struct {
	packets, bytes uint64
	fromSrc        uint64
	first, last    int64
	flags          uint8
}

// connections sums up rows by connection. Both orientations of a tuple are
// one.
func connections(t testing.TB, batches []*flow.Batch) map[flow.Key]count {
	t.Helper()
	sums := map[flow.Key]count{}
	for _, b := range batches {
		for i, ref := range b.Flow {
			if int(ref>>1) >= len(b.Flows) {
				t.Fatalf("row %d refers to flow %d of %d", i, ref>>1, len(b.Flows))
			}
			tuple := b.Flows[ref>>1]
			if ref&1 == 1 {
				tuple = tuple.Reverse()
			}
			k, reversed := tuple.Key()
			c, there := sums[k]
			packets, span := uint64(1), int64(0)
			if len(b.RunPackets) > 0 {
				packets, span = uint64(b.RunPackets[i]), int64(b.RunSpan[i])
			}
			c.packets += packets
			c.bytes += uint64(b.WireLength[i])
			c.flags |= b.TCPFlags[i]
			if !reversed {
				c.fromSrc += packets
			}
			if !there || b.Time[i] < c.first {
				c.first = b.Time[i]
			}
			c.last = max(c.last, b.Time[i]+span)
			sums[k] = c
		}
	}
	return sums
}

// fingerprints lists type, value and client-to-server tuple of all
// fingerprints in batches.
func fingerprints(batches []*flow.Batch) []string {
	var out []string
	for _, b := range batches {
		for i := range b.Fingerprints {
			f := &b.Fingerprints[i]
			k, _ := b.Flows[f.Flow].Key()
			out = append(out, f.Type.String()+" "+f.Value+" "+f.Raw+" "+k.String())
		}
	}
	return out
}

func mustRun(t testing.TB, cfg Config, sources ...capture.Source) (*collector, Totals) {
	t.Helper()
	c := &collector{}
	p, err := New(cfg, c, sources...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c, p.Totals()
}

// traffic makes n packets of some flows: an HTTP request, then data both ways.
func traffic(n, flows int) []capture.Packet {
	packets := make([]capture.Packet, 0, n)
	seq := make([]uint32, flows)
	for i := range n {
		f := (i * 7) % flows
		at := time.Duration(i) * 10 * time.Microsecond
		payload, flags := "data data data", flow.ACK
		switch {
		case seq[f] == 0:
			payload, flags = "", flow.SYN
			seq[f]++
		case seq[f] == 1:
			payload = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
		}
		fromClient := seq[f] < 3 || i%3 > 0
		packets = append(packets, raw(at, frame(uint32(f), fromClient, flags, seq[f], payload)))
		if fromClient {
			seq[f] += uint32(len(payload))
		}
	}
	return packets
}
