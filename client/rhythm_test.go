package client

import (
	"testing"
	"testing/synctest"
	"time"
)

// Of two batches that come together the second is sent 10 ms later, though
// nothing else happens.
func TestSecondBatchWaitsALittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &ingest{}
		r := mustReporter(t, serve(t, s.register), ReporterConfig{})
		ended := running(t, r)
		time.Sleep(time.Second) // by the bubble's clock
		begin := time.Now()
		for i := range 2 {
			if err := r.Report(t.Context(), testBatch(i+1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for r.Stats().Durable < 2 {
			time.Sleep(time.Millisecond) // by the bubble's clock
		}
		if d := time.Since(begin); d > 15*time.Millisecond || d < 9*time.Millisecond {
			t.Errorf("durable after %v, want 10 ms", d)
		}
		if err := r.Finish(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		<-ended
	})
}
