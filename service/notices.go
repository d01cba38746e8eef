package service

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/whorl-net/whorl/internal/log"
)

// What an outsider can have logged: noticeBurst lines of one message at once,
// and one more each noticeEvery in the long run.
const (
	noticeBurst = 50
	noticeEvery = time.Second
)

// notices logs what others cause and can repeat: probes and subscribers that
// come and go, batches that are refused. Lines beyond the limit are left out;
// the next line of the same message says how many ("suppressed"). Safe for
// concurrent use.
type notices struct {
	logger *slog.Logger

	mu    sync.Mutex // guards rates
	rates map[string]*noticeRate
}

// noticeRate is the allowance of one message.
type noticeRate struct {
	// full is when the whole burst may be used again.
	full       time.Time
	suppressed uint64
}

func newNotices(l *slog.Logger) *notices {
	return &notices{logger: l, rates: make(map[string]*noticeRate)}
}

// log writes one line. message is a constant: there is an allowance for each.
func (n *notices) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	if !n.logger.Enabled(ctx, level) {
		return
	}
	suppressed, ok := n.allow(message, time.Now())
	if !ok {
		return
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Uint64("suppressed", suppressed))
	}
	n.logger.LogAttrs(ctx, level, message, attrs...)
}

// allow takes one line from the allowance of message, and returns how many were
// left out before it.
func (n *notices) allow(message string, now time.Time) (suppressed uint64, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.rates[message]
	if r == nil {
		r = &noticeRate{}
		n.rates[message] = r
	}
	if r.full.Before(now) {
		r.full = now
	}
	if r.full.Sub(now) > (noticeBurst-1)*noticeEvery {
		r.suppressed++
		return 0, false
	}
	r.full = r.full.Add(noticeEvery)
	suppressed, r.suppressed = r.suppressed, 0
	return suppressed, true
}

// peerOf returns the address of the caller, "" when there is none.
func peerOf(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}

// kindOf names what the times of a session mean.
func kindOf(s log.Session) string {
	if s.Live {
		return "live"
	}
	return "replay"
}

// ended says how a stream ended: "finished" by a Finish, "closed" by the probe
// without one, or "cut".
func (s *stream) ended(err error) string {
	switch {
	case err != nil:
		return "cut"
	case s.finished:
		return "finished"
	default:
		return "closed"
	}
}
