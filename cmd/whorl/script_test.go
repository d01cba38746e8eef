package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"whorl": main})
}

// leakless fails a run that leaves goroutines behind.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return code
}

// Each session, error text and exit code of the command is a script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *update,
		Setup:         setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"collector": startCollector,
			"exits":     exits,
			"masked":    masked,
			"cursor":    takeCursor,
			"address":   freeAddress,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func setup(env *testscript.Env) error {
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("TZ", "UTC")
	env.Setenv("NO_COLOR", "1")
	env.Setenv("COLUMNS", "110")
	for name, data := range map[string][]byte{
		"hello.pcap": helloCapture(), "cut.pcap": cutCapture(), "empty.pcap": nil,
		"many.pcap": manyCapture(), "snapped.pcap": snappedCapture(), "nflog.pcap": nflogCapture(),
	} {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o600); err != nil {
			return err
		}
	}
	return fillSpool(filepath.Join(env.WorkDir, "waiting"))
}

// fillSpool makes a spool with 30 packets of a live probe, p7 in network lab,
// whose collector was never there.
func fillSpool(dir string) error {
	cl, err := client.Dial(context.Background(), "127.0.0.1:1", client.WithLazy())
	if err != nil {
		return err
	}
	defer cl.Close()
	r, err := cl.Reporter(client.ReporterConfig{ProbeID: "p7", Network: "lab", Live: true, SpoolDir: dir})
	if err != nil {
		return err
	}
	b := &flow.Batch{}
	i := b.AddFlow(flow.Tuple{Src: flow.AddrFrom4([4]byte{192, 0, 2, 1}), Dst: flow.AddrFrom4([4]byte{192, 0, 2, 2}), SrcPort: 1, DstPort: 2, Protocol: flow.UDP})
	for n := range 10 {
		b.AddPacket(i, false, time.Now().UnixNano()+int64(n), 100, 0)
	}
	for range 3 {
		if err := r.Report(context.Background(), b); err != nil {
			return err
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Run(ended); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// startCollector runs a collector in this process, on a free port, until the
// script ends, and points WHORL_COLLECTOR at it. Closed connections leave when they
// are flushed, not because a machine takes a minute for the script.
func startCollector(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("collector: cannot be negated")
	}
	talk := watch(listening)
	ctx, cancel := context.WithCancelCause(context.Background())
	con := &console{out: &bytes.Buffer{}, err: talk, now: time.Now, getenv: ts.Getenv}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"collector", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--durability", "memory",
			"--idle-timeout-tcp-closed", "1h"}, args...), con)
	}()
	ts.Defer(func() {
		cancel(errInterrupted)
		if code := <-ended; code != exitOK {
			ts.Logf("collector: exit code %d: %s", code, talk)
		}
	})
	select {
	case addr := <-talk.seen:
		ts.Setenv("WHORL_COLLECTOR", addr)
	case code := <-ended:
		ended <- code
		ts.Fatalf("the collector ended at once with %d: %s", code, talk)
	case <-time.After(20 * time.Second):
		ts.Fatalf("the collector does not say where it listens: %s", talk)
	}
}

// freeAddress sets a variable to an address on which nobody listens.
func freeAddress(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("address: want the name of a variable")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv(args[0], l.Addr().String())
	ts.Check(l.Close())
}

var listening = regexp.MustCompile(`collector on (\S+) `)

// watchedBuffer tells once what the text it waits for matches, or its first group.
type watchedBuffer struct {
	mu   sync.Mutex
	b    bytes.Buffer
	text *regexp.Regexp
	seen chan string
	told bool
}

func watch(text *regexp.Regexp) *watchedBuffer {
	return &watchedBuffer{text: text, seen: make(chan string, 1)}
}

func (w *watchedBuffer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(p)
	if m := w.text.FindStringSubmatch(w.b.String()); m != nil && !w.told {
		w.told = true
		w.seen <- m[len(m)-1]
	}
	return len(p), nil
}

func (w *watchedBuffer) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// exits runs "exits CODE whorl ARGS…" and compares the exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := "0"
	var exit interface{ ExitCode() int }
	switch {
	case errors.As(err, &exit):
		code = strconv.Itoa(exit.ExitCode())
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if code != args[0] {
		ts.Fatalf("exit code %s, want %s", code, args[0])
	}
}

// variable is what differs from run to run, by name.
var variable = []struct {
	name string
	text *regexp.Regexp
}{
	{"UID", regexp.MustCompile(`"uid":"[a-z0-9]+"`)},
	{"UID", regexp.MustCompile(`\b[a-z0-9]{26}\b`)},
	{"CURSOR", regexp.MustCompile(`\b[0-9a-f]{6,16}\.[0-9]+\b`)},
	{"AS_OF", regexp.MustCompile(`"as_of":"[^"]+"`)},
	{"SECONDS", regexp.MustCompile(`"seconds":[0-9.]+`)},
	{"ELAPSED", regexp.MustCompile(` in <?[0-9.]+ m?s\b`)},
	{"ADDRESS", regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)},
}

// masked replaces what differs from run to run in a file: "masked FILE".
func masked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: masked FILE")
	}
	text := ts.ReadFile(args[0])
	for _, v := range variable {
		text = v.text.ReplaceAllString(text, v.name)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// takeCursor sets CURSOR to the cursor in a JSON line: "cursor FILE".
func takeCursor(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`"cursor":"([^"]+)"`).FindStringSubmatch(ts.ReadFile(args[0]))
	if m == nil {
		ts.Fatalf("%s holds no cursor", args[0])
	}
	ts.Setenv("CURSOR", m[1])
}

var (
	clientMAC = []byte{2, 0, 0, 0, 0, 1}
	serverMAC = []byte{2, 0, 0, 0, 0, 2}
	clientIP  = [4]byte{192, 0, 2, 1}
	serverIP  = [4]byte{198, 51, 100, 9}
)

// segment is one TCP packet of the conversation of the test captures.
type segment struct {
	after      time.Duration
	fromClient bool
	flags      byte
	seq, ack   uint32
	options    []byte
	payload    []byte
	port       uint16 // of the client; 0 is 40000
}

// frame builds Ethernet, IPv4 and TCP around a payload. Checksums are zero, as
// on a host that leaves them to its network card.
func (s *segment) frame() []byte {
	src, dst, sport, dport := clientIP, serverIP, s.port, uint16(443)
	if sport == 0 {
		sport = 40000
	}
	b := append(append([]byte(nil), serverMAC...), clientMAC...)
	if !s.fromClient {
		src, dst, sport, dport = dst, src, dport, sport
		b = append(append([]byte(nil), clientMAC...), serverMAC...)
	}
	b = append(b, 0x08, 0x00)
	tcp := 20 + len(s.options)
	ip := []byte{0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0}
	binary.BigEndian.PutUint16(ip[2:], uint16(20+tcp+len(s.payload)))
	b = append(append(append(b, ip...), src[:]...), dst[:]...)
	b = binary.BigEndian.AppendUint16(b, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint32(b, s.seq)
	b = binary.BigEndian.AppendUint32(b, s.ack)
	b = append(b, byte(tcp/4)<<4, s.flags)
	b = binary.BigEndian.AppendUint16(b, 64240)
	b = append(b, 0, 0, 0, 0)
	return append(append(b, s.options...), s.payload...)
}

// clientHello is a TLS 1.3 hello for test.example with a few suites.
func clientHello() []byte {
	u16 := func(v int) []byte { return []byte{byte(v >> 8), byte(v)} }
	vec := func(b []byte) []byte { return append(u16(len(b)), b...) }
	ext := func(kind int, body []byte) []byte { return append(u16(kind), vec(body)...) }
	name := "test.example"
	var extensions []byte
	for _, e := range [][]byte{
		ext(0x0000, vec(append([]byte{0}, vec([]byte(name))...))),
		ext(0x000a, vec([]byte{0, 0x1d, 0, 0x17})),
		ext(0x000d, vec([]byte{4, 3, 8, 4, 4, 1})),
		ext(0x0010, vec([]byte{2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'})),
		ext(0x002b, []byte{4, 3, 4, 3, 3}),
	} {
		extensions = append(extensions, e...)
	}
	body := append([]byte{3, 3}, make([]byte, 32)...)
	body = append(body, 0)                                                        // session id
	body = append(body, vec([]byte{0x13, 1, 0x13, 2, 0xc0, 0x2b, 0xc0, 0x2f})...) // suites
	body = append(body, 1, 0)                                                     // compression
	body = append(body, vec(extensions)...)
	message := append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	return append([]byte{22, 3, 1}, vec(message)...)
}

// conversation is a handshake, a hello, an answer and an end.
func conversation() []segment {
	const fin, syn, ack, psh = 0x01, 0x02, 0x10, 0x08
	options := []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7}
	hello := clientHello()
	n := uint32(len(hello))
	ms := time.Millisecond
	return []segment{
		{0, true, syn, 1000, 0, options, nil, 0},
		{2 * ms, false, syn | ack, 5000, 1001, options, nil, 0},
		{4 * ms, true, ack, 1001, 5001, nil, nil, 0},
		{5 * ms, true, ack | psh, 1001, 5001, nil, hello, 0},
		{9 * ms, false, ack, 5001, 1001 + n, nil, nil, 0},
		{20 * ms, true, ack | fin, 1001 + n, 5001, nil, nil, 0},
		{22 * ms, false, ack | fin, 5001, 1002 + n, nil, nil, 0},
	}
}

var captureStart = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func writeCapture(segments []segment) []byte {
	var b bytes.Buffer
	w, err := capture.NewWriter(&b, capture.PCAP, capture.Ethernet)
	if err != nil {
		panic(err)
	}
	for i := range segments {
		data := segments[i].frame()
		p := capture.Packet{Data: data, Time: captureStart.Add(segments[i].after).UnixNano(),
			WireLength: uint32(len(data)), LinkType: capture.Ethernet}
		if err := w.Write(&p); err != nil {
			panic(err)
		}
	}
	return b.Bytes()
}

// helloCapture is a whole conversation.
func helloCapture() []byte { return writeCapture(conversation()) }

// manyCapture has a few hundred conversations.
func manyCapture() []byte {
	var all []segment
	for port := range uint16(300) {
		for _, s := range conversation() {
			s.port = 20000 + port
			all = append(all, s)
		}
	}
	return writeCapture(all)
}

// snappedCapture has a first packet of which a byte was not captured.
func snappedCapture() []byte {
	data := helloCapture()
	data[24+12]++ // its length on the wire
	return data
}

// nflogCapture says that its packets are of link type 239.
func nflogCapture() []byte {
	data := helloCapture()
	data[20] = 239
	return data
}

// cutCapture ends 13 bytes before the end of an eighth packet.
func cutCapture() []byte {
	segments := conversation()
	last := segments[len(segments)-1]
	last.payload = make([]byte, 12)
	data := writeCapture(append(segments, last))
	return data[:len(data)-13]
}
