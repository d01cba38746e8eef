package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/whorl-net/whorl/internal/output"
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
	for {
		err := s.source.Next(p)
		if errors.Is(err, capture.ErrIdle) {
			return err
		}
		if err != nil {
			s.bar.clear()
			return err
		}
		s.bar.packet(s.file)
		if !s.begun {
			s.begun, s.first = true, p.Time
		}
		if s.filter.Match(p) {
			if s.snaplen > 0 {
				p.Data = p.Data[:min(len(p.Data), s.snaplen)]
			}
			return nil
		}
		if err := s.filter.Err(); err != nil {
			s.bar.clear()
			return err
		}
	}
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

func (p *progress) packet(f *capture.File) {
	if p == nil {
		return
	}
	p.packets++
	if p.packets%progressPackets != 0 {
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
			output.Bytes(uint64(size)), output.Number(p.packets), output.Number(uint64(rate)), left.Round(time.Second))
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
