package traffic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
)

// Write writes what src has left to w, as a pcap file with nanoseconds.
func Write(w io.Writer, src capture.Source) error {
	b := bufio.NewWriterSize(w, 1<<20)
	cw, err := capture.NewWriter(b, capture.PCAPNano, capture.Ethernet)
	if err != nil {
		return err
	}
	var p capture.Packet
	for {
		err := src.Next(&p)
		if errors.Is(err, io.EOF) {
			return b.Flush()
		}
		if err != nil {
			return err
		}
		if err := cw.Write(&p); err != nil {
			return err
		}
	}
}

// WriteFile makes the capture that cfg describes at path.
func WriteFile(path string, cfg Config, s *Sample) (Stats, error) {
	g, err := New(cfg, s)
	if err != nil {
		return Stats{}, err
	}
	f, err := os.Create(path)
	if err != nil {
		return Stats{}, err
	}
	if err := errors.Join(Write(f, g), f.Close()); err != nil {
		return Stats{}, fmt.Errorf("write %s: %w", path, err)
	}
	return g.Stats(), nil
}

// Bytes returns the capture that cfg describes.
func Bytes(cfg Config, s *Sample) ([]byte, error) {
	g, err := New(cfg, s)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = Write(&b, g)
	return b.Bytes(), err
}

// Reader reads a capture file while it is made, so that none has to lie
// anywhere. It belongs to one goroutine.
type Reader struct {
	src    capture.Source
	writer *capture.Writer
	buf    bytes.Buffer
	packet capture.Packet
}

// NewReader returns a Reader of what src lends.
func NewReader(src capture.Source) (*Reader, error) {
	r := &Reader{src: src}
	var err error
	r.writer, err = capture.NewWriter(&r.buf, capture.PCAPNano, capture.Ethernet)
	return r, err
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for r.buf.Len() < len(p) {
		err := r.src.Next(&r.packet)
		if err == nil {
			err = r.writer.Write(&r.packet)
		}
		if err != nil {
			if r.buf.Len() > 0 {
				break
			}
			return 0, err
		}
	}
	return r.buf.Read(p)
}

// Batches returns what a probe with cfg makes of src: its batches, numbered,
// with fingerprints, cut where a probe cuts them.
func Batches(src capture.Source, cfg probe.Config) ([]*flow.Batch, error) {
	var c Collected
	p, err := probe.New(cfg, &c, src)
	if err != nil {
		return nil, err
	}
	if err := p.Run(context.Background()); err != nil {
		return nil, err
	}
	return c.Batches, nil
}

// Collected is a probe.Reporter that keeps copies.
type Collected struct{ Batches []*flow.Batch }

// Report implements probe.Reporter.
func (c *Collected) Report(_ context.Context, b *flow.Batch) error {
	d := *b
	d.Flows, d.Flow, d.Time = slices.Clone(b.Flows), slices.Clone(b.Flow), slices.Clone(b.Time)
	d.WireLength, d.TCPFlags = slices.Clone(b.WireLength), slices.Clone(b.TCPFlags)
	d.RunPackets, d.RunSpan = slices.Clone(b.RunPackets), slices.Clone(b.RunSpan)
	d.Fingerprints = slices.Clone(b.Fingerprints)
	c.Batches = append(c.Batches, &d)
	return nil
}
