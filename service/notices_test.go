package service

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// logBook collects the lines of a logger.
type logBook struct {
	mu    sync.Mutex // guards lines
	lines bytes.Buffer
}

func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.Write(p)
}

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lines.String()
}

func newLogBook() (*logBook, *slog.Logger) {
	b := &logBook{}
	return b, slog.New(slog.NewTextHandler(b, nil))
}

// The log at info tells who came and went, how, and what a shutdown has done.
func TestLogTellsComingAndGoing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		book, logger := newLogBook()
		r := newRig(t, Config{Logger: logger})
		hello := helloOf("probe-1", "s1")
		hello.Network = "lab"
		p, _ := r.report(hello)
		p.batch(packets(1, 0, 1))
		p.finish(false)
		p, _ = r.report(hello)
		p.batch(packets(2, 0, 1))
		p.acked(2)
		p.cancel()
		w := r.watch(t.Context(), &whorlv1.WatchRequest{Subscriber: "siem", Limit: 1})
		r.evict("s2", 2)
		if got, _, _ := collect(t, w, 10); len(got) != 1 {
			t.Fatalf("%d evictions, want 1", len(got))
		}
		time.Sleep(time.Second)
		r.stop()
		if err := <-r.ended; err != nil {
			t.Error(err)
		}
		r.ended <- nil
		log := book.String()
		for want, times := range map[string]int{
			`msg="new session" probe=probe-1 network=lab session=`:                               1,
			`msg="probe connected" probe=probe-1 network=lab kind=replay peer=bufconn applied=0`: 1,
			`msg="probe connected" probe=probe-1 network=lab kind=replay peer=bufconn applied=1`: 1,
			`msg="probe gone" probe=probe-1 network=lab peer=bufconn how=finished`:               1,
			`msg="probe gone" probe=probe-1 network=lab peer=bufconn how=cut`:                    1,
			`msg="subscriber came" subscriber=siem peer=bufconn cursor=`:                         1,
			`msg="subscriber left" subscriber=siem peer=bufconn cursor=`:                         1,
			`msg="shutdown begins"`: 1, `msg="shutdown: probes have left"`: 1,
			`msg="shutdown: the log is closed and the tracker has ended"`: 1,
			`msg="shutdown: the feed is closed"`:                          1, `msg="shutdown ends"`: 1,
		} {
			if n := strings.Count(log, want); n != times {
				t.Errorf("%d lines with %s, want %d", n, want, times)
			}
		}
		if t.Failed() {
			t.Log(log)
		}
	})
}

// What an outsider repeats fills no log: a burst, then one line a second, which
// says how many were left out. Other messages have an allowance of their own.
func TestNoticesAreRateLimited(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		book, logger := newLogBook()
		n := newNotices(logger)
		say := func(message string, times int) (lines int) {
			before := strings.Count(book.String(), "\n")
			for i := range times {
				n.log(t.Context(), slog.LevelInfo, message, slog.Int("i", i))
			}
			return strings.Count(book.String(), "\n") - before
		}
		if got := say("a", 1000); got != noticeBurst {
			t.Errorf("%d lines of 1000 at once, want %d", got, noticeBurst)
		}
		if got := say("b", 1); got != 1 {
			t.Errorf("%d lines of another message, want 1", got)
		}
		time.Sleep(noticeEvery)
		if got := say("a", 1000); got != 1 {
			t.Errorf("%d lines a second later, want 1", got)
		}
		if want := fmt.Sprintf("suppressed=%d", 1000-noticeBurst); !strings.Contains(book.String(), want) {
			t.Errorf("no line says %s", want)
		}
		time.Sleep(noticeBurst * noticeEvery)
		if got := say("a", 1000); got != noticeBurst {
			t.Errorf("%d lines after a pause, want %d", got, noticeBurst)
		}
		silent := newNotices(slog.New(slog.DiscardHandler))
		silent.log(t.Context(), slog.LevelInfo, "a")
		if len(silent.rates) != 0 {
			t.Error("what is not logged is counted")
		}
	})
}
