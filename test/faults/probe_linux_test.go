//go:build e2e

package faults

import (
	"bufio"
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sniffer is a whorl probe on the loopback interface.
type sniffer struct {
	t    testing.TB
	cmd  *exec.Cmd
	said *lockedBuffer
	done chan struct{}
}

// startSniffer returns when the probe captures. It skips the test where it may not.
func startSniffer(t testing.TB, collector string, port int, args ...string) *sniffer {
	t.Helper()
	b, err := command()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"probe", "-i", "lo", "--collector", collector, "--probe-id", "sniffer"}, args...)
	s := &sniffer{t: t, cmd: exec.Command(b, append(args, "udp dst port "+strconv.Itoa(port))...), said: &lockedBuffer{}, done: make(chan struct{})}
	s.cmd.Env = []string{"HOME=/nonexistent", "TZ=UTC"}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	capturing := make(chan struct{})
	go func() {
		defer close(s.done)
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			s.said.Write([]byte(sc.Text() + "\n"))
			if strings.HasPrefix(sc.Text(), "capturing on") {
				close(capturing)
			}
		}
		s.cmd.Wait()
	}()
	t.Cleanup(s.kill)
	select {
	case <-capturing:
	case <-s.done:
		if s.cmd.ProcessState.ExitCode() == 5 {
			t.Skip("capturing is not permitted here")
		}
		t.Fatalf("the probe ended: %s", s.said.tail())
	case <-time.After(20 * time.Second):
		t.Fatalf("the probe does not capture: %s", s.said.tail())
	}
	time.Sleep(200 * time.Millisecond)
	return s
}

func (s *sniffer) kill() {
	s.cmd.Process.Kill()
	<-s.done
}

// end tells the probe to end and returns its exit code.
func (s *sniffer) end() int {
	s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the probe does not end: %s", s.said.tail())
	}
	return s.cmd.ProcessState.ExitCode()
}

// sender sends UDP packets to a port of this host.
type sender struct {
	t     testing.TB
	port  int
	conns []*net.UDPConn
}

func startSender(t testing.TB) *sender {
	t.Helper()
	l, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}) // so that nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := &sender{t: t, port: l.LocalAddr().(*net.UDPAddr).Port}
	for range 20 {
		c, err := net.DialUDP("udp4", nil, l.LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		s.conns = append(s.conns, c)
	}
	return s
}

// send sends n packets, some 20,000 a second.
func (s *sender) send(n int) {
	s.t.Helper()
	for i := range n {
		if _, err := s.conns[i%len(s.conns)].Write([]byte("whorl")); err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
			s.t.Fatal(err)
		}
		if i%20 == 19 {
			time.Sleep(time.Millisecond)
		}
	}
}

// applied waits until the collector has applied want packets, or nothing more
// comes, and returns how many it has.
func applied(t testing.TB, addr string, want uint64) (n uint64) {
	t.Helper()
	cl := dial(t, addr)
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if n = status(t, cl).GetPacketsApplied(); n >= want {
			break
		}
	}
	time.Sleep(500 * time.Millisecond) // what is beyond would be double
	return status(t, cl).GetPacketsApplied()
}

// A probe that is killed while its collector is away has lost nothing that was
// older than a second: the next one sends it, once. Without a spool what it held
// is gone, and nothing is counted twice.
func TestProbeKilled(t *testing.T) {
	for _, spool := range []bool{true, false} {
		name := map[bool]string{true: "with a spool", false: "without"}[spool]
		t.Run(name, func(t *testing.T) {
			c := newCollector(t, t.TempDir())
			c.start()
			up := startProxy(t, c.addr, 0, 1, faultCut)
			from := startSender(t)
			var args []string
			if spool {
				args = []string{"--spool", t.TempDir()}
			}
			sent, gone, second := uint64(0), uint64(0), uint64(20_000)
			for range scaled(2, 10) {
				s := startSniffer(t, up.addr(), from.port, args...)
				from.send(int(second))
				sent += second
				if got := applied(t, c.addr, sent-gone); got != sent-gone {
					t.Fatalf("%d packets counted, want %d\n%s", got, sent-gone, s.said.tail())
				}
				up.away(true)
				from.send(int(second))
				sent += second
				time.Sleep(2500 * time.Millisecond) // all of it is older than a second now
				if !spool {
					gone += second
				}
				s.kill()
				up.away(false)
			}
			s := startSniffer(t, up.addr(), from.port, args...)
			if got := applied(t, c.addr, sent-gone); got != sent-gone {
				t.Errorf("%d packets counted of %d sent, want %d\n%s", got, sent, sent-gone, s.said.tail())
			}
			// Killed at full load: what is missing is of the last moments.
			from.send(int(3 * second))
			s.kill()
			s = startSniffer(t, up.addr(), from.port, args...)
			from.send(int(second))
			most := sent - gone + 4*second
			if got := applied(t, c.addr, most); got > most || got < most-2*second {
				t.Errorf("%d packets counted of %d that were sent around a kill under load, want at most %d fewer", got, most, 2*second)
			} else {
				t.Logf("%d packets sent, %d held back and lost at kills, %d lost at the kill under load", sent+4*second, gone, most-got)
			}
			if code := s.end(); code != 0 {
				t.Errorf("the probe ended with %d: %s", code, s.said.tail())
			}
		})
	}
}
