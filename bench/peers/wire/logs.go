package main

import (
	"context"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/grpc"

	"github.com/whorl-net/whorl/flow"
)

// logs receives OpenTelemetry logs and reads each once.
type logs struct {
	plogotlp.UnimplementedGRPCServer
	bytes int64
}

func serveLogs(s *grpc.Server) error {
	plogotlp.RegisterGRPCServer(s, new(logs))
	return nil
}

// Export implements plogotlp.GRPCServer. One client calls at a time.
func (l *logs) Export(_ context.Context, in plogotlp.ExportRequest) (plogotlp.ExportResponse, error) {
	for _, resource := range in.Logs().ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, record := range scope.LogRecords().All() {
				if v, ok := record.Attributes().Get("bytes"); ok {
					l.bytes += v.Int()
				}
			}
		}
	}
	return plogotlp.NewExportResponse(), nil
}

func sendLogs(ctx context.Context, conn *grpc.ClientConn, batches []*flow.Batch) error {
	client := plogotlp.NewGRPCClient(conn)
	call, records := newLogs()
	flush := func() error {
		_, err := client.Export(ctx, plogotlp.NewExportRequestFromLogs(call))
		call, records = newLogs()
		return err
	}
	for _, b := range batches {
		for row := range b.Flow {
			fill(records.AppendEmpty(), b, row)
			if records.Len() == perCall {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	return flush()
}

func newLogs() (plog.Logs, plog.LogRecordSlice) {
	l := plog.NewLogs()
	return l, l.ResourceLogs().AppendEmpty().ScopeLogs().AppendEmpty().LogRecords()
}

// fill says a packet with the names of the semantic conventions.
func fill(r plog.LogRecord, b *flow.Batch, row int) {
	t := tupleOf(b, row)
	r.SetTimestamp(pcommon.Timestamp(b.Time[row]))
	a := r.Attributes()
	a.EnsureCapacity(7)
	a.PutStr("source.address", t.Src.String())
	a.PutInt("source.port", int64(t.SrcPort))
	a.PutStr("destination.address", t.Dst.String())
	a.PutInt("destination.port", int64(t.DstPort))
	a.PutStr("network.transport", t.Protocol.String())
	a.PutInt("tcp.flags", int64(b.TCPFlags[row]))
	a.PutInt("bytes", int64(b.WireLength[row]))
}
