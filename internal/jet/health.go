package jet

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	// answerWithin is how long an engine may take to say how it is: it says
	// nothing while it waits for the disk.
	answerWithin = 5 * time.Second
	// hungFor is how long an engine may be silent while the disk works. There are
	// errors, such as half a write of a purge, after which JetStream waits for
	// itself.
	hungFor = 30 * time.Second
)

// pulse remembers since when an engine has not answered. Safe for concurrent use.
type pulse struct {
	mu     sync.Mutex // guards all below
	asking chan error // the question that has no answer yet, nil when there is none
	silent time.Time  // since when, zero while it answers
}

// since returns for how long the engine has been silent, 0 when it answers.
func (p *pulse) since() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.silent.IsZero() {
		return 0
	}
	return max(time.Since(p.silent), 1)
}

// ask returns what question returns, or ErrHung when that takes too long. The
// question goes on then: there is one at a time, and who asks meanwhile waits for
// its answer.
func (p *pulse) ask(question func() error) error {
	p.mu.Lock()
	answer := p.asking
	if answer == nil {
		answer = make(chan error, 1)
		p.asking = answer
		go func() {
			err := question()
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asking, p.silent = nil, time.Time{}
			answer <- err
			close(answer)
		}()
	}
	p.mu.Unlock()
	late := time.NewTimer(answerWithin)
	defer late.Stop()
	select {
	case err, first := <-answer:
		if !first {
			return p.ask(question) // another took the answer; ask anew
		}
		return err
	case <-late.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asking == answer && p.silent.IsZero() {
		p.silent = time.Now().Add(-answerWithin)
	}
	return ErrHung
}

// healthy says why e cannot write, nil when it can. It returns within
// answerWithin or a little more.
func (e *engine) healthy() error {
	return e.pulse.ask(func() error {
		if !e.server.JetStreamEnabled() {
			return errors.New("jetstream shut itself down")
		}
		if h := e.server.Healthz(&server.HealthzOptions{}); h.Error != "" {
			return errors.New(h.Error)
		}
		return nil
	})
}

// Hung returns a channel that is closed when the engine has been silent for long
// although the disk works: it will not answer again, and nothing helps but a new
// process.
func (s *Server) Hung() <-chan struct{} { return s.hung }

// lookAtDisk finds out whether e, which does not answer, waits for the disk. If it
// does not it is given up.
func (s *Server) lookAtDisk(e *engine) {
	silent := e.pulse.since()
	if silent < hungFor || !s.looking.CompareAndSwap(false, true) {
		return
	}
	// A disk that hangs lets go of this when it works again.
	go func() {
		if err := writable(s.cfg.Dir); err == nil {
			time.Sleep(answerWithin) // whoever waited for the same disk goes on now
			if now := e.pulse.since(); now > silent {
				s.cfg.Logger.Error("jetstream does not answer although the disk works", slog.Duration("for", now.Round(time.Second)))
				close(s.hung)
				return
			}
		}
		s.looking.Store(false)
	}()
}
