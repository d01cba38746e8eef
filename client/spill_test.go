package client

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// spooling is a live reporter with a small buffer and a spool.
func spooling(dir string) ReporterConfig {
	return ReporterConfig{ProbeID: "probe", Live: true, Full: DropOldest, BufferBytes: MinBufferBytes, SpoolDir: dir, SpoolMaxBytes: 16 << 20}
}

// gate is a switch: while it is closed the collector refuses streams.
type gate struct{ s *ingest }

func away(s *ingest) gate { return gate{s}.set(true) }

func (g gate) set(closed bool) gate {
	g.s.mu.Lock()
	defer g.s.mu.Unlock()
	g.s.refuse = nil
	if closed {
		g.s.refuse = func(int) error { return status.Error(codes.Unavailable, "away") }
	}
	return g
}

func report(t *testing.T, r *Reporter, packets int) {
	t.Helper()
	if err := r.Report(t.Context(), testBatch(packets)); err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, r *Reporter, ended <-chan error) {
	t.Helper()
	if err := r.Finish(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	balanced(t, r.Stats())
}

// emptied fails unless nothing but the lock is left in a spool.
func emptied(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left in the spool: %v, %v; want the lock alone", left, err)
	}
}

// A collector that is away for longer than the buffer lasts costs nothing: what
// does not fit lies on disk and is sent in order when it is back.
func TestSpoolHoldsWhatTheBufferCannot(t *testing.T) {
	for _, full := range []FullPolicy{DropOldest, Block} {
		synctest.Test(t, func(t *testing.T) {
			s := &ingest{}
			g := away(s)
			cfg := spooling(t.TempDir())
			cfg.Full = full
			r := mustReporter(t, serve(t, s.register), cfg)
			ended := running(t, r)
			const batches = 400 // 4.7 MB in a buffer of 256 KiB
			for range batches {
				report(t, r, 4000)
			}
			balanced(t, r.Stats())
			if st := r.Stats(); st.HeldPackets != batches*4000 || st.LostPackets != 0 || st.HeldBatches != batches || st.SpooledPackets < 300*4000 {
				t.Errorf("while the collector is away: %+v", st)
			}
			g.set(false)
			finish(t, r, ended)
			if s.packets != batches*4000 || s.lost != 0 {
				t.Errorf("%d packets counted, %d lost, want %d and 0", s.packets, s.lost, batches*4000)
			}
			emptied(t, cfg.SpoolDir)
		})
	}
}

// Beyond the spool the oldest segments become one Lost record, exact to the
// packet, that says why.
func TestSpoolBeyondItsLimitCountsTheLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		g := away(s)
		cfg := spooling(t.TempDir())
		cfg.SpoolMaxBytes = MinSpoolBytes
		r := mustReporter(t, serve(t, s.register), cfg)
		ended := running(t, r)
		const batches = 500
		for range batches {
			report(t, r, 4000)
			balanced(t, r.Stats())
		}
		if st := r.Stats(); st.SpoolBytes > MinSpoolBytes {
			t.Errorf("the spool has %d bytes, at most %d are allowed", st.SpoolBytes, MinSpoolBytes)
		}
		g.set(false)
		finish(t, r, ended)
		st := r.Stats()
		if s.packets+s.lost != batches*4000 || s.lost != st.LostPackets || s.lost == 0 || st.LostByReason["spool-full"] != s.lost {
			t.Errorf("%d counted + %d lost of %d; stats %+v", s.packets, s.lost, batches*4000, st)
		}
		for _, l := range s.records {
			if l.GetReason() != "spool-full" {
				t.Errorf("Lost record %v, want it to say spool-full", l)
			}
		}
	})
}

// A reporter that ends while the collector is away leaves everything in the
// spool; the next one goes on with the session and nothing is missing.
func TestSpoolCarriesASessionOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		g := away(s)
		cfg := spooling(t.TempDir())
		c := serve(t, s.register)
		total := uint64(0)
		for range 3 {
			r := mustReporter(t, c, cfg)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- r.Run(ctx) }()
			for i := range 50 {
				report(t, r, 100+i)
				total += uint64(100 + i)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if st := r.Stats(); st.HeldPackets != total || st.SpooledPackets != total || st.LostPackets != 0 {
				t.Errorf("after the end: %+v, want all of %d packets in the spool", st, total)
			}
			balanced(t, r.Stats())
			if info, waiting, err := DescribeSpool(cfg.SpoolDir); err != nil || !waiting || info.ProbeID != "probe" || !info.Live {
				t.Errorf("DescribeSpool: %+v, %v, %v", info, waiting, err)
			}
		}
		g.set(false)
		r := mustReporter(t, c, cfg)
		if st := r.Stats(); st.ResumedPackets != total {
			t.Errorf("%d packets resumed, want %d", st.ResumedPackets, total)
		}
		ended := running(t, r)
		finish(t, r, ended)
		if s.packets != total || len(s.records) != 0 {
			t.Errorf("%d packets counted and %v lost, want %d and none", s.packets, s.records, total)
		}
		for _, h := range s.hellos {
			if !bytes.Equal(h.GetSessionId(), s.hellos[0].GetSessionId()) {
				t.Errorf("session %x after %x", h.GetSessionId(), s.hellos[0].GetSessionId())
			}
		}
		emptied(t, cfg.SpoolDir)
	})
}

// copyDir copies a spool as a crash at this moment would leave it.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.Mkdir(to, 0o700); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		p, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) || e.Name() == "lock" {
			continue // it was removed just now
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, e.Name()), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// Killed at any moment, in any state of the collector, a probe comes back to
// its session: nothing is counted twice, what was in the spool is counted, and
// what is missing is no more than what was in memory alone.
func TestSpoolAcrossCrashes(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			s := &ingest{window: 1 + uint32(rng.IntN(8))}
			g := gate{s}
			c := serve(t, s.register)
			cfg := spooling(t.TempDir())
			cfg.SpoolAfter = time.Duration(1+rng.IntN(2000)) * time.Millisecond
			reported, atRisk := uint64(0), uint64(0)
			for life := range 6 {
				r := mustReporter(t, c, cfg)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- r.Run(ctx) }()
				for range rng.IntN(200) {
					n := 1 + rng.IntN(3000)
					report(t, r, n)
					reported += uint64(n)
					switch rng.IntN(12) {
					case 0:
						g.set(rng.IntN(2) == 0)
					case 1:
						time.Sleep(time.Duration(rng.IntN(1500)) * time.Millisecond) // by the bubble's clock
					}
				}
				if life < 5 {
					if rng.IntN(2) == 0 {
						time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond) // by the bubble's clock
					}
					r.mu.Lock() // the moment of the crash: between two writes
					st := r.stats
					onDisk := r.ring.onDisk()
					dir := copyDir(t, cfg.SpoolDir)
					r.mu.Unlock()
					atRisk += st.HeldPackets - onDisk
					cfg.SpoolDir = dir
					cancel()
					<-ended
					continue
				}
				g.set(false)
				if err := r.Finish(t.Context(), false); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if err := <-ended; err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				balanced(t, r.Stats())
				cancel()
			}
			if got := s.packets + s.lost; got > reported || reported-got > atRisk {
				t.Errorf("seed %d: %d counted + %d lost of %d packets; at most %d were in memory alone at a crash", seed, s.packets, s.lost, reported, atRisk)
			}
			emptied(t, cfg.SpoolDir)
		})
	}
}

// What is damaged in the spool is lost and counted; the rest is sent.
func TestSpoolDamageIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		g := away(s)
		cfg := spooling(t.TempDir())
		c := serve(t, s.register)
		r := mustReporter(t, c, cfg)
		ended := running(t, r)
		for range 200 {
			report(t, r, 4000)
		}
		time.Sleep(5 * time.Second) // by the bubble's clock
		names, err := filepath.Glob(filepath.Join(cfg.SpoolDir, "*.batches"))
		if err != nil || len(names) == 0 {
			t.Fatalf("segments %v, %v", names, err)
		}
		p, err := os.ReadFile(names[0])
		if err != nil {
			t.Fatal(err)
		}
		p[len(p)/2] ^= 1
		if err := os.WriteFile(names[0], p, 0o600); err != nil {
			t.Fatal(err)
		}
		g.set(false)
		finish(t, r, ended)
		if s.packets != 199*4000 || s.lost != 4000 || r.Stats().LostByReason["spool-damaged"] != 4000 {
			t.Errorf("%d packets counted, %d lost (%v), want all but one batch of 4000", s.packets, s.lost, s.records)
		}
	})
}

// A spool that is older than what the collector has seen of its session must
// not number batches anew: that would lose them without a word.
func TestSpoolOlderThanItsSessionIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		cfg := spooling(t.TempDir())
		c := serve(t, s.register)
		r := mustReporter(t, c, cfg)
		old := copyDir(t, cfg.SpoolDir)
		ended := running(t, r)
		for range 300 {
			report(t, r, 10)
		}
		finish(t, r, ended)
		cfg.SpoolDir = old
		r = mustReporter(t, c, cfg)
		err := <-running(t, r)
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), old) {
			t.Errorf("Run with an old copy: %v, want FailedPrecondition that names it", err)
		}
	})
}

// A spool that cannot be written leaves batches in memory, says so once, loses
// the oldest like a reporter without one, and works again by itself.
func TestSpoolThatFailsRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		g := away(s)
		cfg := spooling(filepath.Join(t.TempDir(), "spool"))
		said := make(chan error, 100)
		cfg.OnSpool = func(err error) { said <- err }
		r := mustReporter(t, serve(t, s.register), cfg)
		if err := os.Rename(cfg.SpoolDir, cfg.SpoolDir+".gone"); err != nil {
			t.Fatal(err)
		}
		ended := running(t, r)
		for range 100 {
			report(t, r, 4000)
		}
		time.Sleep(5 * time.Second) // by the bubble's clock
		if err := <-said; err == nil {
			t.Error("OnSpool(nil) before an error")
		}
		lost := r.Stats().LostByReason["ring-full"]
		if lost == 0 {
			t.Errorf("nothing is lost although nothing can be written: %+v", r.Stats())
		}
		if err := os.Rename(cfg.SpoolDir+".gone", cfg.SpoolDir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // by the bubble's clock
		if err := <-said; err != nil {
			t.Errorf("OnSpool(%v), want that it works again", err)
		}
		for range 100 {
			report(t, r, 4000)
		}
		g.set(false)
		finish(t, r, ended)
		if s.lost != lost || s.packets+s.lost != 200*4000 {
			t.Errorf("%d counted + %d lost, want %d with %d lost", s.packets, s.lost, 200*4000, lost)
		}
		if len(said) != 0 {
			t.Errorf("OnSpool was called %d times more", len(said))
		}
	})
}

// While the collector answers, nothing is written.
func TestSpoolIsNotWrittenWhileAllIsWell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		cfg := spooling(t.TempDir())
		r := mustReporter(t, serve(t, s.register), cfg)
		ended := running(t, r)
		for range 300 {
			report(t, r, 4000)
			time.Sleep(200 * time.Millisecond) // by the bubble's clock
		}
		if names, err := filepath.Glob(filepath.Join(cfg.SpoolDir, "*.batches")); err != nil || len(names) != 0 {
			t.Errorf("segments %v, %v; want none", names, err)
		}
		finish(t, r, ended)
	})
}

// Who reads files waits for a collector that is there, however slow it is, and
// writes nothing.
func TestSpoolIsNotWrittenWhileAReplayWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{window: 4, hold: make(chan struct{})}
		cfg := spooling(t.TempDir())
		cfg.Full, cfg.Live = Block, false
		r := mustReporter(t, serve(t, s.register), cfg)
		ended := running(t, r)
		synctest.Wait()
		for range MinBufferBytes / encodedSize(testBatch(4000)) {
			report(t, r, 4000)
		}
		time.Sleep(10 * time.Second) // by the bubble's clock
		if names, err := filepath.Glob(filepath.Join(cfg.SpoolDir, "*.batches")); err != nil || len(names) != 0 {
			t.Errorf("segments %v, %v; want none", names, err)
		}
		close(s.hold)
		finish(t, r, ended)
	})
}

// Who makes a second reporter on one spool is told who has it; Close frees it.
func TestSpoolHasOneOwner(t *testing.T) {
	c := serve(t, (&ingest{}).register)
	cfg := spooling(t.TempDir())
	r := mustReporter(t, c, cfg)
	if _, err := c.Reporter(cfg); !SpoolInUse(err) {
		t.Errorf("a second reporter: %v, want that the spool is in use", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Report(t.Context(), testBatch(1)); !errors.Is(err, ErrFinished) {
		t.Errorf("Report after Close: %v, want ErrFinished", err)
	}
	r = mustReporter(t, c, cfg)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}
