//go:build e2e

package faults

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what the proxy does to a connection after some bytes.
type fault int

const (
	faultCut      fault = iota // a reset in both directions
	faultStall                 // nothing passes for a while, then a reset
	faultTrickle               // some hundred bytes one by one, then a reset
	faultDelay                 // everything comes later, then a reset
	faultRepeat                // a reset, and what was sent is sent again by another
	faultOneWay                // answers are lost, then a reset
	faultHalfOpen              // nothing passes and nobody says so
	faultKinds
)

var faultNames = [...]string{"cut", "stall", "trickle", "delay", "repeat", "one way", "half open"}

// proxy breaks the connections that go through it, so many times, and lets
// everything through then.
type proxy struct {
	listener net.Listener
	target   string
	answers  bool // faults come after so many bytes of answers, not of what is sent
	wg       sync.WaitGroup
	closed   chan struct{}

	mu     sync.Mutex // guards random and open
	random *rand.Rand
	open   map[*net.TCPConn]struct{}
	left   atomic.Int64
	kinds  []fault // to draw from
	counts [faultKinds]atomic.Int64
	down   atomic.Bool // refuses everything
}

func startProxy(t testing.TB, target string, faults int, seed uint64, kinds ...fault) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, random: rand.New(rand.NewPCG(seed, 7)), kinds: kinds, open: make(map[*net.TCPConn]struct{}), closed: make(chan struct{})}
	p.left.Store(int64(faults))
	p.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(in.(*net.TCPConn)) })
		}
	})
	t.Cleanup(func() { close(p.closed); l.Close(); p.wg.Wait() })
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// faults is how many there were.
func (p *proxy) faults() (n int64) {
	for i := range p.counts {
		n += p.counts[i].Load()
	}
	return n
}

// summary says how often each kind happened.
func (p *proxy) summary() (s string) {
	for i := range p.counts {
		s += fmt.Sprintf(" %s %d", faultNames[i], p.counts[i].Load())
	}
	return s[1:]
}

// cutAll resets every connection there is.
func (p *proxy) cutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		c.SetLinger(0)
		c.Close()
	}
}

// draw decides what becomes of a connection.
func (p *proxy) draw() (kind fault, after int64, pause time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kind = p.kinds[p.random.IntN(len(p.kinds))]
	return kind, 50 + p.random.Int64N(300_000), time.Duration(50+p.random.IntN(1500)) * time.Millisecond
}

func (p *proxy) serve(in *net.TCPConn) {
	defer in.Close()
	if p.down.Load() {
		in.SetLinger(0)
		return
	}
	c, err := net.Dial("tcp", p.target)
	if err != nil {
		in.SetLinger(0)
		return
	}
	out := c.(*net.TCPConn)
	defer out.Close()
	p.mu.Lock()
	p.open[in] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.open, in)
		p.mu.Unlock()
	}()
	kind, after, pause := p.draw()
	if p.left.Add(-1) < 0 {
		kind, after = -1, 1<<62
	}
	from, to := in, out
	if p.answers {
		from, to = out, in
	}
	mute := &muted{to: from} // the other direction
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { io.Copy(mute, to); from.CloseRead() })
	ended := make(chan struct{})
	wg.Go(func() { // the end of a test ends everything
		select {
		case <-p.closed:
		case <-ended:
		}
		in.SetLinger(0)
		out.SetLinger(0)
		in.Close()
		out.Close()
	})
	defer close(ended)

	seen := &recorder{}
	n, err := io.CopyN(to, io.TeeReader(from, seen), after)
	if n < after || err != nil {
		if kind >= 0 {
			p.left.Add(1) // it ended by itself: no fault
		}
		return
	}
	p.counts[kind].Add(1)
	switch kind {
	case faultStall:
		p.pause(pause)
	case faultTrickle:
		for i := 0; i < 400; i++ {
			if _, err := io.CopyN(to, from, 1); err != nil {
				break
			}
			p.pause(200 * time.Microsecond)
		}
	case faultDelay:
		buf := make([]byte, 32<<10)
		for range 10 {
			n, err := from.Read(buf)
			if err != nil {
				break
			}
			p.pause(pause / 10)
			to.Write(buf[:n])
		}
	case faultRepeat:
		in.SetLinger(0)
		in.Close()
		p.repeat(seen.b)
	case faultOneWay:
		mute.on.Store(true)
		from.SetReadDeadline(time.Now().Add(pause))
		io.CopyN(to, from, 100_000)
	case faultHalfOpen:
		<-p.closed
	}
}

// pause waits, or until the test ends.
func (p *proxy) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-p.closed:
	}
}

// repeat sends what a connection sent on another one.
func (p *proxy) repeat(b []byte) {
	c, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	go c.Write(b)
	io.Copy(io.Discard, c)
}

// recorder keeps the beginning of what is written to it.
type recorder struct{ b []byte }

func (r *recorder) Write(p []byte) (int, error) {
	if len(r.b)+len(p) <= 1<<20 {
		r.b = append(r.b, p...)
	}
	return len(p), nil
}

// muted passes on until it is on, and then loses everything.
type muted struct {
	to io.Writer
	on atomic.Bool
}

func (m *muted) Write(p []byte) (int, error) {
	if m.on.Load() {
		return len(p), nil
	}
	return m.to.Write(p)
}
