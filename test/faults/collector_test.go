//go:build e2e

package faults

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/whorl-net/whorl/client"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// long says that the long form is wanted.
var long = os.Getenv("WHORL_FAULTS") == "long"

// scaled is one number for the short form and one for the long.
func scaled[T any](short, full T) T {
	if long {
		return full
	}
	return short
}

// command is the whorl command under test: WHORL_BIN, or built once.
var command = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("WHORL_BIN"); b != "" {
		return b, nil
	}
	return build("")
})

// planted is the command with the switches for bugs: WHORL_PLANTED_BIN, or built
// once.
var planted = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("WHORL_PLANTED_BIN"); b != "" {
		return b, nil
	}
	return build("whorl_planted")
})

func build(tags string) (string, error) {
	dir, err := os.MkdirTemp("", "whorl-faults")
	if err != nil {
		return "", err
	}
	b := filepath.Join(dir, "whorl")
	if out, err := exec.Command("go", "build", "-tags", tags, "-o", b, "../../cmd/whorl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build whorl: %w\n%s", err, out)
	}
	return b, nil
}

// collector is a whorl collector that can be killed and started again at the
// same address.
type collector struct {
	t     testing.TB
	addr  string
	args  []string
	bin   string
	bug   string // planted, empty for none
	quiet bool   // what it said is told by others
	// guard starts the process instead of exec.Cmd.Start, if it is set.
	guard func(cmd *exec.Cmd) error

	cmd  *exec.Cmd
	done chan struct{}
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<20 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

// tail is the end of what was written, for a failure.
func (l *lockedBuffer) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.b.Bytes()
	return string(p[max(0, len(p)-6000):])
}

// quick are timeouts on packet time that let connections leave soon.
var quick = []string{
	"--idle-timeout-tcp-half-open=3s", "--idle-timeout-tcp=3s", "--idle-timeout-tcp-closed=3s",
	"--idle-timeout-udp-one-way=3s", "--idle-timeout-udp=3s", "--idle-timeout-other=3s",
}

var givenAddrs atomic.Int64

// freeAddr is an address of loopback nobody listens on. It lies below the ports
// that the system gives to whoever dials, so nobody takes it in a restart.
// Each call in a process gives another one.
func freeAddr(t testing.TB) string {
	t.Helper()
	for port := 21000 + os.Getpid()%4000 + int(givenAddrs.Add(1)); port < 32000; port++ {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal("no port is free")
	return ""
}

// newCollector describes a collector with a data directory in dir, or without
// one when dir is empty. Nothing runs yet.
func newCollector(t testing.TB, dir string, args ...string) *collector {
	t.Helper()
	b, err := command()
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{t: t, addr: freeAddr(t), bin: b, log: &lockedBuffer{}}
	c.args = slices.Concat([]string{"collector", "--listen", c.addr, "--admin-listen", "off"}, quick, args)
	if dir == "" {
		c.args = append(c.args, "--durability", "memory")
	} else {
		c.args = append(c.args, "--durability", "disk", "--data-dir", dir)
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() && !c.quiet {
			t.Logf("the collector said:\n%s", c.log.tail())
		}
	})
	return c
}

// plant has the collector run with a bug.
func (c *collector) plant(bug string) {
	b, err := planted()
	if err != nil {
		c.t.Fatal(err)
	}
	c.bin, c.bug = b, bug
}

// begin starts the process and does not wait until it serves.
func (c *collector) begin() {
	c.t.Helper()
	c.cmd = exec.Command(c.bin, c.args...)
	c.cmd.Env = []string{"HOME=/nonexistent", "PATH=" + os.Getenv("PATH"), "TZ=UTC", "WHORL_PLANTED=" + c.bug}
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	launch := c.cmd.Start
	if c.guard != nil {
		launch = func() error { return c.guard(c.cmd) }
	}
	if err := launch(); err != nil {
		c.t.Fatal(err)
	}
	cmd, done := c.cmd, make(chan struct{})
	c.done = done
	go func() { cmd.Wait(); close(done) }()
}

// start starts the process, waits until it serves and returns how long it took.
func (c *collector) start() time.Duration {
	c.t.Helper()
	took, err := c.tryStart()
	if err != nil {
		c.t.Fatal(err)
	}
	return took
}

func (c *collector) tryStart() (time.Duration, error) {
	begin := time.Now()
	c.begin()
	err := c.await(time.Minute)
	return time.Since(begin), err
}

// await waits until the collector says that it serves.
func (c *collector) await(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if st, err := c.health(ctx, ""); err == nil && st == healthv1.HealthCheckResponse_SERVING {
			return nil
		}
		select {
		case <-c.done:
			return fmt.Errorf("the collector ended: %v", c.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("the collector does not serve within %v", patience)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// health asks how a service is; "" is the whole.
func (c *collector) health(ctx context.Context, service string) (healthv1.HealthCheckResponse_ServingStatus, error) {
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	return resp.GetStatus(), err
}

// kill ends the process as kill -9 does, if it runs.
func (c *collector) kill() {
	if c.cmd == nil {
		return
	}
	c.cmd.Process.Kill()
	<-c.done
	c.cmd = nil
}

// dump ends the process and writes its log, with what its goroutines did, to a
// file.
func (c *collector) dump() string {
	c.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
	}
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	return keep(c.log.b.Bytes())
}

// stop ends it as an operator does.
func (c *collector) stop() {
	c.t.Helper()
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			c.t.Errorf("collector: exit code %d after SIGTERM\n%s", code, c.log.tail())
		}
	case <-time.After(60 * time.Second):
		c.t.Errorf("the collector did not end within 60 s of SIGTERM\n%s", c.log.tail())
	}
	c.kill()
}

// dial returns a client that waits for the collector when it is away.
func dial(t testing.TB, addr string) *client.Client {
	t.Helper()
	cl, err := client.Dial(context.Background(), addr, client.WithLazy(), client.WithTimeout(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// status asks until the collector answers.
func status(t testing.TB, cl *client.Client) *whorlv1.GetStatusResponse {
	t.Helper()
	var err error
	for range 200 {
		var st *whorlv1.GetStatusResponse
		if st, err = cl.Status(context.Background(), &whorlv1.GetStatusRequest{}); err == nil {
			return st
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("status: %v", err)
	return nil
}

// trouble lists lines of the collector's log that speak of a bug of ours.
func (c *collector) trouble() string {
	var bad []string
	for line := range strings.Lines(c.log.tail()) {
		if strings.Contains(line, "panic") || strings.Contains(line, "goroutine ") || strings.Contains(line, "DATA RACE") {
			bad = append(bad, line)
		}
	}
	return strings.Join(bad, "")
}
