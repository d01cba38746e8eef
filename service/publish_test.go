package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/log"
)

// publishes counts the appends of the log and the feed and has the nth fail.
type publishes struct {
	mu    sync.Mutex // guards all below
	count int
	nth   int
	fate  publishFate
	left  int // failures to come
	crash func()
}

type publishFate int

const (
	publishFails   publishFate = iota // once
	publishKeeps                      // and a few more times
	publishCrashes                    // nothing is stored, and the collector ends
	publishStores                     // it is stored, and the collector ends before it knows
	publishFates
)

func (f publishFate) String() string {
	return [...]string{"fails once", "fails four times", "crashes before", "crashes behind"}[f]
}

var errPublish = errors.New("publish failed on purpose")

// disarm lets everything pass that was not hit yet, and reports whether one was.
func (p *publishes) disarm() (hit bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hit = p.count >= p.nth
	p.nth = 0
	return hit
}

// tapped is one stream behind publishes.
type tapped struct {
	log.Messages
	p *publishes
}

func (m tapped) Append(ctx context.Context, data []byte) (uint64, error) {
	p := m.p
	p.mu.Lock()
	if p.left > 0 {
		p.left--
		p.mu.Unlock()
		return 0, errPublish
	}
	p.count++
	hit := p.count == p.nth
	if hit {
		p.left = map[publishFate]int{publishFails: 0, publishKeeps: 3, publishCrashes: 1 << 30, publishStores: 1 << 30}[p.fate]
	}
	p.mu.Unlock()
	if !hit {
		return m.Messages.Append(ctx, data)
	}
	if p.fate == publishStores {
		if _, err := m.Messages.Append(ctx, data); err != nil {
			return 0, err
		}
	}
	if p.fate >= publishCrashes {
		p.crash()
	}
	return 0, errPublish
}

// Whichever publish to the log or the feed fails, once or for a while, or is the
// last thing a collector does: every packet is counted once, and leaves once.
func TestEveryPublishFails(t *testing.T) {
	const batches, most = 30, 6
	encoded, want := traffic(5, batches)
	for fate := range publishFates {
		reached := 0
		for nth := 1; nth <= most; nth++ {
			ok := t.Run(fmt.Sprintf("%d %v", nth, fate), func(t *testing.T) {
				cfg := durable(t.TempDir())
				cfg.CheckpointEvery, cfg.CheckpointLogBytes = time.Nanosecond, 1
				p := &publishes{nth: nth, fate: fate}
				cfg.tap = func(m log.Messages) log.Messages { return tapped{m, p} }
				crashed := make(chan struct{})
				p.crash = func() { close(crashed) }
				r := newDiskRig(t, cfg)
				acked := uint64(0)
				restart := func() {
					r.crash()
					cfg.tap, crashed = nil, nil
					r = newDiskRig(t, cfg)
					p, welcome := r.report(helloOf("probe-1", "s1"))
					if got := welcome.GetDurableSequence(); got < acked {
						t.Errorf("batch %d was acknowledged, and after a crash %d is the last", acked, got)
					}
					p.cancel()
				}
				for acked < batches {
					delivered := make(chan uint64, 1)
					go func() { delivered <- r.deliver(t, encoded, min(batches, acked+10)) }()
					select {
					case n := <-delivered:
						acked = max(acked, n)
					case <-crashed:
						r.collector.parts.fail(errCrash)
						acked = max(acked, <-delivered)
						restart()
					}
				}
				if p.disarm() {
					reached++
				}
				select {
				case <-crashed: // by the feed, behind the last acknowledgement
					restart()
				default:
				}
				r.checkIdentities()
				restart() // what is only in memory goes
				r.checkIdentities()
				packetCount := uint64(0)
				for _, e := range r.history() {
					packetCount += e.GetConnection().GetPacketCount()
				}
				for _, c := range r.all() {
					packetCount += c.GetPacketCount()
				}
				if got := r.totals().GetPacketsApplied(); got != want || packetCount != want {
					t.Errorf("%d packets applied, %d in the feed and the table; want %d", got, packetCount, want)
				}
			})
			if !ok {
				return
			}
		}
		if reached < 3 {
			t.Errorf("%v: %d publishes failed, want more: this shows little", fate, reached)
		}
	}
}
