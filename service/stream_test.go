package service

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Acks are a little apart, the last one says everything, and many batches that
// wait for one do not.
func TestAcksHaveAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newStream(log.Session{}, false, func(error) {})
		begin := time.Now()
		type said struct {
			at time.Duration
			to uint64
		}
		acks := make(chan said, 1000)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.send(ctx, &whorlv1.IngestResponse{}, func(r *whorlv1.IngestResponse) error {
				if a := r.GetAck(); a != nil {
					acks <- said{time.Since(begin), a.GetAppliedSequence()}
				}
				return nil
			})
		}()
		for n := uint64(1); n <= 30; n++ {
			s.admit(n, 1)
			s.done(n, 1)
			time.Sleep(time.Millisecond) // by the bubble's clock
		}
		time.Sleep(2 * ackEvery) // by the bubble's clock
		synctest.Wait()
		if n := len(acks); n < 4 || n > 5 {
			t.Errorf("%d acks for 30 batches in 30 ms, want 4 or 5", len(acks))
		}
		var last said
		for len(acks) > 0 {
			last = <-acks
		}
		if last.to != 30 {
			t.Errorf("the last says %d", last.to)
		}
		s.admit(31, 1)
		s.done(31, 1)
		synctest.Wait()
		<-acks
		for n := uint64(32); n <= 32+pressingBatches; n++ {
			s.admit(n, 1)
		}
		s.done(32, 1)
		synctest.Wait()
		if len(acks) != 1 {
			t.Errorf("pressing: %d acks at once, want 1", len(acks))
		}
		cancel()
		<-ended
	})
}
