package handshake

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/decode"
)

// A conversation builds the packets of one TCP connection by hand.
type conversation struct {
	client  flow.Tuple
	now     int64
	seq     [2]uint32 // next, of client and server
	packets []decode.Packet
}

const (
	client = 0
	server = 1
)

var synOptions = []byte{2, 4, 5, 180, 1, 3, 3, 7}

func newConversation() *conversation {
	return &conversation{
		client: flow.Tuple{
			Src: flow.AddrFrom4([4]byte{10, 0, 0, 1}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 2}),
			SrcPort: 40000, DstPort: 443, Protocol: flow.TCP,
		},
		now: 1_700_000_000_000_000_000,
		seq: [2]uint32{0xffff_fff0, 0xffff_ff00}, // both wrap early
	}
}

func (c *conversation) tuple(from int) flow.Tuple {
	if from == client {
		return c.client
	}
	return c.client.Reverse()
}

func (c *conversation) packet(from int, flags uint8, payload []byte) *conversation {
	c.now += 1_000_000
	p := decode.Packet{
		Tuple: c.tuple(from), Time: c.now, WireLength: uint32(54 + len(payload)), TTL: 64,
		TCPFlags: flags, Window: 1000, Seq: c.seq[from], Ack: c.seq[1-from],
		Payload: payload, PayloadLength: len(payload),
	}
	if flags&flow.SYN != 0 {
		p.TCPOptions = synOptions
		c.seq[from]++
	}
	c.seq[from] += uint32(len(payload))
	if flags&flow.FIN != 0 {
		c.seq[from]++
	}
	c.packets = append(c.packets, p)
	return c
}

// open adds the three-way handshake.
func (c *conversation) open() *conversation {
	return c.packet(client, flow.SYN, nil).packet(server, flow.SYN|flow.ACK, nil).packet(client, flow.ACK, nil)
}

// say adds segments that carry data, of at most mss bytes.
func (c *conversation) say(from int, data []byte, mss int) *conversation {
	for part := range slices.Chunk(data, mss) {
		c.packet(from, flow.PSH|flow.ACK, part)
	}
	return c
}

func (c *conversation) text(from int, s string) *conversation {
	return c.say(from, []byte(s), 1400)
}

func (c *conversation) close() *conversation {
	return c.packet(client, flow.FIN|flow.ACK, nil).packet(server, flow.FIN|flow.ACK, nil).packet(client, flow.ACK, nil)
}

// wait lets packet time pass.
func (c *conversation) wait(d time.Duration) *conversation {
	c.now += int64(d)
	return c
}

// flight is what one side of a recorded TLS connection wrote before the other
// did.
type flight struct {
	from int
	data []byte
}

// tlsFlights records a handshake, some data both ways, and the close between
// crypto/tls and itself.
var tlsFlights = func() func(version uint16) []flight {
	var mu sync.Mutex
	made := map[uint16][]flight{}
	return func(version uint16) []flight {
		mu.Lock()
		defer mu.Unlock()
		if made[version] == nil {
			made[version] = recordTLS(version)
		}
		return made[version]
	}
}()

type recorder struct {
	net.Conn
	from    int
	mu      *sync.Mutex
	flights *[]flight
}

func (r recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	last := len(*r.flights) - 1
	if last >= 0 && (*r.flights)[last].from == r.from {
		(*r.flights)[last].data = append((*r.flights)[last].data, p...)
	} else {
		*r.flights = append(*r.flights, flight{r.from, bytes.Clone(p)})
	}
	r.mu.Unlock()
	return r.Conn.Write(p)
}

func recordTLS(version uint16) []flight {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.net", Organization: []string{"Example"}},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.net"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	a, b := net.Pipe()
	var mu sync.Mutex
	var flights []flight
	cl := tls.Client(recorder{a, client, &mu, &flights}, &tls.Config{
		ServerName: "example.net", InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"},
		MinVersion: version, MaxVersion: version,
	})
	sv := tls.Server(recorder{b, server, &mu, &flights}, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der, der}, PrivateKey: key}},
		NextProtos:   []string{"h2"},
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		if _, err := sv.Read(buf); err == nil {
			sv.Write([]byte("pong"))
		}
	}()
	_, err = cl.Write([]byte("ping"))
	check(err)
	cl.Read(make([]byte, 100))
	<-done
	a.Close()
	b.Close()
	return flights
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// tls adds a TLS conversation.
func (c *conversation) tls(version uint16, mss int) *conversation {
	for _, f := range tlsFlights(version) {
		c.say(f.from, f.data, mss)
	}
	return c
}

// run feeds packets to a new engine and returns all events. Their bytes are
// overwritten behind them: the engine must keep nothing of a packet.
func run(cfg Config, packets []decode.Packet) (events []Event, ended []EndEvent, g *Engine) {
	g = New(cfg)
	var out Result
	var lent []byte
	for i := range packets {
		p := packets[i]
		lent = append(append(lent[:0], p.TCPOptions...), p.Payload...)
		p.TCPOptions, p.Payload = lent[:len(p.TCPOptions)], lent[len(p.TCPOptions):]
		g.Packet(&p, &out)
		for j := range lent {
			lent[j] = 0xee
		}
		events = append(events, out.Events...)
		ended = append(ended, out.Ended...)
	}
	g.Finish(func(e EndEvent) { ended = append(ended, e) })
	return events, ended, g
}

// kinds lists the types of events, such as "ja4t ja4ts".
func kinds(events []Event) string {
	var b strings.Builder
	for i := range events {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(events[i].Type.String())
	}
	return b.String()
}

// values lists type and value of the events that are none of without.
func values(events []Event, without ...ja4.Type) []string {
	var out []string
	for i := range events {
		if !slices.Contains(without, events[i].Type) {
			out = append(out, fmt.Sprintf("%v %s %s", events[i].Type, events[i].Value, events[i].Raw))
		}
	}
	return out
}

func diff(t testing.TB, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}
