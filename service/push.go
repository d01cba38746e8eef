package service

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"net/netip"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// defaultPushProbe is the probe of a push that names none.
const defaultPushProbe = "push"

// Limits of one Push.
const (
	maxPushFlows        = 1000
	maxPushFingerprints = 64
	// maxPushBytes bounds the bytes of one pushed flow. A row of a batch holds
	// less than 4 GiB, so a flow becomes up to 257 rows.
	maxPushBytes = 1 << 40
)

// Push takes one readable batch through the same log as everybody's. It returns
// when the batch is applied, so what was pushed can be queried.
func (in *ingestService) Push(ctx context.Context, req *whorlv1.PushRequest) (*whorlv1.PushResponse, error) {
	if err := in.registry.refuses(); err != nil {
		return nil, err
	}
	now := time.Now()
	b := in.batches.get()
	session, err := in.pushed(ctx, req, now, b)
	if err != nil {
		in.batches.put(b)
		return nil, err
	}
	ids := connectionIDs(b, session.Network)
	in.withoutJA4Plus(b)

	done := make(chan applied, 1)
	record := log.Record{
		LogTime: now.UnixNano(), Kind: log.KindBatch, Session: session, Batch: b,
		Note: &ticket{applied: func(result applied) { done <- result }},
	}
	if in.durable {
		record.Data = wire.AppendBatch(nil, b)
	}
	if _, err := in.log.Submit(ctx, nil, record); err != nil {
		return nil, err
	}
	select {
	case result := <-done:
		if result.duplicate {
			return &whorlv1.PushResponse{Duplicate: true, ConnectionIds: ids}, nil
		}
		return &whorlv1.PushResponse{AcceptedFlows: uint32(len(req.GetFlows())), ConnectionIds: ids}, nil
	case <-in.applierEnded:
		return nil, errDraining()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// pushed checks req and fills b. Sequence 0 marks a push in the log; the session
// id is what makes an idempotency key unique.
func (in *ingestService) pushed(ctx context.Context, req *whorlv1.PushRequest, now time.Time, b *flow.Batch) (log.Session, error) {
	probe := cmp.Or(req.GetProbeId(), defaultPushProbe)
	if err := checkProbeID("probe_id", probe); err != nil {
		return log.Session{}, err
	}
	if err := checkIdentity(ctx, "probe_id", probe); err != nil {
		return log.Session{}, err
	}
	network := networkOf(req.GetNetwork())
	if err := flow.CheckNetwork(network); err != nil {
		return log.Session{}, badField(ReasonBadField, "network", network, "1 to 63 letters, digits, dots, dashes or underscores")
	}
	session := log.Session{Probe: probe, Network: network, Live: true}
	if key := req.GetIdempotencyKey(); key != "" {
		if err := checkName("idempotency_key", key, maxPushKeyLen); err != nil {
			return log.Session{}, err
		}
		sum := sha256.Sum256([]byte(probe + "\x00" + key))
		session.ID = [16]byte(sum[:16])
	}
	if n := len(req.GetFlows()); n == 0 || n > maxPushFlows {
		return log.Session{}, badLength("flows", n, fmt.Sprintf("1 to %d", maxPushFlows))
	}
	for i, f := range req.GetFlows() {
		if err := pushFlow(fmt.Sprintf("flows[%d]", i), f, now, b); err != nil {
			return log.Session{}, err
		}
	}
	if err := wire.CheckBatch(b); err != nil {
		return log.Session{}, badField(ReasonBadField, "flows", err.Error(), "a batch within the limits")
	}
	return session, in.names.admit(network, probe)
}

// pushFlow appends one flow: its tuple, its packets as runs, its fingerprints.
func pushFlow(path string, f *whorlv1.PushedFlow, now time.Time, b *flow.Batch) error {
	tuple, err := parseTuple(path+".", &whorlv1.FiveTuple{
		SrcIp: f.GetSrcIp(), SrcPort: f.GetSrcPort(), DstIp: f.GetDstIp(), DstPort: f.GetDstPort(), Protocol: f.GetProtocol(),
	})
	if err != nil {
		return err
	}
	at := now
	if f.GetTime() != nil {
		if at, err = checkTime(path+".time", f.GetTime()); err != nil {
			return err
		}
	}
	packets := max(f.GetPackets(), 1)
	if f.GetBytes() > maxPushBytes {
		return badNumber(path+".bytes", f.GetBytes(), fmt.Sprintf("at most %d", uint64(maxPushBytes)))
	}
	if f.GetTcpFlags() > math.MaxUint8 {
		return badNumber(path+".tcp_flags", f.GetTcpFlags(), "at most 255")
	}
	if f.GetTcpFlags() != 0 && tuple.Protocol != flow.TCP {
		return badNumber(path+".tcp_flags", f.GetTcpFlags(), "0 when the protocol is not tcp")
	}
	rows := uint32((f.GetBytes() + math.MaxUint32 - 1) / math.MaxUint32)
	if rows > packets {
		return badNumber(path+".bytes", f.GetBytes(), fmt.Sprintf("what %d packets can hold", packets))
	}
	index := b.AddFlow(tuple)
	addRuns(b, index, at.UnixNano(), packets, f.GetBytes(), uint8(f.GetTcpFlags()), max(rows, 1))
	return pushFingerprints(path, f.GetFingerprints(), index, b)
}

// addRuns spreads packets and bytes over rows.
func addRuns(b *flow.Batch, index uint32, at int64, packets uint32, bytes uint64, flags uint8, rows uint32) {
	for ; rows > 0; rows-- {
		p, n := packets/rows, bytes/uint64(rows)
		packets -= p
		bytes -= n
		b.AddPacket(index, false, at, uint32(n), flags)
		b.RunPackets = append(b.RunPackets, p)
		b.RunSpan = append(b.RunSpan, 0)
	}
}

func pushFingerprints(path string, fs []*whorlv1.PushedFingerprint, index uint32, b *flow.Batch) error {
	if len(fs) > maxPushFingerprints {
		return badLength(path+".fingerprints", len(fs), fmt.Sprintf("at most %d", maxPushFingerprints))
	}
	for k, f := range fs {
		at := fmt.Sprintf("%s.fingerprints[%d]", path, k)
		typ, err := ja4.ParseType(f.GetType())
		if err != nil {
			return badField(ReasonBadField, at+".type", f.GetType(), "a fingerprint type such as ja4 or ja4ssh")
		}
		if f.GetValue() == "" || len(f.GetValue()) > flow.MaxValueLen {
			return badField(ReasonBadField, at+".value", f.GetValue(), fmt.Sprintf("1 to %d bytes", flow.MaxValueLen))
		}
		if len(f.GetRaw()) > flow.MaxRawLen {
			return badField(ReasonBadField, at+".raw", f.GetRaw(), fmt.Sprintf("at most %d bytes", flow.MaxRawLen))
		}
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{
			Flow: index, Row: uint32(b.Rows()),
			Event: ja4.Event{Type: typ, Value: f.GetValue(), Raw: f.GetRaw()},
		})
	}
	return nil
}

// parseTuple reads a 5-tuple; prefix goes in front of the field names.
func parseTuple(prefix string, t *whorlv1.FiveTuple) (flow.Tuple, error) {
	var out flow.Tuple
	for _, end := range [...]struct {
		name string
		ip   string
		port uint32
		addr *flow.Addr
		to   *uint16
	}{
		{"src", t.GetSrcIp(), t.GetSrcPort(), &out.Src, &out.SrcPort},
		{"dst", t.GetDstIp(), t.GetDstPort(), &out.Dst, &out.DstPort},
	} {
		ip, err := netip.ParseAddr(end.ip)
		if err != nil || ip.Zone() != "" {
			return out, badField(ReasonBadAddress, prefix+end.name+"_ip", end.ip, "an IP address such as 10.0.0.5")
		}
		if end.port > math.MaxUint16 {
			return out, badNumber(prefix+end.name+"_port", end.port, "0 to 65535")
		}
		*end.addr, *end.to = flow.AddrFrom(ip), uint16(end.port)
	}
	if out.Src.Is4() != out.Dst.Is4() {
		return out, badField(ReasonBadAddress, prefix+"dst_ip", t.GetDstIp(), "an address of the same IP version as src_ip")
	}
	protocol, err := flow.ParseProtocol(t.GetProtocol())
	if err != nil {
		return out, badField(ReasonBadField, prefix+"protocol", t.GetProtocol(), "tcp, udp, icmp, icmpv6, sctp or 0 to 255")
	}
	out.Protocol = protocol
	return out, nil
}

// checkTime reads a time that a batch may hold.
func checkTime(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t.CheckValid() != nil || t.GetSeconds() < 0 || t.GetSeconds() > flow.MaxTime/int64(time.Second)-1 {
		return time.Time{}, badField(ReasonBadField, field, t.String(), "a time from 1970 to 2116")
	}
	return t.AsTime(), nil
}

// connectionIDs returns the id of each flow of b, in order.
func connectionIDs(b *flow.Batch, network string) []string {
	ids := make([]string, len(b.Flows))
	for i := range b.Flows {
		key, _ := b.Flows[i].Key()
		ids[i] = key.ID(network)
	}
	return ids
}
