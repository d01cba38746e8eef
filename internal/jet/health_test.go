package jet

import (
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// An engine that does not answer is said to hang after a while, to everybody who
// asks, and no question is asked twice meanwhile; when it answers all is well.
func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pulse
		sick := errors.New("sick")
		if err := p.ask(func() error { return sick }); err != sick || p.since() != 0 {
			t.Errorf("%v, silent for %v; want its answer", err, p.since())
		}
		answers := make(chan error)
		var asked atomic.Int32
		question := func() error { asked.Add(1); return <-answers }
		began := time.Now()
		for range 3 {
			done := make(chan error, 2)
			for range 2 {
				go func() { done <- p.ask(question) }()
			}
			for range 2 {
				if err := <-done; !errors.Is(err, ErrHung) {
					t.Errorf("%v, want ErrHung", err)
				}
			}
		}
		if asked.Load() != 1 || time.Since(began) != 3*answerWithin || p.since() != 3*answerWithin {
			t.Errorf("asked %d times in %v, silent for %v; want once, %v", asked.Load(), time.Since(began), p.since(), 3*answerWithin)
		}
		answers <- nil
		synctest.Wait()
		if p.since() != 0 {
			t.Errorf("silent for %v after an answer", p.since())
		}
		if err := p.ask(func() error { return nil }); err != nil {
			t.Error(err)
		}
	})
}

// An engine that is silent for long while the disk works is given up; one that
// answers before that is sure is not, nor is one whose disk takes nothing.
func TestHung(t *testing.T) {
	for _, c := range []struct {
		name          string
		answers, disk bool
		want          bool
	}{
		{"silent", false, true, true},
		{"answers", true, true, false},
		{"no disk", false, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if !c.disk {
				dir = filepath.Join(dir, "gone")
			}
			synctest.Test(t, func(t *testing.T) {
				s := &Server{cfg: Config{Dir: dir, Logger: slog.New(slog.DiscardHandler)}, hung: make(chan struct{})}
				var e engine
				answer := make(chan error)
				go e.pulse.ask(func() error { return <-answer })
				for range 4 * hungFor / time.Second {
					time.Sleep(time.Second)
					s.lookAtDisk(&e)
					if c.answers && e.pulse.since() > hungFor {
						answer <- nil // just as the disk was found to work
						c.answers = false
						synctest.Wait()
					}
				}
				select {
				case <-s.Hung():
					if !c.want {
						t.Error("it was given up")
					}
				default:
					if c.want {
						t.Error("it was not given up")
					}
				}
				select {
				case answer <- nil:
				default:
				}
			})
		})
	}
}
