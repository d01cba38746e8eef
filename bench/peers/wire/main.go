// Wire measures what it costs to bring the same packets to another process in
// the shapes that others use: flow records in one protobuf message each, and
// OpenTelemetry logs, both as unary calls of 1,000 records; and Whorl's column
// batches beside them, also with the tracking behind. All over gRPC on loopback,
// the receiver in a process of its own.
//
//	go run -C bench/peers ./wire [-records 1000000] [-rounds 3]
//
// Each record stands for one packet. The receivers of others decode, read each
// record once and keep nothing.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
)

// perCall is how many records a unary call carries.
const perCall = 1000

// shape is a form on the wire.
type shape struct {
	name string
	// serve registers the receiving side.
	serve func(*grpc.Server) error
	// send sends all rows over conn and returns when they are received.
	send func(ctx context.Context, conn *grpc.ClientConn, batches []*flow.Batch) error
}

var shapes = []shape{
	{"columns, decoded", serveColumns(false), sendColumns},
	{"columns, decoded and tracked", serveColumns(true), sendColumns},
	{"flow records, decoded", serveRecords, sendRecords},
	{"OpenTelemetry logs, decoded", serveLogs, sendLogs},
}

func main() {
	records := flag.Int("records", 1_000_000, "packets to bring over")
	rounds := flag.Int("rounds", 3, "how often everything is measured, in turn")
	sample := flag.String("sample", "../../examples/sample/sample.pcap", "capture that traffic is made from")
	out := flag.String("out", "../out", "folder for JSON")
	markdown := flag.Bool("markdown", false, "print the table as markdown")
	role := flag.String("role", "", "be the receiver of a shape; for internal use")
	flag.Parse()
	var err error
	if *role != "" {
		err = receive(*role)
	} else {
		err = run(*records, *rounds, *sample, *out, *markdown)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		os.Exit(1)
	}
}

func run(records, rounds int, samplePath, out string, markdown bool) error {
	f, err := os.Open(samplePath)
	if err != nil {
		return err
	}
	defer f.Close()
	sample, err := traffic.ReadSample(samplePath, f)
	if err != nil {
		return err
	}
	g, err := traffic.New(traffic.Config{Shape: traffic.Mixed, Packets: records, Span: time.Minute}, sample)
	if err != nil {
		return err
	}
	batches, err := traffic.Batches(g, probe.Config{})
	if err != nil {
		return err
	}
	for _, b := range batches {
		b.Fingerprints = nil // the others have no place for them
	}
	report := measure.Report{Started: time.Now(), Machine: measure.Machine(), Args: os.Args[1:]}
	table := &measure.Table{Name: "wire peers", Title: fmt.Sprintf("%d packets to another process, per packet", records), Columns: []measure.Column{
		{Name: "sender CPU", Unit: "ns", Spread: true}, {Name: "receiver CPU", Unit: "ns", Spread: true}, {Name: "wire", Unit: "B"},
	}, Notes: []string{fmt.Sprintf("Records go %d to a call; columns as a probe cuts them, without fingerprints.", perCall)}}
	report.Tables = append(report.Tables, table)
	var cases []func() error
	for _, s := range shapes {
		cases = append(cases, func() error { return s.measure(table, batches, records) })
	}
	if err := measure.Rounds(rounds, cases...); err != nil {
		return err
	}
	if err := table.Print(os.Stdout, markdown); err != nil {
		return err
	}
	path := filepath.Join(out, report.Started.UTC().Format("20060102-150405")+"-wire")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	return report.Write(path)
}

// measure sends everything once to a new receiver.
func (s *shape) measure(table *measure.Table, batches []*flow.Batch, records int) (err error) {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-role", s.name)
	cmd.Stderr = os.Stderr
	measure.Bind(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	outPipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close(), cmd.Wait()) }()
	line := make([]byte, 64)
	n, err := outPipe.Read(line)
	if err != nil {
		return err
	}
	var sent counter
	conn, err := grpc.NewClient("passthrough:///"+strings.TrimSpace(string(line[:n])),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(sent.dial))
	if err != nil {
		return err
	}
	defer conn.Close()
	before, err := measure.ProcessCPU(cmd.Process.Pid)
	if err != nil {
		return err
	}
	stop := measure.Start()
	if err := s.send(context.Background(), conn, batches); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	use := stop()
	after, err := measure.ProcessCPU(cmd.Process.Pid)
	if err != nil {
		return err
	}
	table.Add(s.name, "sender CPU", float64(use.CPU)/float64(records))
	table.Add(s.name, "receiver CPU", float64(after-before)/float64(records))
	table.Add(s.name, "wire", float64(sent.bytes.Load())/float64(records))
	return nil
}

// receive serves one shape until the parent is gone.
func receive(role string) error {
	for _, s := range shapes {
		if s.name != role {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := newServer(s.name)
		if err := s.serve(server); err != nil {
			return err
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(l) }()
		fmt.Println(l.Addr())
		io.Copy(io.Discard, os.Stdin) // ends with the parent
		server.Stop()
		return <-served
	}
	return fmt.Errorf("no shape %q", role)
}
