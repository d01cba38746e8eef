//go:build e2e

package test

import (
	"bufio"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whorl-net/whorl/probe/capture"
)

// traffic writes a capture of n UDP packets over some thousand flows, the
// product of seed alone.
func traffic(t testing.TB, n int, seed uint64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "traffic.pcap")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	w, err := capture.NewWriter(out, capture.PCAPNano, capture.Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, seed))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).UnixNano()
	for range n {
		at += int64(r.IntN(20_000))
		size := 20 + r.IntN(200)
		b := append(make([]byte, 12), 0x08, 0x00)
		b = append(b, 0x45, 0, byte((28+size)>>8), byte(28+size), 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, byte(r.IntN(4)), byte(r.IntN(256)), 192, 0, 2, byte(r.IntN(8)))
		b = binary.BigEndian.AppendUint16(b, uint16(1024+r.IntN(4)))
		b = binary.BigEndian.AppendUint16(b, 53)
		b = binary.BigEndian.AppendUint16(b, uint16(8+size))
		b = append(b, 0, 0)
		b = append(b, make([]byte, size)...)
		if err := w.Write(&capture.Packet{Data: b, Time: at, WireLength: uint32(len(b)), LinkType: capture.Ethernet}); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
	return name
}

// cutter is a proxy that breaks each connection after a random number of bytes,
// so many times, and then lets everything through.
type cutter struct {
	listener net.Listener
	target   string
	mu       sync.Mutex // guards random
	random   *rand.Rand
	left     atomic.Int64
	cuts     atomic.Int64
	wg       sync.WaitGroup
}

func startCutter(t testing.TB, target string, cuts int) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, target: target, random: rand.New(rand.NewPCG(7, 7))}
	c.left.Store(int64(cuts))
	c.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.serve(in) })
		}
	})
	t.Cleanup(func() { l.Close(); c.wg.Wait() })
	return c
}

func (c *cutter) serve(in net.Conn) {
	defer in.Close()
	out, err := net.Dial("tcp", c.target)
	if err != nil {
		return
	}
	defer out.Close()
	limit := int64(1) << 62
	if c.left.Add(-1) >= 0 {
		c.mu.Lock()
		limit = 100 + c.random.Int64N(60_000)
		c.mu.Unlock()
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(in, out); in.Close() })
	if n, _ := io.CopyN(out, in, limit); n == limit {
		c.cuts.Add(1)
	}
	// Both ends at once, without a farewell: what is in flight is lost.
	for _, x := range []net.Conn{in, out} {
		x.(*net.TCPConn).SetLinger(0)
		x.Close()
	}
	wg.Wait()
}

// An ingest stream that is cut 100 times at random places gives the totals of
// an uncut run, to the packet and the byte.
func TestCutsChangeNothing(t *testing.T) {
	const packets, cuts = 400_000, 100
	file := traffic(t, packets, 1)
	totals := func(via func(addr string) string) string {
		c := startCollector(t, never...)
		r := run(t, "probe", "-r", file, "--collector", via(c.addr))
		if r.code != 0 {
			t.Fatalf("probe: exit code %d\n%s%s", r.code, r.err, r.out)
		}
		return must(t, "count", "--by", "src_ip/24,dst_ip", "--top", "100", "--order", "packets", "-o", "jsonl", "--collector", c.addr)
	}
	want := totals(func(addr string) string { return addr })
	var proxy *cutter
	got := totals(func(addr string) string {
		proxy = startCutter(t, addr, cuts)
		return proxy.listener.Addr().String()
	})
	if n := proxy.cuts.Load(); n < cuts {
		t.Errorf("%d cuts, want %d: the capture is too small to show anything", n, cuts)
	}
	if got != want {
		t.Errorf("with cuts:\n%s\nwithout:\n%s", got, want)
	}
	var sum float64
	for _, row := range rows(t, want) {
		sum += row["packets"].(float64)
	}
	if sum != packets {
		t.Errorf("%v packets counted, %d sent", sum, packets)
	}
}
