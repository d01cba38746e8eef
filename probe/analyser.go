package probe

import (
	"fmt"
	"runtime/debug"

	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
	"github.com/whorl-net/whorl/probe/handshake"
)

// chunkPackets are handled under one recover and between two looks at the
// clock and the context.
const chunkPackets = 256

// An analyser takes one packet at a time from a source to its fingerprints.
type analyser struct {
	decoder *decode.Decoder
	engine  *handshake.Engine
	onPanic func(in *capture.Packet, cause any, stack []byte)

	in     capture.Packet
	packet decode.Packet
	result handshake.Result
	doing  doing
	totals Totals // what the decoder and the engine do not count
}

// doing is what an analyser is at, for who recovers from a panic.
type doing uint8

const (
	doingElse    doing = iota
	doingRead          // in Source.Next
	doingAnalyse       // in code of ours that looks at bytes of strangers
)

// newAnalyser returns one that has the given share of cfg's limits.
func newAnalyser(cfg *Config, share, maxValueBytes int) analyser {
	return analyser{
		decoder: decode.New(decode.Config{Outer: cfg.Outer}),
		engine:  newEngine(cfg, share, maxValueBytes),
		onPanic: cfg.OnPanic,
	}
}

func newEngine(cfg *Config, share, maxValueBytes int) *handshake.Engine {
	h := handshake.Config{
		Types: cfg.Types, MaxFlows: cfg.MaxFlows, MaxBytes: cfg.MaxBytes, SSHWindow: cfg.SSHWindow,
		MaxValueBytes: maxValueBytes, Secrets: cfg.Secrets,
	}
	if cfg.Live && cfg.KeyFile != nil {
		h.SecretsWait = secretsWait
	}
	if h.MaxFlows == 0 {
		h.MaxFlows = handshake.DefaultMaxFlows
	}
	if h.MaxBytes == 0 {
		h.MaxBytes = handshake.DefaultMaxBytes
	}
	h.MaxFlows = max(h.MaxFlows/share, 1)
	h.MaxBytes = max(h.MaxBytes/int64(share), 1)
	return handshake.New(h)
}

// read fills a.in with the next packet of s.
func (a *analyser) read(s capture.Source) error {
	a.doing = doingRead
	err := s.Next(&a.in)
	a.doing = doingElse
	return err
}

// analyse counts, decodes and fingerprints the packet in a.in. It reports
// whether it belongs to a connection; a.packet and a.result then say more.
func (a *analyser) analyse() (tracked bool) {
	a.totals.Packets++
	a.totals.Bytes += uint64(a.in.WireLength)
	a.doing = doingAnalyse
	if tracked = a.decoder.Decode(&a.in, &a.packet) == decode.Tracked; tracked {
		a.engine.Packet(&a.packet, &a.result)
	}
	a.doing = doingElse
	return tracked
}

// recovered takes the cause of a panic. One over the bytes of a packet is
// counted, and the packet is skipped. One of the source is an error: it might
// come again and again. Any other is not the analyser's to stop, and goes on.
func (a *analyser) recovered(cause any) error {
	doing := a.doing
	a.doing = doingElse
	switch doing {
	case doingRead:
		return fmt.Errorf("the capture source panicked: %v\n%s", cause, debug.Stack())
	case doingAnalyse:
		a.totals.Panics++
		if a.onPanic != nil {
			a.onPanic(&a.in, cause, debug.Stack())
		}
		return nil
	}
	panic(cause)
}

// counts returns what was counted so far.
func (a *analyser) counts() Totals {
	t := a.totals
	t.Decode, t.Handshake = a.decoder.Stats(), a.engine.Stats()
	t.Connections, t.Fingerprints = t.Handshake.Opened, t.Handshake.Events
	t.Untracked = t.Decode.Untracked()
	t.Undecodable = t.Decode.Undecodable() + t.Decode.FragmentsIncomplete + t.Panics
	t.Panics += t.Decode.Verdicts[decode.Fault]
	return t
}
