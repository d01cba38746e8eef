package capture

import (
	"io"
	"sync"
	"time"
)

// Stream is a Source over a file whose bytes come slowly, such as a pipe from
// another program: its Next returns ErrIdle when no packet came for 100 ms, so
// that who reads it can hand on what it has, and can stop.
//
// A goroutine reads ahead, a bounded number of packets. It ends when the file
// does, or with the process: a read from a pipe that nobody writes to cannot be
// called off. Close does not wait for it then.
type Stream struct {
	file  *File
	ready chan struct{} // capacity 1: there is something in ahead
	room  chan struct{} // capacity 1: ahead was taken
	stop  chan struct{}

	mu    sync.Mutex // guards ahead
	ahead *group     // filled by the goroutine

	now  *group // being lent
	next int    // of it
	err  error
	wait *time.Timer
}

// group is some packets, copied, and what came behind them.
type group struct {
	packets []Packet
	lengths []int // of their data, which lies in data one behind the other
	data    []byte
	err     error
}

// cut gives each packet its data, once data moves no more.
func (g *group) cut() {
	rest := g.data
	for i, n := range g.lengths {
		g.packets[i].Data, rest = rest[:n:n], rest[n:]
	}
}

const (
	streamWait   = 100 * time.Millisecond
	groupPackets = 1024
	groupBytes   = 512 << 10 // and one packet
)

// NewStream takes over f.
func NewStream(f *File) *Stream {
	s := &Stream{
		file: f, ready: make(chan struct{}, 1), room: make(chan struct{}, 1), stop: make(chan struct{}),
		ahead: &group{}, now: &group{}, wait: time.NewTimer(streamWait),
	}
	go s.read()
	return s
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// read fills ahead until the file ends, and waits while it is full.
func (s *Stream) read() {
	var p Packet
	for {
		err := s.file.Next(&p)
		full := s.add(&p, err)
		signal(s.ready)
		if err != nil {
			return
		}
		for full {
			select {
			case <-s.room:
			case <-s.stop:
				return
			}
			s.mu.Lock()
			full = s.ahead.full()
			s.mu.Unlock()
		}
	}
}

func (g *group) full() bool { return len(g.packets) >= groupPackets || len(g.data) >= groupBytes }

// add puts a copy of p, or err, behind what is ahead.
func (s *Stream) add(p *Packet, err error) (full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.ahead
	if err != nil {
		g.err = err
		return true
	}
	g.data = append(g.data, p.Data...)
	g.lengths = append(g.lengths, len(p.Data))
	g.packets = append(g.packets, *p)
	return g.full()
}

// Next lends the next packet, or returns ErrIdle when none came for 100 ms.
func (s *Stream) Next(p *Packet) error {
	for s.err == nil {
		if s.next < len(s.now.packets) {
			*p = s.now.packets[s.next]
			s.next++
			return nil
		}
		if s.err = s.now.err; s.err == nil {
			if err := s.receive(); err != nil {
				return err
			}
		}
	}
	return s.err
}

// NextBlock implements BlockSource. It lends what came together.
func (s *Stream) NextBlock(ps []Packet) (int, error) {
	if err := s.Next(&ps[0]); err != nil {
		return 0, err
	}
	n := copy(ps[1:], s.now.packets[s.next:])
	s.next += n
	return 1 + n, nil
}

// receive swaps what was lent for what is ahead.
func (s *Stream) receive() error {
	s.wait.Reset(streamWait)
	for {
		s.mu.Lock()
		if g := s.ahead; len(g.packets) > 0 || g.err != nil {
			s.now.packets, s.now.lengths, s.now.data = s.now.packets[:0], s.now.lengths[:0], s.now.data[:0]
			s.now, s.ahead, s.next = g, s.now, 0
			s.mu.Unlock()
			signal(s.room)
			g.cut()
			return nil
		}
		s.mu.Unlock()
		select {
		case <-s.ready:
		case <-s.wait.C:
			return ErrIdle
		}
	}
}

// Offset is how far the file is read, which may be ahead of what was lent.
func (s *Stream) Offset() int64 { return s.file.Offset() }

// Close lets go of the stream. What Next lent is invalid from then on.
func (s *Stream) Close() error {
	if s.err == nil {
		s.err = io.ErrClosedPipe
		close(s.stop)
	}
	s.wait.Stop()
	if s.file.close == nil {
		return nil
	}
	return s.file.close.Close() // not file.Close: the goroutine may be in Next
}
