package service

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func pushOf(key string) *whorlv1.PushRequest {
	return &whorlv1.PushRequest{
		ProbeId: "script", IdempotencyKey: key,
		Flows: []*whorlv1.PushedFlow{{
			SrcIp: "10.0.0.5", SrcPort: 51234, DstIp: "192.0.2.1", DstPort: 443, Protocol: "tcp",
			Packets: 7, Bytes: 4242,
			Fingerprints: []*whorlv1.PushedFingerprint{{Type: "ja4", Value: "t13d1516h2_8daaf6152771_02713d6af862", Raw: "t13d_raw"}},
		}},
	}
}

// What is pushed can be queried when Push returns.
func TestPushIsVisibleWhenItReturns(t *testing.T) {
	r := newRig(t, Config{})
	resp, err := r.ingest.Push(t.Context(), pushOf(""))
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetDuplicate() || resp.GetAcceptedFlows() != 1 || len(resp.GetConnectionIds()) != 1 {
		t.Fatalf("push %v: want one accepted flow", resp)
	}
	got, err := r.tracker.Get(t.Context(), &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: resp.GetConnectionIds()[0]}})
	if err != nil {
		t.Fatal(err)
	}
	c := got.GetConnection()
	if c.GetPacketCount() != 7 || c.GetByteCount() != 4242 || c.GetSrcIp() != "10.0.0.5" || c.GetFingerprints()["ja4"].GetEvents()[0].GetValue() == "" {
		t.Errorf("connection %v: want 7 packets, 4242 bytes, from 10.0.0.5, with ja4", c)
	}
}

// A push that names no probe is the probe "push".
func TestPushWithoutProbe(t *testing.T) {
	r := newRig(t, Config{})
	req := pushOf("")
	req.ProbeId = ""
	resp, err := r.ingest.Push(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := r.tracker.Get(t.Context(), &whorlv1.GetRequest{Target: &whorlv1.GetRequest_Id{Id: resp.GetConnectionIds()[0]}})
	if err != nil {
		t.Fatal(err)
	}
	if o := got.GetConnection().GetObservers(); len(o) != 1 || o[0].GetProbeId() != "push" {
		t.Errorf("observers %v: want the probe push", o)
	}
}

// The same pair of probe and key counts once; another key, another probe or no
// key counts again.
func TestPushIsIdempotentByKey(t *testing.T) {
	r := newRig(t, Config{})
	for i, tt := range []struct {
		probe, key string
		duplicate  bool
	}{
		{"script", "k1", false}, {"script", "k1", true}, {"script", "k2", false},
		{"other", "k1", false}, {"script", "", false}, {"script", "", false}, {"script", "k1", true},
	} {
		req := pushOf(tt.key)
		req.ProbeId = tt.probe
		resp, err := r.ingest.Push(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if resp.GetDuplicate() != tt.duplicate {
			t.Errorf("push %d (%s, %q): duplicate %v, want %v", i, tt.probe, tt.key, resp.GetDuplicate(), tt.duplicate)
		}
	}
	if n := r.totals().GetPacketsApplied(); n != 5*7 {
		t.Errorf("%d packets applied, want 35", n)
	}
}

// More bytes than one row of a batch can hold are spread over rows, exactly.
func TestPushOfManyBytes(t *testing.T) {
	r := newRig(t, Config{})
	req := pushOf("")
	req.Flows[0].Packets, req.Flows[0].Bytes = 1_000_003, 1<<40
	if _, err := r.ingest.Push(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if st := r.totals(); st.GetPacketsApplied() != 1_000_003 || st.GetBytesApplied() != 1<<40 {
		t.Errorf("%d packets, %d bytes; want 1000003 and %d", st.GetPacketsApplied(), st.GetBytesApplied(), uint64(1<<40))
	}
}

// A wrong push names the field by its path.
func TestBadPushesNameTheField(t *testing.T) {
	r := newRig(t, Config{})
	for _, tt := range []struct {
		field, reason string
		damage        func(*whorlv1.PushRequest)
	}{
		{"probe_id", ReasonBadField, func(p *whorlv1.PushRequest) { p.ProbeId = "a b" }},
		{"probe_id", ReasonBadField, func(p *whorlv1.PushRequest) { p.ProbeId = "a*b" }},
		{"idempotency_key", ReasonBadField, func(p *whorlv1.PushRequest) { p.IdempotencyKey = "a b" }},
		{"network", ReasonBadField, func(p *whorlv1.PushRequest) { p.Network = "@" }},
		{"flows", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows = nil }},
		{"flows", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows = make([]*whorlv1.PushedFlow, maxPushFlows+1) }},
		{"flows[0].src_ip", ReasonBadAddress, func(p *whorlv1.PushRequest) { p.Flows[0].SrcIp = "10.0.0.300" }},
		{"flows[0].dst_ip", ReasonBadAddress, func(p *whorlv1.PushRequest) { p.Flows[0].DstIp = "" }},
		{"flows[0].dst_ip", ReasonBadAddress, func(p *whorlv1.PushRequest) { p.Flows[0].DstIp = "2001:db8::1" }},
		{"flows[0].src_port", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].SrcPort = 65536 }},
		{"flows[0].protocol", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Protocol = "tpc" }},
		{"flows[0].time", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Time = &timestamppb.Timestamp{Seconds: -1} }},
		{"flows[0].bytes", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Bytes = maxPushBytes + 1 }},
		{"flows[0].bytes", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Packets, p.Flows[0].Bytes = 1, 1<<33 }},
		{"flows[0].tcp_flags", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].TcpFlags = 256 }},
		{"flows[0].tcp_flags", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Protocol, p.Flows[0].TcpFlags = "udp", 2 }},
		{"flows[0].fingerprints[0].type", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Fingerprints[0].Type = "ja5" }},
		{"flows[0].fingerprints[0].value", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Fingerprints[0].Value = "" }},
		{"flows[0].fingerprints[0].raw", ReasonBadField, func(p *whorlv1.PushRequest) { p.Flows[0].Fingerprints[0].Raw = strings.Repeat("r", 9000) }},
	} {
		t.Run(tt.field, func(t *testing.T) {
			req := pushOf("")
			tt.damage(req)
			_, err := r.ingest.Push(t.Context(), req)
			checkError(t, err, codes.InvalidArgument, tt.reason)
			checkField(t, err, tt.field)
		})
	}
	if n := r.totals().GetPacketsApplied(); n != 0 {
		t.Errorf("%d packets applied, want 0", n)
	}
}
