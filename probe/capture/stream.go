package capture

import (
	"io"
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
	file *File
	full chan *group // from the goroutine
	free chan *group // back to it
	stop chan struct{}

	now  *group // being lent
	next int    // of it
	err  error
	wait *time.Timer
}

// group is some packets, copied, and what ended them.
type group struct {
	packets []Packet
	data    []byte
	err     error
}

const (
	streamWait   = 100 * time.Millisecond
	groupPackets = 256
	groupBytes   = 256 << 10
	groups       = 4 // in all: about 1 MiB and one packet each
)

// NewStream takes over f.
func NewStream(f *File) *Stream {
	s := &Stream{
		file: f, full: make(chan *group, groups), free: make(chan *group, groups),
		stop: make(chan struct{}), wait: time.NewTimer(streamWait),
	}
	for range groups {
		s.free <- &group{}
	}
	go s.read()
	return s
}

// read fills groups until the file ends. A group is handed on when it is full,
// and also as soon as nobody has one to work on.
func (s *Stream) read() {
	var p Packet
	g := <-s.free
	for {
		err := s.file.Next(&p)
		if err == nil {
			from := len(g.data)
			g.data = append(g.data, p.Data...)
			p.Data = g.data[from:len(g.data):len(g.data)]
			g.packets = append(g.packets, p)
			if len(g.packets) < groupPackets && len(g.data) < groupBytes && len(s.full) > 0 {
				continue
			}
		}
		g.err = err
		select {
		case s.full <- g:
		case <-s.stop:
			return
		}
		if err != nil {
			return
		}
		select {
		case g = <-s.free:
		case <-s.stop:
			return
		}
	}
}

// Next lends the next packet, or returns ErrIdle when none came for 100 ms.
func (s *Stream) Next(p *Packet) error {
	for s.err == nil {
		if s.now == nil {
			if err := s.receive(); err != nil {
				return err
			}
		}
		if s.next < len(s.now.packets) {
			*p = s.now.packets[s.next]
			s.next++
			return nil
		}
		s.err = s.now.err
		s.now.packets, s.now.data = s.now.packets[:0], s.now.data[:0]
		s.free <- s.now // has room for all there are
		s.now = nil
	}
	return s.err
}

func (s *Stream) receive() error {
	s.wait.Reset(streamWait)
	select {
	case s.now = <-s.full:
		s.next = 0
		return nil
	case <-s.wait.C:
		return ErrIdle
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
