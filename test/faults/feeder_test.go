//go:build e2e

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
)

// floorRate is the load, in packets/s acknowledged, that a fault must meet. The
// feeder sends a third more.
var floorRate = func() float64 {
	if v, err := strconv.ParseFloat(os.Getenv("WHORL_FAULTS_FLOOR"), 64); err == nil {
		return v
	}
	return scaled(30_000.0, 100_000)
}()

// feeder sends the connections of the truth, in order, through a client.Reporter.
type feeder struct {
	t        testing.TB
	reporter *client.Reporter
	ended    chan error
	stop     context.CancelFunc
	halt     chan struct{}
	halted   chan struct{}
	silence  time.Duration // between bursts; 0 is steady traffic

	batches atomic.Int64 // reported
	quiet   atomic.Int64 // when the silence of now began, 0 in a burst
	// What follows is set when it has ended.
	truth   sums // of all connections
	conns   conn
	failure error
}

// packetTime is when the traffic of all tests begins.
var packetTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()

// silence is between the bursts of live traffic: longer than the timeouts.
const silence = 6 * time.Second

// startFeeder sends at a rate in packets/s, as fast as it goes with 0, until
// finish is called. With cfg.Live its times are those of now, and it comes in
// bursts: in the silences between, it is the log's time that evicts.
func startFeeder(t testing.TB, cl *client.Client, cfg client.ReporterConfig, rate float64) *feeder {
	t.Helper()
	if cfg.ProbeID == "" {
		cfg.ProbeID = "feeder"
	}
	r, err := cl.Reporter(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &feeder{t: t, reporter: r, ended: make(chan error, 1), stop: cancel, halt: make(chan struct{}), halted: make(chan struct{})}
	if cfg.Live {
		f.silence = silence
	}
	go func() { f.ended <- r.Run(ctx) }()
	go f.feed(ctx, rate)
	t.Cleanup(func() { cancel(); <-f.halted })
	return f
}

// sent reports whether a connection below f.conns was sent.
func (f *feeder) sent(c conn) bool { return begins(int(c)/connsPerBatch, f.silence > 0) }

// packetsPerBatch is the mean.
const packetsPerBatch = connsPerBatch * 20

// feed reports batches until it is told to halt, and then those that the last
// connections still need.
func (f *feeder) feed(ctx context.Context, rate float64) {
	defer close(f.halted)
	step := int64(150 * time.Millisecond)
	begin, b := time.Now(), &flow.Batch{}
	end, last := conn(maxConns), -1
	paused := time.Duration(0)
	for n := 0; last < 0 || n < last; n++ {
		select {
		case <-f.halt:
			if last < 0 {
				end, last = conn(n*connsPerBatch), n+batchesOfConn-1
			}
		default:
		}
		if (n+batchesOfConn)*connsPerBatch >= maxConns && last < 0 {
			end, last = conn(n*connsPerBatch), n+batchesOfConn-1
		}
		at := packetTime + int64(n)*step
		if f.silence > 0 {
			at = time.Now().UnixNano()
		}
		fill(b, n, at, end, f.silence > 0)
		if b.Rows() > 0 {
			before := time.Now()
			if err := f.reporter.Report(ctx, b); err != nil {
				f.failure = fmt.Errorf("report batch %d: %w", n, err)
				return
			}
			paused += time.Since(before)
		}
		f.batches.Add(1)
		if n%burst == burst-1 && f.silence > 0 && last < 0 {
			f.quiet.Store(time.Now().UnixNano())
			select {
			case <-time.After(f.silence):
			case <-f.halt:
			}
			f.quiet.Store(0)
		}
		if rate > 0 {
			due := begin.Add(paused + time.Duration(float64(n)*packetsPerBatch/rate*1e9))
			time.Sleep(time.Until(due))
		}
	}
	f.conns = end
	for c := range end {
		if f.sent(c) {
			f.truth.add(c.sums())
		}
	}
}

// finish ends the traffic, waits until all of it is acknowledged and every
// connection was told to leave, and returns what is wrong.
func (f *feeder) finish(patience time.Duration) (wrong []string) {
	close(f.halt)
	select {
	case <-f.halted:
	case <-time.After(patience):
		return []string{fmt.Sprintf("the feeder cannot report: %+v", f.reporter.Stats())}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.reporter.Finish(ctx, true); err != nil || f.failure != nil {
		return []string{fmt.Sprintf("finish: %v, %v: %+v", err, f.failure, f.reporter.Stats())}
	}
	if err := <-f.ended; err != nil {
		return []string{fmt.Sprintf("the reporter: %v", err)}
	}
	s := f.reporter.Stats()
	if s.Packets != f.truth.packets || s.Packets+s.ResumedPackets != s.DurablePackets+s.LostPackets+s.RejectedPackets+s.ForgottenPackets || s.HeldPackets != 0 {
		return []string{fmt.Sprintf("sent %d packets, the reporter says %+v", f.truth.packets, s)}
	}
	return nil
}

// acked is how many packets are acknowledged as durable.
func (f *feeder) acked() uint64 { return f.reporter.Stats().DurablePackets }

// load waits until the floor was met for half a second, from now, and returns
// the rate. It is false when that does not come to pass; the rate is that of the
// best half second then.
func (f *feeder) load(floor float64, patience time.Duration) (float64, bool) {
	best := 0.0
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		before, begin := f.acked(), time.Now()
		time.Sleep(500 * time.Millisecond)
		rate := float64(f.acked()-before) / time.Since(begin).Seconds()
		if rate >= floor {
			return rate, true
		}
		best = max(best, rate)
	}
	return best, false
}

// awaitQuiet waits until a silence is so old and all before it is acknowledged.
func (f *feeder) awaitQuiet(age, patience time.Duration) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		since := f.quiet.Load()
		if since > 0 && time.Since(time.Unix(0, since)) >= age && f.reporter.Stats().HeldPackets == 0 {
			return
		}
	}
}

// await waits until so many packets more are acknowledged.
func (f *feeder) await(packets uint64, patience time.Duration) bool {
	want := f.acked() + packets
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if f.acked() >= want {
			return true
		}
	}
	return false
}

// underLoad waits until f has kept up the load that makes a fault count. A load
// that does not come is told with all that is needed to find out why.
func underLoad(t *testing.T, c *collector, f *feeder) {
	t.Helper()
	before := f.acked()
	const patience = 30 * time.Second
	rate, ok := f.load(floorRate, patience)
	if ok {
		return
	}
	mean := float64(f.acked()-before) / patience.Seconds()
	t.Errorf("the load is %.0f packets/s in the best half second and %.0f on average, want %.0f in one half second: %+v",
		rate, mean, floorRate, f.reporter.Stats())
	if mean == 0 {
		t.Errorf("nothing moves: what the goroutines do is in %s and %s", c.dump(), dumpOwn())
	}
	t.FailNow()
}

// dumpOwn writes what the goroutines of the test do to a file.
func dumpOwn() string {
	stacks := make([]byte, 16<<20)
	return keep(stacks[:runtime.Stack(stacks, true)])
}

// keep writes p to a file that outlives the test, and returns its name.
func keep(p []byte) string {
	f, err := os.CreateTemp("", "whorl-faults-*.txt")
	if err == nil {
		_, err = f.Write(p)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return err.Error()
	}
	return f.Name()
}
