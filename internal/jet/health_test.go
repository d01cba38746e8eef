package jet

import (
	"errors"
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
		asked, answers := 0, make(chan error)
		question := func() error { asked++; return <-answers }
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
		if asked != 1 || time.Since(began) != 3*answerWithin || p.since() != 3*answerWithin {
			t.Errorf("asked %d times in %v, silent for %v; want once, %v", asked, time.Since(began), p.since(), 3*answerWithin)
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

// An engine that is silent for long while the disk works is given up, once; one
// that answers meanwhile is not.
func TestHung(t *testing.T) {
	for _, answers := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			s := start(t, dir) // none of its goroutines waits in the bubble
			_ = s
		})
		_ = answers
	}
}
