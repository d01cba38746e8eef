package ja4plus

import (
	"math"
	"testing"
	"time"

	"github.com/whorl-net/whorl/ja4"
)

// packet is one TCP packet of a latency test. Times are in microseconds.
type packet struct {
	client  bool
	flags   uint8
	payload int
	at      int64
	ttl     uint8
	want    Distances
}

const (
	syn    = flagSYN
	synack = flagSYN | flagACK
	ack    = flagACK
)

// Two-part values come at C, the longer JA4LS at E and the longer JA4L at F.
func TestTCPLatency(t *testing.T) {
	tests := []struct {
		name    string
		packets []packet
		done    bool
	}{
		{"a handshake and an exchange", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{false, synack, 0, 1562, 238, Distances{}},
			{true, ack, 0, 5916, 64, Distances{"2177_64", "781_238"}},
			{true, ack, 517, 6000, 64, Distances{}},
			{false, ack, 0, 7000, 238, Distances{}},
			{false, ack, 1460, 24084, 238, Distances{Server: "781_238_9042"}},
			{false, ack, 900, 25000, 238, Distances{}},
			{true, ack, 0, 26000, 64, Distances{}},
			{true, ack, 126, 253678, 64, Distances{Client: "2177_64_114797"}},
			{true, ack, 126, 253679, 64, Distances{}},
		}, true},
		{"halves are rounded down", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{false, synack, 0, 3, 60, Distances{}},
			{true, ack, 0, 8, 64, Distances{"2_64", "1_60"}},
		}, false},
		{"whole seconds count", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{false, synack, 0, 3_000_000, 60, Distances{}},
			{true, ack, 0, 7_000_002, 64, Distances{"2000001_64", "1500000_60"}},
		}, false},
		{"a retransmitted SYN does not move A, nor a SYN-ACK B", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{true, syn, 0, 1000, 63, Distances{}},
			{false, synack, 0, 1200, 60, Distances{}},
			{false, synack, 0, 2000, 59, Distances{}},
			{true, ack, 0, 2200, 62, Distances{"500_64", "600_60"}},
		}, false},
		{"an ACK of the server is not C, nor data injected before C", []packet{
			{true, syn, 0, 0, 128, Distances{}},
			{false, synack, 0, 100, 255, Distances{}},
			{false, ack, 0, 110, 255, Distances{}},
			{false, ack, 100, 120, 255, Distances{}},
			{true, ack, 0, 300, 128, Distances{"100_128", "50_255"}},
		}, false},
		{"C may carry data, D comes behind it", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 10, 300, 64, Distances{"100_64", "50_60"}},
			{false, ack, 10, 500, 60, Distances{}},
			{true, ack, 10, 600, 64, Distances{}},
			{false, ack, 10, 1000, 60, Distances{Server: "50_60_200"}},
		}, false},
		{"a server that speaks first does not make E", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{"100_64", "50_60"}},
			{false, ack, 41, 400, 60, Distances{}},
			{true, ack, 41, 500, 64, Distances{}},
			{false, ack, 900, 700, 60, Distances{Server: "50_60_100"}},
			{true, ack, 900, 1300, 64, Distances{Client: "100_64_300"}},
		}, true},
		{"ECN flags do not matter", []packet{
			{true, syn | 0xc0, 0, 0, 64, Distances{}},
			{false, synack | 0x40, 0, 100, 60, Distances{}},
			{true, ack | 0x08, 0, 300, 64, Distances{"100_64", "50_60"}},
		}, false},
		{"without SYN-ACK nothing", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{true, ack, 0, 300, 64, Distances{}},
		}, false},
		{"without SYN nothing", []packet{
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{}},
		}, true},
		{"data before any SYN: the handshake was missed", []packet{
			{true, ack, 5, 0, 64, Distances{}},
			{true, syn, 0, 1, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{}},
		}, true},
		{"a SYN that carries data is a SYN", []packet{
			{true, syn, 99, 0, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{"100_64", "50_60"}},
		}, false},
		{"a negative difference gives no value, the other one stands", []packet{
			{true, syn, 0, 200, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{Client: "100_64"}},
			{true, ack, 1, 400, 64, Distances{}},
			{false, ack, 1, 500, 60, Distances{}},
			{true, ack, 1, 600, 64, Distances{Client: "100_64_50"}},
		}, true},
		{"SYN and SYN-ACK captured in the wrong order", []packet{
			{false, synack, 0, 100, 60, Distances{}},
			{true, syn, 0, 0, 64, Distances{}},
			{true, ack, 0, 90, 64, Distances{Server: "50_60"}},
		}, false},
		{"negative differences of the exchange give no value", []packet{
			{true, syn, 0, 0, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{"100_64", "50_60"}},
			{true, ack, 1, 400, 64, Distances{}},
			{false, ack, 1, 399, 60, Distances{}},
			{true, ack, 1, 398, 64, Distances{}},
		}, true},
		{"a reset with SYN is nothing", []packet{
			{true, syn | flagRST, 0, 0, 64, Distances{}},
			{false, synack, 0, 100, 60, Distances{}},
			{true, ack, 0, 300, 64, Distances{}},
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l TCPLatency
			for i, p := range tt.packets {
				if got := l.Packet(p.client, p.flags, p.payload, p.at*1000, p.ttl); got != p.want {
					t.Errorf("packet %d: %+v, want %+v", i, got, p.want)
				}
			}
			if l.Done() != tt.done {
				t.Errorf("Done = %v, want %v", l.Done(), tt.done)
			}
		})
	}
}

// Times at the ends of their range do not overflow.
func TestTCPLatencySurvivesAbsurdTimes(t *testing.T) {
	var l TCPLatency
	l.Packet(true, syn, 0, math.MinInt64, 64)
	l.Packet(false, synack, 0, math.MaxInt64, 60)
	if got, want := l.Packet(true, ack, 0, math.MinInt64, 64), (Distances{Server: "9223372036854775_60"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestTCPLatencyDoesNotAllocateBetweenValues(t *testing.T) {
	var l TCPLatency
	l.Packet(true, syn, 0, 0, 64)
	l.Packet(false, synack, 0, 10, 64)
	l.Packet(true, ack, 0, 20, 64)
	if n := testing.AllocsPerRun(100, func() { l.Packet(false, ack, 100, int64(time.Second), 64) }); n != 0 {
		t.Errorf("%v allocations per packet, want 0", n)
	}
}

type quicPacket struct {
	client bool
	kind   ja4.PacketKind
	at     int64
	ttl    uint8
	want   Distances
}

// JA4LS comes with the server's first Initial packet, JA4L with the client's
// first Handshake packet, measured from the server's last one before.
func TestQUICLatency(t *testing.T) {
	const (
		initial   = ja4.PacketInitial
		handshake = ja4.PacketHandshake
	)
	tests := []struct {
		name    string
		packets []quicPacket
		done    bool
	}{
		{"a handshake with coalesced packets", []quicPacket{
			{true, initial, 0, 64, Distances{}},
			{true, initial, 5, 63, Distances{}},
			{false, initial, 18571, 56, Distances{Server: "9285_56"}},
			{false, handshake, 18571, 56, Distances{}},
			{false, initial, 21981, 56, Distances{}},
			{false, handshake, 22000, 56, Distances{}},
			{true, initial, 22100, 64, Distances{}},
			{true, ja4.PacketZeroRTT, 22100, 64, Distances{}},
			{true, handshake, 22227, 64, Distances{Client: "113_64"}},
			{false, handshake, 22300, 56, Distances{}},
			{true, handshake, 22400, 64, Distances{}},
		}, true},
		{"cut behind the server's Initial", []quicPacket{
			{true, initial, 0, 64, Distances{}},
			{false, initial, 4564, 60, Distances{Server: "2282_60"}},
		}, false},
		{"without the client's Initial nothing", []quicPacket{
			{false, initial, 0, 60, Distances{}},
			{false, handshake, 10, 60, Distances{}},
			{true, handshake, 20, 64, Distances{}},
		}, true},
		{"without a Handshake packet of the server no JA4L", []quicPacket{
			{true, initial, 0, 64, Distances{}},
			{false, initial, 100, 60, Distances{Server: "50_60"}},
			{true, handshake, 200, 64, Distances{}},
		}, true},
		{"a Retry does not count, A is the first Initial", []quicPacket{
			{true, initial, 0, 64, Distances{}},
			{false, ja4.PacketRetry, 100, 60, Distances{}},
			{true, initial, 200, 64, Distances{}},
			{false, initial, 400, 60, Distances{Server: "200_60"}},
		}, false},
		{"negative differences give no value", []quicPacket{
			{true, initial, 100, 64, Distances{}},
			{false, initial, 50, 60, Distances{}},
			{false, handshake, 80, 60, Distances{}},
			{true, handshake, 70, 64, Distances{}},
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var l QUICLatency
			for i, p := range tt.packets {
				if got := l.Packet(p.client, p.kind, p.at*1000, p.ttl); got != p.want {
					t.Errorf("packet %d: %+v, want %+v", i, got, p.want)
				}
			}
			if l.Done() != tt.done {
				t.Errorf("Done = %v, want %v", l.Done(), tt.done)
			}
		})
	}
}

// BenchmarkTCPLatency: a packet between two values.
func BenchmarkTCPLatency(b *testing.B) {
	var l TCPLatency
	l.Packet(true, syn, 0, 0, 64)
	l.Packet(false, synack, 0, 10, 64)
	l.Packet(true, ack, 0, 20, 64)
	b.ReportAllocs()
	for b.Loop() {
		l.Packet(false, ack, 100, int64(time.Second), 64)
	}
}
