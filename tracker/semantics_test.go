package tracker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// A connection is evicted once, as idle, by the first tick after its timeout;
// a packet just before buys a whole timeout; EvictedAt is the deadline, however
// late the tick.
func TestIdleEviction(t *testing.T) {
	r := newRig(t, Config{Timeouts: Timeouts{UDPOneWay: 30 * time.Second}})
	u := udp(1)
	r.submit(at(0), Origin{}, batchOf(pkt{flow: u}))
	r.submit(at(0), Origin{}, batchOf(pkt{flow: u, at: 29 * time.Second}))
	// Another connection moves the clock to just before the deadline.
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(2), at: 59 * time.Second}))
	r.tick(at(0))
	if gone := r.evictions(); len(gone) != 0 {
		t.Fatalf("evicted %v after 30 s of silence, want nothing", gone)
	}
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(2), at: 80 * time.Second}))
	r.tick(at(0))
	gone := r.evictions()
	if len(gone) != 1 {
		t.Fatalf("evicted %v after 51 s of silence, want one", gone)
	}
	if e := gone[0]; e.Cause != CauseIdle || e.EvictedAt != at(59*time.Second) || e.Connection.PacketCount != 2 {
		t.Errorf("evicted %v, want idle at 59s with 2 packets", e)
	}
}

// In silence log time takes over, once the hold has passed.
func TestSilenceIsTimedByTheLog(t *testing.T) {
	r := newRig(t, Config{LiveHold: 2 * time.Second})
	o, err := r.Origin("lab", "p", true)
	if err != nil {
		t.Fatal(err)
	}
	r.submit(at(0), o, batchOf(pkt{flow: udp(1)}))
	r.tick(at(32 * time.Second))
	if gone := r.evictions(); len(gone) != 0 {
		t.Fatalf("evicted %v after 32 s of log time, want nothing: 2 s are held", gone)
	}
	r.tick(at(32*time.Second + time.Millisecond))
	if gone := r.evictions(); len(gone) != 1 || gone[0].EvictedAt != at(30*time.Second) {
		t.Fatalf("evicted %v after 32.001 s of log time, want one at 30s", gone)
	}
}

// Each state has its timeout.
func TestTimeoutsByState(t *testing.T) {
	tcp, ud := tuple(1), udp(1)
	icmp := tuple(1)
	icmp.Protocol, icmp.SrcPort, icmp.DstPort = flow.ICMP, 8, 0
	closed := append(handshake(tcp, 0),
		pkt{flow: tcp, flags: flow.FIN | flow.ACK, at: 3 * time.Millisecond},
		pkt{flow: tcp, flags: flow.FIN | flow.ACK, at: 3 * time.Millisecond, back: true})
	for _, c := range []struct {
		name    string
		packets []pkt
		want    time.Duration
		cause   Cause
		state   TCPState
	}{
		{"SYN", handshake(tcp, 0)[:1], 30 * time.Second, CauseIdle, TCPHalfOpen},
		{"SYN and SYN-ACK", handshake(tcp, 0)[:2], 30 * time.Second, CauseIdle, TCPHalfOpen},
		{"handshake", handshake(tcp, 0), 300 * time.Second, CauseIdle, TCPEstablished},
		{"data of one side", []pkt{{flow: tcp, flags: flow.ACK}, {flow: tcp, flags: flow.ACK}}, 30 * time.Second, CauseIdle, TCPHalfOpen},
		{"data of both sides", []pkt{{flow: tcp, flags: flow.ACK}, {flow: tcp, flags: flow.ACK, back: true}}, 300 * time.Second, CauseIdle, TCPEstablished},
		{"FIN of one side", closed[:4], 300 * time.Second, CauseIdle, TCPEstablished},
		{"FIN of both sides", closed, 10 * time.Second, CauseClosed, TCPClosed},
		{"RST", []pkt{{flow: tcp, flags: flow.SYN}, {flow: tcp, flags: flow.RST | flow.ACK, back: true}}, 10 * time.Second, CauseClosed, TCPClosed},
		{"UDP one way", []pkt{{flow: ud}, {flow: ud}}, 30 * time.Second, CauseIdle, TCPNone},
		{"UDP two ways", []pkt{{flow: ud}, {flow: ud, back: true}}, 120 * time.Second, CauseIdle, TCPNone},
		{"ICMP", []pkt{{flow: icmp}, {flow: icmp, back: true}}, 30 * time.Second, CauseIdle, TCPNone},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, Config{MaxConnections: 8})
			r.submit(at(0), Origin{}, batchOf(c.packets...))
			if s := r.get(c.packets[0].flow, ""); s.TCPState != c.state {
				t.Errorf("state %v, want %v", s.TCPState, c.state)
			}
			r.tick(at(time.Hour))
			gone := r.evictions()
			if len(gone) != 1 {
				t.Fatalf("evicted %v, want one", gone)
			}
			e := gone[0]
			if got := time.Duration(e.EvictedAt - e.Connection.LastSeen); got != c.want || e.Cause != c.cause {
				t.Errorf("evicted as %v after %v, want %v after %v", e.Cause, got, c.cause, c.want)
			}
		})
	}
}

// A SYN without ACK on a closed connection starts a new one, but not one that
// a second probe reports late.
func TestSYNOnClosedConnection(t *testing.T) {
	r := newRig(t, Config{})
	a, b := r.origin("", "a"), r.origin("", "b")
	tu := tuple(1)
	all := append(handshake(tu, 0), pkt{flow: tu, flags: flow.RST, at: 3 * time.Millisecond})
	r.submit(at(0), a, batchOf(all...))
	r.submit(at(0), b, batchOf(all...))
	if gone := r.evictions(); len(gone) != 0 {
		t.Fatalf("evicted %v for a second probe's SYN, want nothing", gone)
	}
	old := r.get(tu, "")
	r.submit(at(0), a, batchOf(pkt{flow: tu, flags: flow.SYN, at: time.Second}))
	gone := r.evictions()
	if len(gone) != 1 || gone[0].Cause != CauseClosed || gone[0].EvictedAt != at(time.Second) {
		t.Fatalf("evicted %v, want one, closed, at 1s", gone)
	}
	now := r.get(tu, "")
	if now.UID == old.UID || gone[0].Connection.UID != old.UID || now.PacketCount != 1 || now.TCPState != TCPHalfOpen {
		t.Errorf("now %+v, want a new connection of one packet", now)
	}
}

// The initiator is the sender of the first SYN, else the receiver of a SYN-ACK,
// else the sender of a ja4 or ja4h packet, else the first packet's sender.
func TestInitiator(t *testing.T) {
	tu := tuple(1)
	data := pkt{flow: tu, flags: flow.ACK}
	back := pkt{flow: tu, flags: flow.ACK, back: true}
	hello := func(b *flow.Batch, row uint32, typ ja4.Type) *flow.Batch {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Row: row, Event: ja4.Event{Type: typ, Value: "v"}})
		return b
	}
	for _, c := range []struct {
		name    string
		batch   *flow.Batch
		fromDst bool // the tuple's Dst is the initiator
	}{
		{"first packet", batchOf(back, data), true},
		{"first packet, other side", batchOf(data, back), false},
		{"ja4 of the second packet", hello(batchOf(back, data), 2, ja4.TypeJA4), false},
		{"ja4h of the second packet", hello(batchOf(back, data), 2, ja4.TypeJA4H), false},
		{"ja4s of the second packet", hello(batchOf(back, data), 2, ja4.TypeJA4S), true},
		{"SYN-ACK against ja4", hello(batchOf(back, pkt{flow: tu, flags: flow.SYN | flow.ACK}), 1, ja4.TypeJA4), true},
		{"SYN-ACK first", batchOf(pkt{flow: tu, flags: flow.SYN | flow.ACK, back: true}, data), false},
		{"SYN against SYN-ACK", batchOf(pkt{flow: tu, flags: flow.SYN | flow.ACK}, pkt{flow: tu, flags: flow.SYN}), false},
		{"the first of two SYNs", batchOf(pkt{flow: tu, flags: flow.SYN, back: true}, pkt{flow: tu, flags: flow.SYN}), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, turn := range []bool{false, true} { // the same, seen with the ends exchanged
				want := tu.Src
				if c.fromDst {
					want = tu.Dst
				}
				b := c.batch
				if turn {
					b.Flows[0] = b.Flows[0].Reverse()
					for i := range b.Flow {
						b.Flow[i] ^= 1
					}
				}
				r := newRig(t, Config{MaxConnections: 8})
				r.submit(at(0), Origin{}, b)
				if s := r.get(tu, ""); s.Src != want {
					t.Errorf("turned %v: initiator %v, want %v", turn, s.Src, want)
				}
			}
		})
	}
}

// A packet that is late by more than the timeout is counted and applied, moves
// no clock and evicts nothing; what it opens lives a whole timeout.
func TestLatePackets(t *testing.T) {
	r := newRig(t, Config{})
	now := 10 * time.Minute
	r.submit(at(now), Origin{}, batchOf(pkt{flow: udp(1), at: now}, pkt{flow: udp(2), at: 0}, pkt{flow: udp(1), at: time.Second}))
	r.tick(at(now))
	if gone := r.evictions(); len(gone) != 0 {
		t.Fatalf("evicted %v, want nothing", gone)
	}
	if n := r.Count(); n.Late != 2 || n.Live != 2 {
		t.Errorf("%d late, %d live, want 2 and 2", n.Late, n.Live)
	}
	if s := r.get(udp(1), ""); s.FirstSeen != at(time.Second) || s.LastSeen != at(now) {
		t.Errorf("seen %v to %v, want 1s to 10m", time.Duration(s.FirstSeen-epochTime), time.Duration(s.LastSeen-epochTime))
	}
	r.submit(at(now), Origin{}, batchOf(pkt{flow: udp(3), at: now + 30*time.Second}))
	r.tick(at(now))
	if gone := r.evictions(); len(gone) != 0 {
		t.Fatalf("evicted %v 30 s later, want nothing yet", gone)
	}
	r.submit(at(now), Origin{}, batchOf(pkt{flow: udp(3), at: now + 31*time.Second}))
	r.tick(at(now))
	if gone := r.evictions(); len(gone) != 2 {
		t.Fatalf("evicted %v 31 s later, want both", gone)
	}
}

// A packet more than 24 h ahead in a live session moves no clock; in a replay
// it does.
func TestPacketsFromTheFuture(t *testing.T) {
	for _, live := range []bool{true, false} {
		r := newRig(t, Config{})
		o, err := r.Origin("", "p", live)
		if err != nil {
			t.Fatal(err)
		}
		r.submit(at(0), o, batchOf(pkt{flow: udp(1)}, pkt{flow: udp(2), at: 25 * time.Hour}, pkt{flow: udp(1), at: 25 * time.Hour}))
		r.tick(at(time.Second))
		n := r.Count()
		if live && (n.Future != 2 || n.Live != 2 || len(r.evictions()) != 0) {
			t.Errorf("live: %+v, want 2 from the future, 2 live", n)
		}
		if !live && (n.Future != 0 || n.Opened != 3) {
			t.Errorf("replay: %+v, want none from the future, 3 opened", n)
		}
	}
}

// A live network that begins with packets from the future has the log's clock.
func TestFutureFirst(t *testing.T) {
	r := newRig(t, Config{})
	o, err := r.Origin("", "p", true)
	if err != nil {
		t.Fatal(err)
	}
	r.submit(at(0), o, batchOf(pkt{flow: udp(1), at: 48 * time.Hour}, pkt{flow: udp(2)}))
	r.submit(at(0), o, batchOf(pkt{flow: udp(1), at: time.Second}))
	r.tick(at(0))
	if n := r.Count(); n.Live != 2 || n.Opened != 2 || n.Future != 1 {
		t.Errorf("%+v, want 2 live, 1 packet from the future", n)
	}
}

// A packet after a gap longer than the timeout starts a new connection, also
// when no tick came between.
func TestGapStartsANewConnection(t *testing.T) {
	r := newRig(t, Config{})
	r.submit(at(0), Origin{}, batchOf(
		pkt{flow: udp(1)}, pkt{flow: udp(1), at: 30 * time.Second}, pkt{flow: udp(1), at: 60*time.Second + 1}))
	gone := r.evictions()
	if len(gone) != 1 || gone[0].Connection.PacketCount != 2 || gone[0].EvictedAt != at(60*time.Second) {
		t.Errorf("evicted %v, want one of 2 packets at 60s", gone)
	}
}

// Without a tick, what has expired leaves as batches come.
func TestBatchesSweep(t *testing.T) {
	r := newRig(t, Config{Shards: 1})
	for i := range 1000 {
		r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(i), at: time.Duration(i) * time.Second}))
		if n := r.Count().Live; n > 33 {
			t.Fatalf("%d connections after %d s, want those of 30 s", n, i)
		}
	}
}

// The same 5-tuple in two networks is two connections.
func TestNetworksAreApart(t *testing.T) {
	r := newRig(t, Config{})
	for i, n := range []string{"", "lab", "default"} {
		r.submit(at(0), r.origin(n, "p"), batchOf(pkt{flow: udp(1), bytes: uint32(100 + i)}))
	}
	lab, def := r.get(udp(1), "lab"), r.get(udp(1), "")
	if lab.PacketCount != 1 || lab.ByteCount != 101 || def.PacketCount != 2 || lab.UID == def.UID {
		t.Errorf("lab %+v, default %+v, want 1 and 2 packets", lab, def)
	}
	if s := r.get(udp(1), "elsewhere"); s != nil {
		t.Errorf("unknown network has %+v", s)
	}
}

// Two probes do not double the totals: they are those of the one that saw most.
// A fifth observer is counted and belongs to nobody.
func TestObservers(t *testing.T) {
	r := newRig(t, Config{})
	for p := range 5 {
		var ps []pkt
		for i := range p + 1 {
			ps = append(ps, pkt{flow: udp(1), at: time.Duration(i) * time.Second, back: i%2 == 1, bytes: uint32(100 * (p + 1))})
		}
		r.submit(at(0), r.origin("", fmt.Sprint("p", p)), batchOf(ps...))
	}
	s := r.get(udp(1), "")
	if len(s.Observers) != MaxObservers || r.Count().ObserversCapped != 5 || r.Count().Packets != 15 {
		t.Fatalf("%d observers, %+v; want 4, 5 packets capped of 15", len(s.Observers), r.Count())
	}
	for i, o := range s.Observers {
		want := Observer{
			Probe: fmt.Sprint("p", i), PacketCount: uint64(i + 1), ByteCount: uint64((i + 1) * (i + 1) * 100),
			SrcPacketCount: uint64(i/2 + 1), SrcByteCount: uint64((i/2 + 1) * (i + 1) * 100),
			FirstSeen: at(0), LastSeen: at(time.Duration(i) * time.Second),
		}
		if o != want {
			t.Errorf("observer %d is %+v, want %+v", i, o, want)
		}
	}
	if s.PacketCount != 4 || s.ByteCount != 1600 || s.SrcPacketCount != 2 {
		t.Errorf("totals %d packets %d bytes, want those of p3: 4 and 1600", s.PacketCount, s.ByteCount)
	}
	for _, p := range []string{"p4", "p9"} {
		if n := r.flush(at(0), FlushRequest{Probe: p}); n != 0 {
			t.Errorf("flushed %d of %s, want 0", n, p)
		}
	}
	if n := r.flush(at(0), FlushRequest{Probe: "p2"}); n != 1 {
		t.Errorf("flushed %d of p2, want 1", n)
	}
	r.checkInvariants()
}

// Two taps that each see one direction establish a connection together.
func TestObserversOfOneDirectionEach(t *testing.T) {
	r := newRig(t, Config{})
	tu := tuple(1)
	all := handshake(tu, 0)
	r.submit(at(0), r.origin("", "a"), batchOf(all[0], all[2]))
	r.submit(at(0), r.origin("", "b"), batchOf(all[1]))
	if s := r.get(tu, ""); s.TCPState != TCPEstablished {
		t.Errorf("state %v, want established", s.TCPState)
	}
}

// printsOf returns a batch with one packet and fingerprints on it.
func printsOf(tu flow.Tuple, d time.Duration, es ...ja4.Event) *flow.Batch {
	b := batchOf(pkt{flow: tu, at: d})
	for _, e := range es {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Row: 1, Event: e})
	}
	return b
}

// A history keeps the first 100 and the newest 900 events; equal values in a
// row are one; TotalCount shows the hole.
func TestHistoryKeepsFirstAndNewest(t *testing.T) {
	for _, n := range []int{1, 2, 99, 100, 101, 999, 1000, 1001, 1899, 1900, 2500} {
		r := newRig(t, Config{MaxConnections: 8, MaxMemoryBytes: 16 << 20})
		for i := range n {
			e := ja4.Event{Type: ja4.TypeJA4H, Value: fmt.Sprint("v", i), Raw: fmt.Sprint("raw", i/2)}
			// Each twice: the second is the same event.
			r.submit(at(0), Origin{}, printsOf(udp(1), time.Duration(i), e, e))
		}
		r.checkInvariants()
		s := r.get(udp(1), "")
		h, raw := s.History(ja4.TypeJA4H), s.RawHistory(ja4.TypeJA4H)
		if h.TotalCount != uint64(n) || len(h.Events) != min(n, 1000) {
			t.Fatalf("%d events: kept %d of %d", n, len(h.Events), h.TotalCount)
		}
		for i, e := range h.Events {
			want := i
			if i >= 100 && n > 1000 {
				want = i + n - 1000
			}
			if e.Value != fmt.Sprint("v", want) || e.PacketNum != uint64(want+1) || e.SeenAt != at(time.Duration(want)) {
				t.Fatalf("%d events: event %d is %+v, want number %d", n, i, e, want)
			}
		}
		if raw.TotalCount != uint64(n+1)/2 {
			t.Errorf("%d events: %d raw forms, want %d", n, raw.TotalCount, (n+1)/2)
		}
		if got := r.Count().FingerprintsCapped; got != uint64(max(0, n-1000)) && got != uint64(max(0, n-1000)+max(0, (n+1)/2-1000)) {
			t.Errorf("%d events: %d capped", n, got)
		}
		if s.LatestFingerprint(ja4.TypeJA4H) != fmt.Sprint("v", n-1) || s.LatestPacketNum(ja4.TypeJA4H) != uint64(n) {
			t.Errorf("%d events: newest is %q of packet %d", n, s.LatestFingerprint(ja4.TypeJA4H), s.LatestPacketNum(ja4.TypeJA4H))
		}
		r.flush(at(0), FlushRequest{})
		r.checkInvariants()
	}
}

// PrimaryFingerprint prefers ja4, then the published order.
func TestPrimaryFingerprint(t *testing.T) {
	var s Snapshot
	if typ, v := s.PrimaryFingerprint(); typ != 0 || v != "" {
		t.Errorf("empty connection has %v %q", typ, v)
	}
	order := strings.Fields("ja4ls ja4l ja4d6 ja4d ja4ts ja4t ja4x ja4s ja4ssh ja4h ja4")
	for _, name := range order {
		typ, err := ja4.ParseType(name)
		if err != nil {
			t.Fatal(err)
		}
		s.Fingerprints = append(s.Fingerprints, History{Type: typ, Events: []FingerprintEvent{{Value: "old"}, {Value: name}}})
		if got, v := s.PrimaryFingerprint(); got != typ || v != name {
			t.Errorf("with %s: primary is %v %q", name, got, v)
		}
	}
	if s.LatestFingerprint(ja4.TypeJA4O) != "" || s.LatestPacketNum(ja4.TypeJA4O) != 0 {
		t.Error("a type that was not seen has a newest event")
	}
}

// A fingerprint without a row belongs to the newest packet; without a
// connection it is counted.
func TestFingerprintWithoutRow(t *testing.T) {
	r := newRig(t, Config{})
	r.submit(at(0), Origin{}, batchOf(pkt{flow: udp(1)}, pkt{flow: udp(1), at: time.Second}))
	b := new(flow.Batch)
	for i := range 2 {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
			Flow: b.AddFlow(udp(1 + i)), Event: ja4.Event{Type: ja4.TypeJA4SSH, Value: "c76s76_c71s59_c0s70", ServerName: "host.example"},
		})
	}
	r.submit(at(0), Origin{}, b)
	s := r.get(udp(1), "")
	if h := s.History(ja4.TypeJA4SSH); h == nil || h.Events[0].PacketNum != 2 || h.Events[0].SeenAt != at(time.Second) || s.ServerName != "host.example" {
		t.Errorf("history %+v of %q, want packet 2 at 1s", h, s.ServerName)
	}
	if n := r.Count().FingerprintsOrphaned; n != 1 {
		t.Errorf("%d orphaned, want 1", n)
	}
}
