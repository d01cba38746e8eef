//go:build e2e

package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// fates are what may become of a call of each kind.
var fates = [deedKinds][]fate{
	deedWrite:    {fateFails, fateFull, fateShort, fateKill, fateTorn, fateDone},
	deedSync:     {fateFails, fateKill, fateDone},
	deedRename:   {fateFails, fateKill, fateDone},
	deedCreate:   {fateFails, fateFull, fateKill},
	deedTruncate: {fateFails, fateKill},
	deedRemove:   {fateFails, fateKill, fateDone},
}

// The small workload: so many batches, one each so often, then the connections
// are told to leave. Checkpoints come in between, and the log is trimmed.
const (
	nthBatches = 20
	nthEvery   = 40 * time.Millisecond
)

var nthArgs = []string{"--shards", "4", "--checkpoint-every", "200ms", "--log-max-bytes", "64MiB"}

// Whichever write, fsync, rename or other call on its files fails, is cut short
// or is the last thing a collector does: what was acknowledged is there, once,
// and so is what was not, once it was sent again. A collector that is not killed
// goes on by itself; one that cannot start says so, and the next start can.
func TestEveryCallFails(t *testing.T) {
	counts := func() [deedKinds]int {
		r := newNth(t, plan{})
		r.run()
		if len(r.wrong) > 0 {
			t.Fatalf("the workload without a fault: %v", r.wrong)
		}
		return r.warden.counts
	}()
	if counts[deedWrite] == 0 || counts[deedSync] == 0 || counts[deedRename] == 0 {
		t.Fatalf("calls of the workload: %v of %v; it shows nothing", counts, deedNames)
	}
	t.Logf("calls of the workload: %v of %v", counts, deedNames)
	var plans []plan
	for d, n := range counts {
		for _, f := range fates[d] {
			step := 1
			if !long {
				step = max(1, n/scaled(3, n))
			}
			for nth := 1; nth <= n; nth += step {
				plans = append(plans, plan{deed: deed(d), nth: nth, fate: f})
			}
		}
	}
	if only := os.Getenv("WHORL_FAULTS_PLAN"); only != "" { // such as "sync 7: EIO", to look at one
		wanted := regexp.MustCompile(only)
		plans = slices.DeleteFunc(plans, func(p plan) bool { return !wanted.MatchString(p.String()) })
	}
	var hit, missed, refused, away, hung, failed atomic.Int64
	var mu sync.Mutex
	var complaints []string
	room := make(chan struct{}, scaled(3, 6))
	var all sync.WaitGroup
	for _, p := range plans {
		room <- struct{}{}
		if failed.Load() > 10 {
			t.Error("enough")
			break
		}
		all.Go(func() {
			defer func() { <-room }()
			r := newNth(t, p)
			r.run()
			mu.Lock()
			defer mu.Unlock()
			if r.struck == "" {
				missed.Add(1)
			} else {
				hit.Add(1)
			}
			refused.Add(int64(r.refused))
			away.Add(int64(r.notServing))
			hung.Add(int64(r.hung))
			if len(r.wrong) > 0 {
				failed.Add(1)
				complaints = append(complaints, fmt.Sprintf("%v (%s): %s\nthe collector said:\n%s", p, r.struck, strings.Join(r.wrong, "; "), r.c.log.tail()))
			}
		})
	}
	all.Wait()
	for _, c := range complaints {
		t.Error(c)
	}
	if hit.Load() < int64(len(plans))/2 {
		t.Errorf("%d of %d calls were hit: the workload differs too much from time to time", hit.Load(), len(plans))
	}
	t.Logf("%d calls hit, %d not reached; %d starts refused, health said NOT_SERVING in %d runs, the engine was given up in %d",
		hit.Load(), missed.Load(), refused.Load(), away.Load(), hung.Load())
}

// nth is one run of the workload.
type nth struct {
	t      *testing.T
	plan   plan
	warden *warden
	c      *collector

	struck              string
	refused, notServing int
	hung                int
	wrong               []string
}

func newNth(t *testing.T, p plan) *nth {
	dir, err := os.MkdirTemp(t.TempDir(), "data")
	if err != nil {
		t.Fatal(err)
	}
	r := &nth{t: t, plan: p, c: newCollector(t, dir, nthArgs...)}
	r.warden = &warden{t: t, dir: dir, plan: p, broken: make(map[string]bool)}
	r.c.guard, r.c.quiet = r.warden.guard, true
	return r
}

func (r *nth) complain(format string, args ...any) {
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// hit returns the call that was hit, empty if none was.
func (r *nth) hit() string {
	r.warden.mu.Lock()
	defer r.warden.mu.Unlock()
	return r.warden.struck
}

// run runs the workload and everything that is checked.
func (r *nth) run() {
	defer func() {
		r.struck = r.hit()
		r.c.kill()
		os.RemoveAll(r.warden.dir)
	}()
	if !r.begin() {
		return
	}
	f := r.feed()
	a := startAuditor(r.t, r.c.addr, 1, 0)
	defer a.end()
	if !r.attend(f) {
		return
	}
	verdict := make(chan []string, 1)
	go func() { verdict <- a.verdict(f.asFeeder(), 30*time.Second) }()
	if !r.await(verdict) {
		return
	}
	a.end()
	if !r.again() {
		return
	}
	a = startAuditor(r.t, r.c.addr, 1, 0)
	defer a.end()
	r.wrong = append(r.wrong, a.verdict(f.asFeeder(), 20*time.Second)...)
	cl, err := client.Dial(context.Background(), r.c.addr, client.WithLazy(), client.WithTimeout(5*time.Second))
	if err != nil {
		r.complain("dial: %v", err)
		return
	}
	defer cl.Close()
	r.wrong = append(r.wrong, counted(r.t, cl, f.asFeeder())...)
	if bad := r.c.trouble(); bad != "" {
		r.complain("the log speaks of a bug: %s", bad)
	}
}

// begin starts the collector; one that cannot start under a fault says why, and
// can without.
func (r *nth) begin() bool {
	_, err := r.c.tryStart()
	if err == nil {
		return true
	}
	struck := r.hit()
	switch {
	case struck == "":
		r.complain("start: %v", err)
		return false
	case r.c.cmd.ProcessState == nil:
		r.complain("start: %v", err)
		return false
	case r.plan.fate < fateKill:
		r.refused++
		if code := r.c.cmd.ProcessState.ExitCode(); code <= 0 || !strings.Contains(r.c.log.tail(), "whorl:") && !strings.Contains(r.c.log.tail(), "data directory") {
			r.complain("a start that was refused ended with %v and does not say why", r.c.cmd.ProcessState)
		}
	}
	return r.restart()
}

// restart starts it without faults.
func (r *nth) restart() bool {
	r.c.kill()
	r.c.guard = nil
	if _, err := r.c.tryStart(); err != nil {
		r.complain("the start behind it: %v", err)
		return false
	}
	return true
}

// attend waits until everything is acknowledged, and starts the collector again
// when it was killed, and for that reason only.
func (r *nth) attend(f *smallFeeder) bool {
	patience := time.After(2 * time.Minute)
	frozen, frozenSince := uint64(0), time.Time{}
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	said := false
	for {
		select {
		case err := <-f.ended:
			if err != nil {
				r.complain("the feeder: %v; %+v", err, f.reporter.Stats())
			}
			return err == nil
		case <-r.c.done:
			if !r.revive() {
				f.stop()
				return false
			}
		case <-look.C:
			if r.plan.fate != fateFull || r.c.guard == nil || r.hit() == "" {
				continue
			}
			// What was written before may still be synced, and acknowledged when the
			// machine comes to it; then nothing.
			r.warden.mu.Lock()
			age := time.Since(r.warden.since)
			r.warden.mu.Unlock()
			acked := f.reporter.Stats().DurablePackets
			switch {
			case age > fullFor:
			case age > 600*time.Millisecond && frozenSince.IsZero():
				frozen, frozenSince = acked, time.Now()
			case !frozenSince.IsZero() && acked != frozen:
				r.complain("%d packets were acknowledged while the disk took nothing", acked-frozen)
				frozen = acked
			}
			if !said && age > 700*time.Millisecond && age < fullFor {
				if st, err := r.c.health(context.Background(), whorlv1.IngestService_ServiceDesc.ServiceName); err == nil && st == healthv1.HealthCheckResponse_NOT_SERVING {
					said = true
					r.notServing++
				}
			}
		case <-patience:
			r.complain("it does not go on: %+v", f.reporter.Stats())
			f.stop()
			return false
		}
	}
}

// revive starts the collector again if it was killed on purpose, or gave itself up
// because its engine hung after half a write, as the page says it does.
func (r *nth) revive() bool {
	if r.plan.fate == fateShort && r.c.guard != nil && strings.Contains(r.c.log.tail(), "does not answer although the disk works") {
		r.hung++
		return r.restart()
	}
	if r.plan.fate < fateKill || r.hit() == "" || r.c.guard == nil {
		r.complain("the collector ended by itself: %v", r.c.cmd.ProcessState)
		return false
	}
	return r.restart()
}

// await waits for what an auditor says; the collector may be killed meanwhile.
func (r *nth) await(verdict <-chan []string) bool {
	for {
		select {
		case wrong := <-verdict:
			r.wrong = append(r.wrong, wrong...)
			return true
		case <-r.c.done:
			if !r.revive() {
				return false
			}
		}
	}
}

// again ends the collector, by turns as an operator does and as kill -9 does, and
// starts it without faults.
func (r *nth) again() bool {
	if r.plan.nth%2 == 0 {
		r.c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.c.done:
			if code := r.c.cmd.ProcessState.ExitCode(); code != 0 && (r.plan.fate < fateKill || r.hit() == "") {
				r.complain("SIGTERM: exit code %d", code)
			}
		case <-time.After(40 * time.Second):
			r.complain("it does not end within 40 s of SIGTERM")
			return false
		}
	}
	return r.restart()
}

// smallFeeder sends the small workload.
type smallFeeder struct {
	reporter *client.Reporter
	ended    chan error // when all is acknowledged, or cannot be
	stop     context.CancelFunc
	truth    sums
	conns    conn
}

// feed begins to send it.
func (r *nth) feed() *smallFeeder {
	cl := dial(r.t, r.c.addr)
	rep, err := cl.Reporter(client.ReporterConfig{ProbeID: "feeder"})
	if err != nil {
		r.t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &smallFeeder{reporter: rep, ended: make(chan error, 1), stop: cancel, conns: nthBatches * connsPerBatch}
	for c := range f.conns {
		f.truth.add(c.sums())
	}
	ran := make(chan error, 1)
	go func() { ran <- rep.Run(ctx) }()
	go func() {
		defer cancel()
		b := &flow.Batch{}
		for n := range nthBatches + batchesOfConn - 1 {
			fill(b, n, packetTime+int64(n)*int64(400*time.Millisecond), f.conns, false)
			if err := rep.Report(ctx, b); err != nil {
				f.ended <- fmt.Errorf("report batch %d: %w", n, err)
				return
			}
			time.Sleep(nthEvery)
		}
		err := rep.Finish(ctx, true)
		f.ended <- errors.Join(err, <-ran)
	}()
	return f
}

// asFeeder is what an auditor compares with.
func (f *smallFeeder) asFeeder() *feeder {
	return &feeder{truth: f.truth, conns: f.conns, reporter: f.reporter}
}
