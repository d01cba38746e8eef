package service

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/whorl-net/whorl/internal/log"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// sickLog is a durable log whose disk takes nothing while it is sick.
type sickLog struct {
	log.Log
	mu  sync.Mutex
	why error
}

func (l *sickLog) set(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.why = why
}

func (l *sickLog) sick() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.why
}

func (l *sickLog) Submit(ctx context.Context, done func(error), records ...log.Record) (log.Position, error) {
	if why := l.sick(); why != nil {
		return 0, fmt.Errorf("append: %w: %w", log.ErrUnavailable, why)
	}
	return l.Log.Submit(ctx, done, records...)
}

func (l *sickLog) Stats() log.Stats {
	s := l.Log.Stats()
	s.Durable, s.Err = true, l.sick()
	return s
}

// While the disk takes nothing, nothing is taken in, and everybody is told so:
// probes and pushers with a delay, balancers by the health of ingest, operators
// by the status. Queries and the feed go on. It ends by itself.
func TestFullDiskRefusesIngestAlone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		memory, err := log.NewMemory(0)
		if err != nil {
			t.Fatal(err)
		}
		sick := &sickLog{Log: memory}
		r := newRigWith(t, Config{}, sick)
		p, _ := r.report(helloOf("probe-1", "s1"))
		p.batch(packets(1, 0, 1, 2, 3))
		if ack := p.acked(1); ack.GetDurableSequence() != 1 {
			t.Errorf("ack %v, want 1 durable", ack)
		}

		sick.set(errors.New("no space left on device"))
		time.Sleep(2 * lookEvery)
		p.fails(codes.Unavailable, ReasonLogUnwritable) // although it had nothing to report
		again := r.open()
		again.send(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: helloOf("probe-1", "s1")}})
		if err := again.fails(codes.Unavailable, ReasonLogUnwritable); len(status.Convert(err).Details()) != 2 {
			t.Errorf("%v says nothing about when to try again", err)
		}
		push := &whorlv1.PushRequest{Flows: []*whorlv1.PushedFlow{{
			SrcIp: "10.0.0.1", SrcPort: 1, DstIp: "10.0.0.2", DstPort: 2, Protocol: "tcp",
		}}}
		_, err = r.ingest.Push(t.Context(), push)
		checkError(t, err, codes.Unavailable, ReasonLogUnwritable)
		if n, err := r.tracker.Count(t.Context(), &whorlv1.CountRequest{}); err != nil || n.GetCount() != 3 {
			t.Errorf("count %v, %v; want 3", n, err)
		}
		st := r.totals()
		if st.GetState() != "refusing" || !strings.Contains(st.GetLog().GetError(), "no space left") {
			t.Errorf("state %s, log %v", st.GetState(), st.GetLog())
		}
		r.checkHealth("whorl.v1.IngestService", healthpb.HealthCheckResponse_NOT_SERVING)
		r.checkHealth("whorl.v1.TrackerService", healthpb.HealthCheckResponse_SERVING)

		sick.set(nil)
		time.Sleep(2 * lookEvery)
		r.checkHealth("whorl.v1.IngestService", healthpb.HealthCheckResponse_SERVING)
		p, welcome := r.report(helloOf("probe-1", "s1"))
		if welcome.GetAppliedSequence() != 1 || r.totals().GetState() != "serving" {
			t.Errorf("welcome %v, state %s", welcome, r.totals().GetState())
		}
		p.batch(packets(2, time.Second, 4))
		p.finish(false)
	})
}

func (r *rig) checkHealth(service string, want healthpb.HealthCheckResponse_ServingStatus) {
	r.t.Helper()
	resp, err := healthpb.NewHealthClient(r.conn).Check(r.t.Context(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil || resp.GetStatus() != want {
		r.t.Errorf("health of %s: %v, %v; want %v", service, resp, err, want)
	}
}
