package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// proxy passes TCP connections on and counts their bytes.
type proxy struct {
	listener net.Listener
	target   string
	bytes    atomic.Int64
	all      sync.WaitGroup
}

// newProxy listens until end.
func newProxy(target string) (*proxy, error) {
	l, err := onLoopback()
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, target: target}
	p.all.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// end stops listening, waits until all connections are closed, and returns
// their bytes, both ways.
func (p *proxy) end() int64 {
	p.listener.Close()
	p.all.Wait()
	return p.bytes.Load()
}

func (p *proxy) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		to, err := net.Dial("tcp", p.target)
		if err != nil {
			from.Close()
			continue
		}
		p.pass(from, to)
		p.pass(to, from)
	}
}

// pass copies one direction until either side is closed.
func (p *proxy) pass(from, to net.Conn) {
	p.all.Go(func() {
		io.Copy(counted{to, &p.bytes}, from) // the other direction, or the client, says what is wrong
		from.Close()
		to.Close()
	})
}

// counted adds up what is written.
type counted struct {
	io.Writer
	bytes *atomic.Int64
}

// Write implements io.Writer.
func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.bytes.Add(int64(n))
	return n, err
}
