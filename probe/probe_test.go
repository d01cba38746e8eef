package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// Every packet that belongs to a connection is in exactly one row, with its
// time, length, direction; batches are numbered, small, and say how far they
// go.
func TestEveryPacketIsReportedOnce(t *testing.T) {
	const n = 30000
	packets := traffic(n, 500)
	arp := capture.Packet{Data: append(make([]byte, 12), 8, 6, 0, 1), Time: epoch, WireLength: 60, LinkType: capture.Ethernet}
	junk := raw(0, []byte{0x45, 0, 0})
	c, totals := mustRun(t, Config{}, &list{packets: slices.Concat([]capture.Packet{arp, junk}, packets)})

	rows := 0
	for i, b := range c.batches {
		if b.Sequence != uint64(i+1) {
			t.Errorf("batch %d has number %d", i+1, b.Sequence)
		}
		if size := len(wire.AppendBatch(nil, b)); size >= 64<<10 {
			t.Errorf("batch %d has %d bytes encoded, want less than 64 KiB", i+1, size)
		}
		if len(b.Flow) > maxRows {
			t.Errorf("batch %d has %d rows", i+1, len(b.Flow))
		}
		for j, ref := range b.Flow {
			want := packets[rows]
			fromClient := want.Data[12] == 10
			if b.Time[j] != want.Time || b.WireLength[j] != want.WireLength || b.TCPFlags[j] != want.Data[33] ||
				b.Flows[ref>>1].Src[12] != 10 || (ref&1 == 0) != fromClient {
				t.Fatalf("row %d of batch %d is not packet %d", j, i+1, rows)
			}
			rows++
		}
		if want := packets[rows-1].Time; b.Watermark != want {
			t.Errorf("batch %d goes to %d, want %d", i+1, b.Watermark, want)
		}
		if slices.MaxFunc(b.Flows, func(a, b flow.Tuple) int { return int(a.SrcPort) - int(b.SrcPort) }).SrcPort == 0 {
			t.Errorf("batch %d has an empty flow", i+1)
		}
	}
	if rows != n {
		t.Errorf("%d rows, want %d", rows, n)
	}
	if got := slices.Compact(slices.Sorted(slices.Values(c.batches[0].Flows[0].Src[:4]))); len(got) != 1 {
		t.Errorf("source %v", c.batches[0].Flows[0].Src)
	}
	want := Totals{
		Packets: n + 2, Connections: 500, Untracked: 1, Undecodable: 1,
		Reported: n, Batches: uint64(len(c.batches)),
	}
	if totals.Packets != want.Packets || totals.Connections != want.Connections || totals.Untracked != 1 || totals.Undecodable != 1 ||
		totals.Reported != want.Reported || totals.Batches != want.Batches || totals.Bytes != totals.ReportedBytes+63 {
		t.Errorf("totals %+v, want %+v", totals, want)
	}
	if totals.Packets != totals.Reported+totals.Untracked+totals.Undecodable {
		t.Error("packets are not the sum of what became of them")
	}
}

// No flow is in a batch twice.
func TestFlowsOnce(t *testing.T) {
	c, _ := mustRun(t, Config{}, &list{packets: traffic(20000, 300)})
	for _, b := range c.batches {
		seen := map[flow.Key]bool{}
		for _, tuple := range b.Flows {
			k, _ := tuple.Key()
			if seen[k] {
				t.Fatalf("%v is in batch %d twice", k, b.Sequence)
			}
			seen[k] = true
		}
	}
}

// A fingerprint refers to the row of the packet that completed it.
func TestFingerprintsReferToRows(t *testing.T) {
	packets := traffic(5000, 100)
	c, totals := mustRun(t, Config{}, &list{packets: packets})
	n := uint64(0)
	for _, b := range c.batches {
		for i := range b.Fingerprints {
			f := &b.Fingerprints[i]
			n++
			row := f.Row - 1
			if b.Flow[row]>>1 != f.Flow {
				t.Fatalf("fingerprint %v of flow %d refers to a row of flow %d", f.Type, f.Flow, b.Flow[row]>>1)
			}
			if isSYN := b.TCPFlags[row] == flow.SYN; isSYN != (f.Type == ja4.TypeJA4T) {
				t.Errorf("%v refers to a packet with flags %#x", f.Type, b.TCPFlags[row])
			}
		}
	}
	if n != 200 || totals.Fingerprints != n {
		t.Errorf("%d fingerprints in batches, %d counted, want 200: a SYN and a request each", n, totals.Fingerprints)
	}
}

// One packet may complete more than a batch holds; the rest goes to the next.
func TestManyFingerprintsInOnePacket(t *testing.T) {
	request := "GET / HTTP/1.1\r\nHost: a.example\r\nCookie: " + strings.Repeat("k=v; ", 40) + "\r\n\r\n"
	packets := []capture.Packet{raw(0, frame(1, true, flow.ACK, 1, strings.Repeat(request, 200)))}
	c, totals := mustRun(t, Config{}, &list{packets: packets})
	if totals.Fingerprints != 200 || len(fingerprints(c.batches)) != 200 {
		t.Fatalf("%d fingerprints, %d reported, want 200", totals.Fingerprints, len(fingerprints(c.batches)))
	}
	rows := 0
	for _, b := range c.batches {
		rows += b.Rows()
		if size := len(wire.AppendBatch(nil, b)); size >= 64<<10 {
			t.Errorf("%d bytes encoded", size)
		}
		var back flow.Batch
		if err := wire.DecodeBatch(wire.AppendBatch(nil, b), &back); err != nil {
			t.Errorf("batch %d is malformed: %v", b.Sequence, err)
		}
	}
	if rows != 1 || len(c.batches) < 2 {
		t.Errorf("%d rows in %d batches, want 1 in several", rows, len(c.batches))
	}
}

// Coalescing makes fewer rows of the same totals.
func TestCoalesce(t *testing.T) {
	packets := traffic(60000, 600)
	for i := range packets {
		packets[i].Time = epoch + int64(i)*int64(time.Microsecond)
	}
	// Some that close and open again, some with another flag, and one whose
	// time runs backwards.
	for i := 15000; i < 16000; i += 10 {
		packets[i].Data[33] |= flow.FIN
		packets[i+3].Data[33] |= flow.PSH
	}
	packets[7000].Time -= int64(time.Second)
	plain, plainTotals := mustRun(t, Config{}, &list{packets: slices.Clone(packets)})
	runs, runTotals := mustRun(t, Config{Coalesce: 100 * time.Millisecond}, &list{packets: packets})
	if got, want := connections(t, runs.batches), connections(t, plain.batches); !maps.Equal(got, want) {
		t.Error("connections differ")
	}
	if runTotals.Reported != plainTotals.Reported || runTotals.ReportedBytes != plainTotals.ReportedBytes {
		t.Errorf("totals %+v, want %+v", runTotals, plainTotals)
	}
	if !slices.Equal(fingerprints(runs.batches), fingerprints(plain.batches)) {
		t.Error("fingerprints differ")
	}
	rows := 0
	for _, b := range runs.batches {
		rows += b.Rows()
		if size := len(wire.AppendBatch(nil, b)); size >= 64<<10 {
			t.Errorf("%d bytes encoded", size)
		}
		for i, flags := range b.TCPFlags {
			if flags&(flow.SYN|flow.FIN) != 0 && b.RunPackets[i] != 1 {
				t.Errorf("a SYN or FIN is in a run of %d packets", b.RunPackets[i])
			}
		}
	}
	if len(runs.batches) < 2 || rows > len(packets)/5 {
		t.Errorf("%d rows in %d batches for %d packets", rows, len(runs.batches), len(packets))
	}
}

// An open window of a connection that has ended belongs to the flow it has in
// the batch, and to its newest packet.
func TestEndedConnectionKeepsItsFlow(t *testing.T) {
	c, _ := mustRun(t, Config{}, &list{packets: []capture.Packet{
		raw(0, frame(1, true, flow.ACK, 1, "GET / HTTP/1.1\r\n\r\n")),
		raw(1, frame(2, true, flow.ACK, 1, "SSH-2.0-a\r\n")),
	}})
	b := c.batches[0]
	if len(c.batches) != 1 || len(b.Flows) != 2 || len(b.Fingerprints) != 2 {
		t.Fatalf("%d batches, flows %v, fingerprints %v", len(c.batches), b.Flows, b.Fingerprints)
	}
	if f := b.Fingerprints[1]; f.Type != ja4.TypeJA4SSH || f.Flow != 1 || f.Row != 2 {
		t.Errorf("%+v, want a ja4ssh of flow 1 and row 2", f)
	}
}

// Rows are counted as well as bytes.
func TestRowsOfABatch(t *testing.T) {
	packets := make([]capture.Packet, 2*maxRows+100)
	for i := range packets {
		packets[i] = raw(0, frame(1, true, flow.ACK, 1, ""))
	}
	c, _ := mustRun(t, Config{}, &list{packets: packets})
	for _, b := range c.batches[:2] {
		if b.Rows() != maxRows {
			t.Errorf("batch %d has %d rows, want %d", b.Sequence, b.Rows(), maxRows)
		}
	}
}

// A fragment whose datagram never was complete is undecodable in the end, and
// one that was is in a row.
func TestFragments(t *testing.T) {
	whole := frame(1, true, flow.ACK, 1, strings.Repeat("x", 64))
	last := slices.Concat(whole[:20], whole[20+24:])
	last[3], last[4], last[5], last[7] = byte(len(last)), 1, 1, 3 // offset 24
	first := slices.Clone(whole[:20+24])
	first[3], first[4], first[5], first[6] = byte(len(first)), 1, 1, 0x20
	lone := slices.Clone(last)
	lone[4] = 9
	c, totals := mustRun(t, Config{}, &list{packets: []capture.Packet{raw(0, last), raw(1, lone), raw(2, first)}})
	if totals.Packets != 3 || totals.Reported != 2 || totals.Undecodable != 1 || len(c.batches) != 1 || c.batches[0].Rows() != 2 {
		t.Errorf("totals %+v; want 2 reported, 1 undecodable", totals)
	}
}

// Count stops after that many packets, over all sources.
func TestCount(t *testing.T) {
	for _, live := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			a, b := traffic(100, 10), traffic(100, 10)
			_, totals := mustRun(t, Config{Count: 150, Live: live}, &list{packets: a, live: live}, &list{packets: b, live: live})
			if totals.Packets != 150 {
				t.Errorf("live %v: %d packets, want 150", live, totals.Packets)
			}
		})
	}
}

// Several files are one stream: a connection that goes on in the next file
// keeps its state.
func TestSourcesInTurn(t *testing.T) {
	packets := []capture.Packet{
		raw(0, frame(1, true, flow.ACK, 1, "GET / HTTP/1.1\r\nHo")),
		raw(time.Second, frame(1, true, flow.ACK, 19, "st: a.example\r\n\r\n")),
	}
	c, totals := mustRun(t, Config{}, &list{packets: packets[:1]}, &list{packets: packets[1:]})
	if n := len(fingerprints(c.batches)); n != 1 || totals.Packets != 2 || totals.Connections != 1 {
		t.Errorf("%d fingerprints, totals %+v; want 1 of 1 connection", n, totals)
	}
}

// Live sources run side by side; a batch is reported 200 ms after it began,
// also when no packet comes, and the watermark waits for the slowest source.
func TestLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		start := time.Now()
		at := func(after time.Duration, n uint32, flags uint8) capture.Packet {
			p := raw(after, frame(n, true, flags, 1, ""))
			p.Time = start.Add(after).UnixNano()
			return p
		}
		a := &list{live: true, packets: []capture.Packet{at(0, 1, flow.SYN), at(5*time.Second, 1, flow.ACK)}}
		b := &list{live: true, packets: []capture.Packet{at(2*time.Second, 2, flow.SYN)}}
		p, err := New(Config{Live: true}, c, a, b)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 10*time.Second+poll {
			t.Errorf("ended %v after the start, want 10 s", d)
		}
		if len(c.batches) != 3 {
			t.Fatalf("%d batches, want 3", len(c.batches))
		}
		for i, want := range []time.Duration{0, 2 * time.Second, 5 * time.Second} {
			if got := c.at[i].Sub(start) - want; got < maxBatchAge || got > maxBatchAge+poll {
				t.Errorf("batch %d was reported %v after its packet, want 200 ms", i+1, got)
			}
			// The other source is idle, and may be behind by idleMargin.
			mark := time.Duration(c.batches[i].Watermark - start.UnixNano())
			if oldest := want + maxBatchAge - idleMargin; mark < oldest || mark > min(want, oldest+poll) {
				t.Errorf("batch %d goes to %v, want %v", i+1, mark, oldest)
			}
		}
		if n := p.Totals().Fingerprints; n != 2 {
			t.Errorf("%d fingerprints, want 2", n)
		}
	})
}

// A steady trickle does not hold a batch back.
func TestLiveTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var packets []capture.Packet
		for i := range 500 {
			packets = append(packets, raw(time.Duration(i)*20*time.Millisecond, frame(1, true, flow.ACK, uint32(i), "")))
		}
		c := &collector{}
		p, err := New(Config{Live: true}, c, &list{live: true, packets: packets})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
		defer cancel()
		start := time.Now()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		for i, b := range c.batches {
			if age := c.at[i].Sub(start) - time.Duration(b.Time[0]-epoch); age > 2*maxBatchAge {
				t.Fatalf("batch %d was reported %v after its first packet", i+1, age)
			}
		}
	})
}

// Speed waits as long as the capture did, or its share, and reports meanwhile.
func TestSpeed(t *testing.T) {
	packets := []capture.Packet{
		raw(0, frame(1, true, flow.SYN, 1, "")),
		raw(10*time.Second, frame(1, true, flow.ACK, 2, "")),
		raw(9*time.Second, frame(1, true, flow.ACK, 2, "")), // late
		raw(30*time.Second, frame(1, true, flow.ACK, 2, "")),
	}
	for speed, want := range map[float64]time.Duration{1: 30 * time.Second, 10: 3 * time.Second, 0: 0} {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			c, _ := mustRun(t, Config{Speed: speed}, &list{packets: slices.Clone(packets)})
			if got := time.Since(start); got != want {
				t.Errorf("speed %v took %v, want %v", speed, got, want)
			}
			if speed > 0 && (len(c.batches) != 3 || c.at[0].Sub(start) != maxBatchAge) {
				t.Errorf("speed %v: %d batches, the first after %v; want 3, after 200 ms", speed, len(c.batches), c.at[0].Sub(start))
			}
			if got := c.batches[0].Time[0]; got != epoch {
				t.Errorf("speed %v changed times by %v", speed, time.Duration(got-epoch))
			}
		})
	}
}

// A paced replay ends at once when it is told to.
func TestSpeedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		packets := []capture.Packet{raw(0, frame(1, true, flow.SYN, 1, "")), raw(time.Hour, frame(1, true, flow.ACK, 2, ""))}
		c := &collector{}
		p, err := New(Config{Speed: 1}, c, &list{packets: packets})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		if err := p.Run(ctx); err != nil || time.Since(start) != time.Minute {
			t.Errorf("%v after %v, want no error after a minute", err, time.Since(start))
		}
		if totals := p.Totals(); totals.Packets != 1 || totals.Reported != 1 {
			t.Errorf("totals %+v", totals)
		}
	})
}

// Retime makes the first packet one of now and keeps the distances.
func TestRetime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UnixNano()
		c, _ := mustRun(t, Config{Retime: true}, &list{packets: []capture.Packet{
			raw(time.Hour, frame(1, true, flow.SYN, 1, "")), raw(2*time.Hour, frame(1, true, flow.ACK, 2, "")),
		}})
		var times []int64
		for _, b := range c.batches {
			times = append(times, b.Time...)
		}
		if want := []int64{now, now + int64(time.Hour)}; !slices.Equal(times, want) {
			t.Errorf("times %v, want %v", times, want)
		}
	})
}

// A packet that hits a bug of ours is skipped and counted; those behind it are
// not lost.
func TestPanicIsCounted(t *testing.T) {
	packets := traffic(1000, 10)
	var told int
	var w *worker
	var engine *handshake.Engine
	c := &collector{}
	p, err := New(Config{OnPanic: func(in *capture.Packet, cause any, stack []byte) {
		told++
		w.engine = engine
		if len(in.Data) == 0 || cause == nil || len(stack) == 0 {
			t.Errorf("told of %v %v", in, cause)
		}
	}}, c, &brittle{list: list{packets: packets}})
	if err != nil {
		t.Fatal(err)
	}
	w = p.workers[0]
	engine = w.engine
	w.sources[0].(*brittle).before = func(i int) { // the engine is none for each tenth packet
		if i%10 == 9 {
			w.engine = new(handshake.Engine)
		}
	}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	totals := p.Totals()
	if told != 100 || totals.Panics != 100 || totals.Undecodable != 100 || totals.Reported != 900 {
		t.Errorf("told of %d, totals %+v; want 100 panics, 900 reported", told, totals)
	}
}

// brittle is a list that calls before with the number of each packet.
type brittle struct {
	list
	before func(int)
	n      int
}

func (b *brittle) Next(p *capture.Packet) error {
	b.before(b.n)
	b.n++
	return b.list.Next(p)
}

// A source that panics ends the run with an error; a reporter that panics is
// not held up.
func TestPanicsOfOthers(t *testing.T) {
	p, err := New(Config{}, &collector{}, &brittle{before: func(int) { panic("source") }})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "panicked: source") {
		t.Errorf("run returned %v", err)
	}
}

// An error of the reporter ends the run and is returned; the reporter is not
// called again.
func TestReporterFails(t *testing.T) {
	failure := errors.New("gone")
	c := &collector{fail: failure}
	p, err := New(Config{}, c, &list{packets: traffic(20000, 10)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); !errors.Is(err, failure) {
		t.Errorf("run returned %v, want %v", err, failure)
	}
	if totals := p.Totals(); totals.Packets > 10000 || totals.Reported != 0 || c.calls != 1 {
		t.Errorf("%d calls, totals %+v", c.calls, totals)
	}
}

// A file cut short is read as far as it goes, and so is the next; another
// error ends the run.
func TestSourceErrors(t *testing.T) {
	cutShort := &capture.FileError{Path: "cut.pcap", Err: capture.ErrTruncated}
	for _, tc := range []struct {
		err  error
		want uint64
	}{{cutShort, 20}, {io.ErrUnexpectedEOF, 10}} {
		p, err := New(Config{}, &collector{}, &list{packets: traffic(10, 2), err: tc.err}, &list{packets: traffic(10, 2)})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Run(t.Context()); !errors.Is(err, tc.err) {
			t.Errorf("run returned %v, want %v", err, tc.err)
		}
		if totals := p.Totals(); totals.Reported != tc.want {
			t.Errorf("after %v: %d packets reported, want %d", tc.err, totals.Reported, tc.want)
		}
	}
}

// Settings that contradict each other are refused.
func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{
		{Live: true, Speed: 1}, {Live: true, Retime: true}, {Speed: -1}, {Coalesce: -1}, {MaxFlows: -1}, {MaxBytes: -1}, {SSHWindow: -1},
	} {
		if _, err := New(cfg, &collector{}); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
		if _, err := Fingerprints(t.Context(), &list{}, cfg, nil); err == nil {
			t.Errorf("%+v was accepted by Fingerprints", cfg)
		}
	}
}

// Fingerprints stops at the first error of emit, at the end of its context and
// after Count packets.
func TestFingerprintsStops(t *testing.T) {
	stop := errors.New("enough")
	n := 0
	_, err := Fingerprints(t.Context(), &list{packets: traffic(1000, 10)}, Config{}, func(*handshake.Event) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 3 {
		t.Errorf("%v after %d events, want %v after 3", err, n, stop)
	}
	emit := func(*handshake.Event) error { return nil }
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stop)
	if totals, err := Fingerprints(ctx, &list{packets: traffic(1000, 10)}, Config{}, emit); !errors.Is(err, stop) || totals.Packets != 0 {
		t.Errorf("%v after %d packets", err, totals.Packets)
	}
	if totals, err := Fingerprints(t.Context(), &list{packets: traffic(1000, 10)}, Config{Count: 7}, emit); err != nil || totals.Packets != 7 {
		t.Errorf("%v after %d packets, want 7", err, totals.Packets)
	}
}

// The batches of the reference captures hold every packet of every connection
// and the fingerprints that Fingerprints prints.
func TestBatchesOfReferenceCaptures(t *testing.T) {
	for _, path := range captures(t) {
		name := filepath.Base(path)
		f, err := capture.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		c, totals := mustRun(t, Config{}, f)
		f.Close()

		events, _ := fingerprintsOf(t, path, Config{})
		var want []string
		for i := range events {
			e := &events[i]
			k, _ := e.Tuple.Key()
			want = append(want, e.Type.String()+" "+e.Value+" "+e.Raw+" "+k.String())
		}
		if got := fingerprints(c.batches); !slices.Equal(got, want) {
			t.Errorf("%s: fingerprints in batches\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if totals.Packets != totals.Reported+totals.Untracked+totals.Undecodable {
			t.Errorf("%s: totals %+v do not add up", name, totals)
		}
		checkConnections(t, name, connections(t, c.batches))
	}
}

// checkConnections compares with the connections of the reference, which are
// TCP and UDP.
func checkConnections(t *testing.T, name string, got map[flow.Key]count) {
	t.Helper()
	var want struct {
		PerConnectionTotals *bool `json:"per_connection_totals"`
		Connections         []struct {
			Transport string
			SrcIP     netip.Addr `json:"src_ip"`
			SrcPort   uint16     `json:"src_port"`
			DstIP     netip.Addr `json:"dst_ip"`
			DstPort   uint16     `json:"dst_port"`
			Packets   uint64
			WireBytes uint64 `json:"wire_bytes"`
			FirstTs   int64  `json:"first_ts_ns"`
			LastTs    int64  `json:"last_ts_ns"`
		}
	}
	b, err := os.ReadFile(filepath.Join(oracleDir, "expected", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(got, func(k flow.Key, _ count) bool { return k.Protocol != flow.TCP && k.Protocol != flow.UDP })
	if len(got) != len(want.Connections) {
		t.Errorf("%s: %d connections, want %d", name, len(got), len(want.Connections))
	}
	if want.PerConnectionTotals != nil && !*want.PerConnectionTotals {
		return
	}
	for _, w := range want.Connections {
		protocol, err := flow.ParseProtocol(w.Transport)
		if err != nil {
			t.Fatal(err)
		}
		tuple := flow.Tuple{
			Src: flow.AddrFrom(w.SrcIP), Dst: flow.AddrFrom(w.DstIP), SrcPort: w.SrcPort, DstPort: w.DstPort, Protocol: protocol,
		}
		k, _ := tuple.Key()
		if g := got[k]; g.packets != w.Packets || g.bytes != w.WireBytes || g.first != w.FirstTs || g.last != w.LastTs {
			t.Errorf("%s: %v has %+v, want %+v", name, k, g, w)
		}
	}
}

// An established connection costs no allocation from capture to batch, with and
// without fingerprints.
func TestPipelineDoesNotAllocate(t *testing.T) {
	for _, types := range []ja4.TypeSet{ja4.AllTypes, ja4.NoTypes} {
		pipelineDoesNotAllocate(t, Config{Types: types})
	}
}

func pipelineDoesNotAllocate(t *testing.T, cfg Config) {
	t.Helper()
	p, err := New(cfg, discard{})
	if err != nil {
		t.Fatal(err)
	}
	w := p.workers[0]
	packets := traffic(5000, 50)
	src := &lender{packets: packets}
	feed := func() {
		for src.lent = 0; ; {
			if err := w.chunk(t.Context(), src); err == io.EOF {
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	feed()
	for i := range packets {
		packets[i].Data[33] = flow.ACK
	}
	feed()
	if n := testing.AllocsPerRun(10, feed); n > 5 { // of the requests, which are all old
		t.Errorf("%v: %v allocations for %d packets, want next to none", cfg.Types, n, len(packets))
	}
}

// lender lends packets in blocks.
type lender struct {
	packets []capture.Packet
	lent    int
}

func (l *lender) Next(p *capture.Packet) error { panic("Next of a source that lends blocks") }
func (l *lender) Close() error                 { return nil }
func (l *lender) NextBlock(ps []capture.Packet) (int, error) {
	n := copy(ps, l.packets[l.lent:])
	if l.lent += n; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

type discard struct{}

func (discard) Report(context.Context, *flow.Batch) error { return nil }

// BenchmarkPipeline: one packet from capture.Packet to batch, decoding and
// flow state included; flows without anything to fingerprint, in trains of
// one. Must stay at 0 allocs/op.
func BenchmarkPipeline(b *testing.B) {
	for _, flows := range []int{100, 10000} {
		for _, coalesce := range []time.Duration{0, time.Second} {
			b.Run(fmt.Sprintf("flows=%d/coalesce=%v", flows, coalesce), func(b *testing.B) {
				p, err := New(Config{Coalesce: coalesce}, discard{})
				if err != nil {
					b.Fatal(err)
				}
				w := p.workers[0]
				packets := traffic(1<<16, flows)
				for i := range packets {
					packets[i].Data[9] = byte(flow.UDP)
					packets[i].Data[24], packets[i].Data[25] = 0, byte(len(packets[i].Data)-20)
				}
				for i := range packets {
					packets[i].Time = epoch + int64(i)*1000
				}
				b.ReportAllocs()
				src := &lender{packets: packets}
				for done := 0; done < b.N; done += chunkPackets {
					err := w.chunk(b.Context(), src)
					if err == io.EOF {
						src.lent, err = 0, nil
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkCaptures: all reference captures, from file to fingerprints, per
// packet: mostly handshakes, so nearly every packet is the expensive kind.
func BenchmarkCaptures(b *testing.B) {
	paths := captures(b)
	packets := uint64(0)
	for b.Loop() {
		for _, path := range paths {
			_, totals := fingerprintsOf(b, path, Config{})
			packets += totals.Packets
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
}

// A capture is read to its end: however long an SSH session was silent in it,
// and whenever its last ACK came, it is one window.
func TestSilenceInFileEndsNoWindow(t *testing.T) {
	const ack = flow.ACK
	for _, silence := range []time.Duration{time.Minute, 5 * time.Minute, 2 * time.Hour} {
		packets := []capture.Packet{
			raw(0, frame(1, true, flow.SYN, 0, "")),
			raw(1, frame(1, false, flow.SYN|ack, 0, "")),
			raw(2, frame(1, true, ack, 1, "")),
			raw(3, frame(1, true, ack|flow.PSH, 1, "SSH-2.0-a\r\n")),
			raw(silence, frame(1, false, ack|flow.PSH, 1, "SSH-2.0-bc\r\n")),
			raw(silence+1, frame(1, true, ack|flow.FIN, 12, "")),
			raw(silence+2, frame(1, false, ack|flow.FIN, 13, "")),
			raw(silence+15*time.Second, frame(1, true, ack, 13, "")),
		}
		got := valuesOf(t, &list{packets: packets})
		if want := "c11s12_c1s1_c2s0"; !strings.Contains(fmt.Sprint(got), want) || strings.Count(fmt.Sprint(got), "ja4ssh") > 1 {
			t.Errorf("after a silence of %v: %v, want one window %s", silence, got, want)
		}
	}
}

func sshSession(n uint32, at time.Duration) []capture.Packet {
	const ack = flow.ACK
	return []capture.Packet{
		raw(at, frame(n, true, flow.SYN, 0, "")),
		raw(at+1, frame(n, false, flow.SYN|ack, 0, "")),
		raw(at+2, frame(n, true, ack, 1, "")),
		raw(at+3, frame(n, true, ack|flow.PSH, 1, "SSH-2.0-a\r\n")),
		raw(at+4, frame(n, false, ack|flow.PSH, 1, "SSH-2.0-bc\r\n")),
		raw(at+5, frame(n, true, ack|flow.FIN, 12, "")),
		raw(at+6, frame(n, false, ack|flow.FIN, 13, "")),
	}
}

// A collector forgets a closed connection after some seconds of packet time: the
// window of a short SSH session comes before that, also where a batch holds
// minutes, and whether the session is in that batch or in one before.
func TestWindowOfAShortSessionIsInTime(t *testing.T) {
	for _, between := range []int{0, maxRows} {
		packets := sshSession(1, 0)
		for i := range between {
			packets = append(packets, raw(10+time.Duration(i), frame(2, true, flow.ACK, uint32(i), "")))
		}
		for i := range 100 {
			packets = append(packets, raw(time.Duration(i+1)*4*time.Second, frame(3, true, flow.ACK, uint32(i), "")))
		}
		c, _ := mustRun(t, Config{}, &list{packets: packets})
		found := 0
		for _, b := range c.batches {
			for _, f := range b.Fingerprints {
				if f.Type != ja4.TypeJA4SSH {
					continue
				}
				found++
				if newest := time.Duration(slices.Max(b.Time) - epoch); f.Row == 0 && newest > 4*time.Second {
					t.Errorf("%d packets between: in a batch of packets up to %v, at none of them", between, newest)
				} else if f.Row > 0 && b.Flow[f.Row-1]>>1 != f.Flow {
					t.Errorf("%d packets between: at a row of another flow", between)
				}
			}
		}
		if found != 1 {
			t.Errorf("%d packets between: %d windows, want 1", between, found)
		}
	}
}

// On a line where nothing else is said the window comes by the clock.
func TestWindowOfALiveSessionNeedsNoOtherPacket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		start := time.Now()
		packets := sshSession(1, 0)
		for i := range packets {
			packets[i].Time = start.UnixNano() + int64(i)
		}
		p, err := New(Config{Live: true}, c, &list{live: true, packets: packets})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		var got time.Duration
		for i, b := range c.batches {
			for _, f := range b.Fingerprints {
				if f.Type == ja4.TypeJA4SSH {
					got = c.at[i].Sub(start)
				}
			}
		}
		if got == 0 || got > 6*time.Second {
			t.Errorf("the window was reported after %v, want some 4 s", got)
		}
	})
}
