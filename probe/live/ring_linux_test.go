package live_test

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/whorl-net/whorl/probe/bpf"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/live"
)

// namespace moves the test into a network namespace of its own, with its
// loopback up, so that nothing but the test's packets is there. The goroutine
// stays on its thread, and the thread ends with the test.
func namespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread is not reused
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("needs root (CAP_SYS_ADMIN and CAP_NET_RAW): live capture is not tested here")
		}
		t.Fatal(err)
	}
	loopback(t, unix.IFF_UP|unix.IFF_LOOPBACK|unix.IFF_RUNNING)
}

// loopback sets the flags of the namespace's loopback.
func loopback(t *testing.T, flags uint16) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	req.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		t.Fatal(err)
	}
}

// sender returns a UDP socket that talks to a closed port's neighbour: a bound
// socket nobody reads.
func sender(t *testing.T, port int) *net.UDPConn {
	t.Helper()
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.DialUDP("udp4", nil, sink.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); sink.Close() })
	return c
}

// drain reads until the source has been silent for a while. It calls see for
// each packet.
func drain(t *testing.T, r *live.Ring, see func(*capture.Packet)) {
	t.Helper()
	idle := 0
	var p capture.Packet
	for idle < 3 {
		switch err := r.Next(&p); {
		case err == nil:
			idle = 0
			see(&p)
		case errors.Is(err, capture.ErrIdle):
			idle++
		default:
			t.Fatal(err)
		}
	}
}

// Each packet of a loopback is seen once, whole, with the kernel's time.
func TestSeesEachPacketOnce(t *testing.T) {
	namespace(t)
	r, err := live.Open(live.Config{Interface: "lo", RingBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := sender(t, 5000)
	before := time.Now()
	const n = 1000
	for i := range n {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(i))
		if _, err := c.Write(b[:]); err != nil {
			t.Fatal(err)
		}
	}
	var got uint64
	drain(t, r, func(p *capture.Packet) {
		if p.LinkType != capture.Ethernet || len(p.Data) != 14+20+8+8 || p.WireLength != uint32(len(p.Data)) {
			t.Fatalf("packet of link type %d with %d of %d bytes, want Ethernet with 50", p.LinkType, len(p.Data), p.WireLength)
		}
		if seq := binary.BigEndian.Uint64(p.Data[42:]); seq != got {
			t.Fatalf("packet %d in place of %d", seq, got)
		}
		if at := time.Unix(0, p.Time); at.Before(before.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
			t.Fatalf("capture time %v is not now", at)
		}
		got++
	})
	if got != n {
		t.Errorf("%d packets, want %d", got, n)
	}
	if s := r.Stats(); s.Received != n || s.DroppedKernel != 0 {
		t.Errorf("%+v, want %d received, 0 dropped", s, n)
	}
}

// A burst of 200,000 small packets at the default ring: what Next lent and what
// the kernel says it dropped is the whole, to the packet.
func TestBurstIsAccountedFor(t *testing.T) {
	namespace(t)
	r, err := live.Open(live.Config{Interface: "lo"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const n = 200_000
	c := sender(t, 5001)
	sent := make(chan int)
	go func() {
		raw, err := c.SyscallConn() // the socket is in our namespace, whatever thread writes
		if err != nil {
			t.Error(err)
		}
		ok := 0
		raw.Write(func(fd uintptr) bool {
			for range n {
				if _, err := unix.Write(int(fd), []byte("0123456789")); err == nil {
					ok++
				}
			}
			return true
		})
		sent <- ok
	}()
	var got uint64
	drain(t, r, func(*capture.Packet) { got++ })
	want := uint64(<-sent)
	drain(t, r, func(*capture.Packet) { got++ })
	s := r.Stats()
	if got+s.DroppedKernel != want || s.Received != want {
		t.Errorf("sent %d, lent %d, kernel dropped %d, kernel counted %d", want, got, s.DroppedKernel, s.Received)
	}
	t.Logf("sent %d, lent %d, dropped by the kernel %d", want, got, s.DroppedKernel)
}

// A filter works from the first packet on: nothing gets in before it stands.
func TestFilterHoldsFromTheFirstPacket(t *testing.T) {
	namespace(t)
	wanted, other := sender(t, 5002), sender(t, 5003)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				other.Write([]byte("x"))
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	prog, err := bpf.Compile("udp dst port 5002", capture.Ethernet, true)
	if err != nil {
		t.Fatal(err)
	}
	r, err := live.Open(live.Config{Interface: "lo", RingBytes: 4 << 20, Filter: prog})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 10 {
		wanted.Write([]byte("y"))
	}
	got := 0
	drain(t, r, func(p *capture.Packet) {
		if port := binary.BigEndian.Uint16(p.Data[36:]); port != 5002 {
			t.Fatalf("packet to port %d passed the filter", port)
		}
		got++
	})
	if got != 10 {
		t.Errorf("%d packets, want 10", got)
	}
}

// Rings of one fan-out group share the packets by flow: each packet goes to one
// ring, and both directions of a flow to the same.
func TestFanoutKeepsFlowsTogether(t *testing.T) {
	namespace(t)
	group := live.NewFanout()
	var rings []*live.Ring
	for range 2 {
		r, err := live.Open(live.Config{Interface: "lo", RingBytes: 2 << 20, Fanout: group})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		rings = append(rings, r)
	}
	const flows, each = 32, 20
	for range flows {
		c := sender(t, 0)
		for range each {
			c.Write([]byte("z"))
		}
	}
	total, where := 0, map[uint16]int{}
	for i, r := range rings {
		drain(t, r, func(p *capture.Packet) {
			total++
			port := binary.BigEndian.Uint16(p.Data[36:])
			if at, ok := where[port]; ok && at != i {
				t.Fatalf("flow to port %d is in two rings", port)
			}
			where[port] = i
		})
	}
	if total != flows*each || len(where) != flows {
		t.Errorf("%d packets of %d flows, want %d of %d", total, len(where), flows*each, flows)
	}
}

// An interface that goes down and comes up again is captured on, without an
// error in between.
func TestLinkFlap(t *testing.T) {
	namespace(t)
	r, err := live.Open(live.Config{Interface: "lo", RingBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := 0
	count := func(*capture.Packet) { got++ }
	sender(t, 5006).Write([]byte("before"))
	drain(t, r, count)
	loopback(t, unix.IFF_LOOPBACK)
	drain(t, r, count)
	loopback(t, unix.IFF_UP|unix.IFF_LOOPBACK|unix.IFF_RUNNING)
	sender(t, 5007).Write([]byte("after"))
	drain(t, r, count)
	if got != 2 {
		t.Errorf("%d packets, want one before and one after", got)
	}
}

// Rings that join a group under load see no packet twice.
func TestFanoutStartsWithoutRepeats(t *testing.T) {
	namespace(t)
	c := sender(t, 5008)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := uint64(0); ; n++ {
			select {
			case <-stop:
				return
			default:
				var b [8]byte
				binary.BigEndian.PutUint64(b[:], n)
				c.Write(b[:])
			}
		}
	}()
	seen := map[uint64]bool{}
	for range 10 {
		group := live.NewFanout()
		var rings []*live.Ring
		for range 4 {
			r, err := live.Open(live.Config{Interface: "lo", RingBytes: 2 << 20, Fanout: group})
			if err != nil {
				t.Fatal(err)
			}
			rings = append(rings, r)
		}
		clear(seen)
		for _, r := range rings {
			var p capture.Packet
			for range 500 {
				if r.Next(&p) != nil {
					break
				}
				n := binary.BigEndian.Uint64(p.Data[42:])
				if seen[n] {
					t.Fatalf("packet %d was lent twice", n)
				}
				seen[n] = true
			}
			r.Close()
		}
	}
	close(stop)
	<-stopped
	if len(seen) == 0 {
		t.Fatal("no packets: nothing is shown")
	}
}

// Opening what is not there, or without the right to, says so in a way a
// program can tell.
func TestOpenErrors(t *testing.T) {
	if _, err := live.Open(live.Config{Interface: "nosuch0"}); !errors.Is(err, live.ErrNoInterface) {
		t.Errorf("nosuch0: %v, want ErrNoInterface", err)
	}
	if _, err := live.Open(live.Config{Interface: "lo", RingBytes: -1}); err == nil {
		t.Error("a ring of -1 bytes was opened")
	}
	if os.Geteuid() != 0 {
		if _, err := live.Open(live.Config{Interface: "lo"}); !errors.Is(err, live.ErrNotPermitted) {
			t.Errorf("without CAP_NET_RAW: %v, want ErrNotPermitted", err)
		}
	}
}

// After Close, Next says so; Stats still answers.
func TestAfterClose(t *testing.T) {
	namespace(t)
	r, err := live.Open(live.Config{Interface: "lo", RingBytes: 2 << 20})
	if err != nil {
		t.Fatal(err)
	}
	sender(t, 5004).Write([]byte("last"))
	drain(t, r, func(*capture.Packet) {})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	var p capture.Packet
	if err := r.Next(&p); !errors.Is(err, live.ErrClosed) {
		t.Errorf("Next: %v, want ErrClosed", err)
	}
	if s := r.Stats(); s.Received != 1 {
		t.Errorf("%+v, want 1 received", s)
	}
}

// Next allocates nothing.
func TestNextDoesNotAllocate(t *testing.T) {
	namespace(t)
	r, err := live.Open(live.Config{Interface: "lo", RingBytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := sender(t, 5005)
	for range 600 {
		c.Write([]byte("x"))
	}
	var p capture.Packet
	for r.Next(&p) != nil {
	}
	if n := testing.AllocsPerRun(500, func() { r.Next(&p) }); n != 0 {
		t.Errorf("%v allocations per packet", n)
	}
}
