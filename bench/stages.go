package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/whorl-net/whorl/bench/measure"
	"github.com/whorl-net/whorl/bench/traffic"
	"github.com/whorl-net/whorl/client"
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/wire"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
	"github.com/whorl-net/whorl/probe/handshake"
)

// stages measures each stage on the way of a packet, each with all those before
// it, in one process but for the peer of the gRPC stages.
type stages struct {
	file    string
	packets int
	rounds  int
	batches []*flow.Batch // of file

	probe, collector, forms *measure.Table
	added                   float64 // CPU of the stage before, in this round
}

// columns of the tables of stages.
func stageColumns() []measure.Column {
	return []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "added", Unit: "ns"}, {Name: "wall", Unit: "ns"},
	}
}

// measureStages fills three tables out of a mixed capture.
func (b *bench) measureStages() error {
	c, err := b.capture(b.mixed())
	if err != nil {
		return err
	}
	s := &stages{file: c.path, packets: c.cfg.Packets, rounds: b.rounds}
	s.probe = b.table("stages/probe", fmt.Sprintf("Probe, per packet: %v", c), stageColumns(),
		"Each row does what the rows above do, too; added is the difference, median over rounds.")
	s.collector = b.table("stages/collector", "Collector, per packet, of the same batches", stageColumns(),
		"receive to track: CPU of a process of its own behind loopback gRPC; track is route and apply.",
		"route: CPU of the thread in Tracker.Submit; apply: that of all others, 64 shards.")
	s.forms = b.table("stages/forms", "Other forms of the same work, per packet", []measure.Column{
		{Name: "CPU", Unit: "ns", Spread: true}, {Name: "ratio", Spread: true}, {Name: "peer", Unit: "ns"}, {Name: "wall", Unit: "ns"},
	}, "Rows 1 to 5: read to batch; ratio to all fingerprints. The rest: encode and send of batches that are there, peer being the CPU of who receives and decodes; ratio of both together to the column batch.")
	src, err := capture.Open(s.file)
	if err != nil {
		return err
	}
	defer src.Close()
	if s.batches, err = traffic.Batches(src, probe.Config{}); err != nil {
		return err
	}
	return measure.Rounds(s.rounds, s.probeStages, s.collectorStages, s.otherForms)
}

// stage measures f, which handles all packets, as a row of the probe.
func (s *stages) stage(name string, f func() error) error {
	use, err := timed(f)
	if err != nil {
		return fmt.Errorf("stage %s: %w", name, err)
	}
	s.addStage(s.probe, name, use)
	return nil
}

func (s *stages) addStage(t *measure.Table, name string, use measure.Use) {
	cpu := float64(use.CPU) / float64(s.packets)
	t.AddUse(name, use, s.packets)
	t.Add(name, "added", cpu-s.added)
	s.added = cpu
}

// probeStages is one round of the probe's side.
func (s *stages) probeStages() error {
	s.added = 0
	var in capture.Packet
	var out decode.Packet
	var result handshake.Result
	return errors.Join(
		s.stage("read", func() error {
			return s.each(&in, func() {})
		}),
		s.stage("+ decode", func() error {
			d := decode.New(decode.Config{})
			return s.each(&in, func() { d.Decode(&in, &out) })
		}),
		s.stage("+ handshake", func() error {
			d, g := decode.New(decode.Config{}), handshake.New(handshake.Config{})
			return s.each(&in, func() {
				if d.Decode(&in, &out) == decode.Tracked {
					g.Packet(&out, &result)
				}
			})
		}),
		s.stage("+ batch", func() error { return s.run(probe.Config{}, new(discard)) }),
		s.stage("+ encode", func() error { return s.run(probe.Config{}, new(encode)) }),
		s.sendStage("receive"),
	)
}

// each reads the capture and calls f for every packet.
func (s *stages) each(in *capture.Packet, f func()) error {
	src, err := capture.Open(s.file)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		err := src.Next(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f()
	}
}

// run runs a whole probe over the capture.
func (s *stages) run(cfg probe.Config, to probe.Reporter) error {
	src, err := capture.Open(s.file)
	if err != nil {
		return err
	}
	defer src.Close()
	p, err := probe.New(cfg, to, src)
	if err != nil {
		return err
	}
	if err := p.Run(context.Background()); err != nil {
		return err
	}
	if t := p.Totals(); t.Reported != uint64(s.packets) {
		return fmt.Errorf("%d of %d packets in batches", t.Reported, s.packets)
	}
	return nil
}

// discard is a probe.Reporter that does nothing.
type discard struct{}

// Report implements probe.Reporter.
func (*discard) Report(context.Context, *flow.Batch) error { return nil }

// encode is a probe.Reporter that encodes.
type encode struct{ buf []byte }

// Report implements probe.Reporter.
func (e *encode) Report(_ context.Context, b *flow.Batch) error {
	e.buf = wire.AppendBatch(e.buf[:0], b)
	return nil
}

// sendStage measures a whole probe with a Reporter, and the process that
// receives what it sends.
func (s *stages) sendStage(role string) error {
	return s.against(role, func(addr string) (measure.Use, error) {
		return timed(func() error {
			return reporting(addr, func(r *client.Reporter) error { return s.run(probe.Config{}, r) })
		})
	}, func(use measure.Use, peer measure.Use) {
		if role == "receive" {
			s.addStage(s.probe, "+ gRPC send", use)
		}
	})
}

// reporting runs a Reporter to the collector at addr while f uses it.
func reporting(addr string, f func(*client.Reporter) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c, err := client.Dial(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Reporter(client.ReporterConfig{ProbeID: "bench", MustConnect: true})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	err = f(r)
	if err == nil {
		err = r.Finish(ctx, false)
	}
	cancel()
	if end := <-ended; err == nil && !errors.Is(end, context.Canceled) {
		err = end
	}
	return err
}

// against runs f with the address of a process in that role, and gives done
// what both sides have used.
func (s *stages) against(role string, f func(addr string) (measure.Use, error), done func(use, peer measure.Use)) error {
	c, err := startRole(role)
	if err != nil {
		return err
	}
	before, err := c.cpu()
	if err != nil {
		return errors.Join(err, c.stop())
	}
	use, err := f(c.line)
	after, clockErr := c.cpu()
	if err := errors.Join(err, clockErr, c.stop()); err != nil {
		return fmt.Errorf("against %s: %w", role, err)
	}
	done(use, measure.Use{CPU: after - before, Wall: use.Wall})
	return nil
}

// replay reports batches that are there.
func (s *stages) replay(r *client.Reporter) error {
	for _, b := range s.batches {
		if err := r.Report(context.Background(), b); err != nil {
			return err
		}
	}
	return nil
}

// send is one run of the batches to a process in that role.
func (s *stages) send(role string, done func(use, peer measure.Use)) error {
	return s.against(role, func(addr string) (measure.Use, error) {
		return timed(func() error { return reporting(addr, s.replay) })
	}, done)
}

// collectorStages is one round of the collector's side.
func (s *stages) collectorStages() error {
	s.added = 0
	for _, role := range []struct{ role, name string }{
		{"receive", "receive"}, {"decode", "+ decode"}, {"track", "+ track"},
	} {
		err := s.send(role.role, func(_, peer measure.Use) { s.addStage(s.collector, role.name, peer) })
		if err != nil {
			return err
		}
	}
	return s.routeAndApply()
}

// otherForms is one round of what the same work costs in another form.
func (s *stages) otherForms() error {
	var all float64
	for _, f := range []struct {
		name  string
		types ja4.TypeSet
	}{
		{"all fingerprints", 0},
		{"ja4, ja4s", ja4.TypeSet(0).With(ja4.TypeJA4).With(ja4.TypeJA4S)},
		{"ja4t alone", ja4.TypeSet(0).With(ja4.TypeJA4T)},
		{"none (--types none)", ja4.NoTypes},
	} {
		use, err := timed(func() error { return s.run(probe.Config{Types: f.types}, new(discard)) })
		if err != nil {
			return err
		}
		cpu := float64(use.CPU)
		if f.types == 0 {
			all = cpu
		}
		s.forms.AddUse(f.name, use, s.packets)
		s.forms.Add(f.name, "ratio", cpu/all)
	}
	if err := s.withoutHandshakes(all); err != nil {
		return err
	}
	return s.messageForms()
}

// withoutHandshakes decodes and batches without an engine: one flow per packet
// looked up in a Go map.
func (s *stages) withoutHandshakes(all float64) error {
	use, err := timed(func() error {
		var in capture.Packet
		var out decode.Packet
		d, b := decode.New(decode.Config{}), new(flow.Batch)
		index := make(map[flow.Key]uint32)
		return s.each(&in, func() {
			if d.Decode(&in, &out) != decode.Tracked {
				return
			}
			key, _ := out.Tuple.Key()
			i, ok := index[key]
			if !ok {
				i = b.AddFlow(out.Tuple)
				index[key] = i
			}
			b.AddPacket(i, b.Flows[i] != out.Tuple, out.Time, out.WireLength, out.TCPFlags)
			if b.Rows() == 2000 {
				b.Reset()
				clear(index)
			}
		})
	})
	if err != nil {
		return err
	}
	s.forms.AddUse("decode and batch by a Go map", use, s.packets)
	s.forms.Add("decode and batch by a Go map", "ratio", float64(use.CPU)/all)
	return nil
}

// messageForms sends the packets in columns and as messages of their own.
func (s *stages) messageForms() error {
	var columns float64
	err := s.send("decode", func(use, peer measure.Use) {
		columns = float64(use.CPU+peer.CPU) / float64(s.packets)
		s.addForm("sent as column batches", use, peer, s.packets, columns)
	})
	if err != nil {
		return err
	}
	// A message per packet is slow: a part of the packets will do.
	few, n := s.batches, 0
	for i, b := range few {
		if n += b.Rows(); n > 200_000 {
			few = few[:i+1]
			break
		}
	}
	for _, m := range []struct{ name, method string }{
		{"sent one by one, bytes", bytesMethod}, {"sent one by one, text", textMethod},
	} {
		sent := 0
		err := s.against("message", func(addr string) (measure.Use, error) {
			return timed(func() (err error) {
				sent, err = sendMessages(addr, m.method, few)
				return err
			})
		}, func(use, peer measure.Use) { s.addForm(m.name, use, peer, sent, columns) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *stages) addForm(name string, use, peer measure.Use, n int, columns float64) {
	s.forms.AddUse(name, use, n)
	s.forms.Add(name, "peer", float64(peer.CPU)/float64(n))
	s.forms.Add(name, "ratio", float64(use.CPU+peer.CPU)/float64(n)/columns)
}
