package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/internal/units"
	"github.com/whorl-net/whorl/probe/bpf"
	"github.com/whorl-net/whorl/probe/capture"
)

// fileSource reads a capture file through a filter and shows how far it got.
type fileSource struct {
	file   *capture.File
	source capture.Source // file, or a stream over it when it is a pipe
	filter *bpf.Filter    // nil accepts everything
	// snaplen is how many bytes of a packet are kept, behind the filter; 0 is all.
	snaplen int
	bar     *progress // nil shows nothing
	first   int64     // time of the first packet
	begun   bool
}

// Next lends the next packet that the filter accepts.
func (s *fileSource) Next(p *capture.Packet) error {
	one := [1]capture.Packet{}
	if _, err := s.NextBlock(one[:]); err != nil {
		return err
	}
	*p = one[0]
	return nil
}

// NextBlock lends those of the next packets that the filter accepts.
func (s *fileSource) NextBlock(ps []capture.Packet) (int, error) {
	for {
		err := s.filter.Err()
		if err != nil {
			s.bar.clear()
			return 0, err
		}
		n, err := capture.NextBlock(s.source, ps)
		if errors.Is(err, capture.ErrIdle) {
			return 0, err
		}
		if err != nil {
			s.bar.clear()
			return 0, err
		}
		s.bar.took(s.file, n)
		if !s.begun {
			s.begun, s.first = true, ps[0].Time
		}
		if n = s.keep(ps[:n]); n > 0 {
			return n, nil
		}
	}
}

// keep moves the packets that the filter accepts to the front and returns how
// many they are: up to one that the filter does not fit.
func (s *fileSource) keep(ps []capture.Packet) (kept int) {
	if s.filter == nil && s.snaplen == 0 {
		return len(ps)
	}
	for i := range ps {
		if s.filter.Match(&ps[i]) {
			ps[kept] = ps[i]
			if s.snaplen > 0 {
				p := &ps[kept]
				p.Data = p.Data[:min(len(p.Data), s.snaplen)]
			}
			kept++
		} else if s.filter.Err() != nil {
			break
		}
	}
	return kept
}

// Close closes the file.
func (s *fileSource) Close() error { return s.source.Close() }

// A progress shows one line on standard error while files are read. It is
// driven by packets and needs no goroutine. A nil progress shows nothing.
type progress struct {
	c       *console
	start   time.Time
	last    time.Time
	packets uint64
	shown   bool
	more    func() string // what else there is to say
}

// progressEvery is how often the line is written anew, progressPackets how many
// packets lie between two looks at the clock.
const (
	progressEvery   = 200 * time.Millisecond
	progressPackets = 4096
)

// newProgress returns nil unless standard error is a terminal. more adds to the
// line and may be nil.
func newProgress(c *console, more func() string) *progress {
	if !c.errTerminal || c.quiet {
		return nil
	}
	return &progress{c: c, start: time.Now(), last: time.Now(), more: more}
}

// took notes that n packets were read.
func (p *progress) took(f *capture.File, n int) {
	if p == nil {
		return
	}
	before := p.packets / progressPackets
	p.packets += uint64(n)
	if p.packets/progressPackets == before {
		return
	}
	now := time.Now()
	if now.Sub(p.last) < progressEvery {
		return
	}
	p.last = now
	p.show(f, now.Sub(p.start))
}

func (p *progress) show(f *capture.File, elapsed time.Duration) {
	rate := float64(p.packets) / elapsed.Seconds()
	line := fmt.Sprintf("%s, %s packets, %s/s", output.Bytes(uint64(f.Offset())), output.Number(p.packets), output.Number(uint64(rate)))
	if size := f.Size(); size > 0 && f.Offset() > 0 {
		part := float64(f.Offset()) / float64(size)
		left := time.Duration(float64(elapsed) * (1 - part) / part)
		line = fmt.Sprintf("%3.0f %% of %s, %s packets, %s/s, %s left", 100*part,
			output.Bytes(uint64(size)), output.Number(p.packets), output.Number(uint64(rate)), units.Duration(left.Round(time.Second)))
	}
	if p.more != nil {
		line += p.more()
	}
	p.shown = true
	fmt.Fprintf(p.c.err, "\r\x1b[K%s", line)
}

// clear takes the line away, so that something else can be written.
func (p *progress) clear() {
	if p != nil && p.shown {
		p.shown = false
		fmt.Fprint(p.c.err, "\r\x1b[K")
	}
}
