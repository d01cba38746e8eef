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

// An analyser takes packets from a source to their fingerprints. It reads,
// decodes and looks for some at once and then takes them one by one, in order:
// what the memory has to bring for each then comes at the same time.
type analyser struct {
	decoder *decode.Decoder
	engine  *handshake.Engine // nil when no fingerprints are wanted
	onPanic func(in *capture.Packet, cause any, stack []byte)

	block  block
	in     *capture.Packet // of the block, the packet that was taken last
	packet *decode.Packet  // what its headers said, when it is tracked
	result handshake.Result
	doing  doing
	totals Totals // what the decoder and the engine do not count
}

// blockPackets are read at once: enough for the memory to be busy with, few
// enough for the first-level cache to hold.
const blockPackets = 32

// A block holds packets that were read: those before next were taken, those
// before decoded were decoded.
type block struct {
	in      [blockPackets]capture.Packet
	packets [blockPackets]decode.Packet
	ahead   [blockPackets]handshake.Ahead
	tracked [blockPackets]bool

	read, decoded, next int
}

// doing is what an analyser is at, for who recovers from a panic.
type doing uint8

const (
	doingElse    doing = iota
	doingRead          // in a Source
	doingDecode        // in code of ours that looks at bytes of strangers
	doingAnalyse       // the same
)

// newAnalyser returns one that finds fingerprints with engine, or only decodes.
func newAnalyser(cfg *Config, engine *handshake.Engine) analyser {
	return analyser{decoder: decode.New(decode.Config{Outer: cfg.Outer}), engine: engine, onPanic: cfg.OnPanic}
}

// newEngine returns one that has the given share of cfg's limits.
func newEngine(cfg *Config, share, maxValueBytes int) *handshake.Engine {
	h := handshake.Config{
		Types: cfg.Types, MaxFlows: cfg.MaxFlows, MaxBytes: cfg.MaxBytes, SSHWindow: cfg.SSHWindow,
		MaxValueBytes: maxValueBytes, Secrets: cfg.Secrets,
	}
	if cfg.Live && cfg.KeyFile != nil {
		h.SecretsWait = secretsWait
	}
	if cfg.patient {
		h.TCPIdle, h.SSHIdle = fileIdle, fileIdle
		h.TCPLinger, h.SSHLinger = fileLinger, fileLinger
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

// read reads the next packets of s, at most so many, when all are taken that
// were read before.
func (a *analyser) read(s capture.Source, most int) error {
	b := &a.block
	b.read, b.decoded, b.next = 0, 0, 0
	a.doing = doingRead
	n, err := capture.NextBlock(s, b.in[:min(most, blockPackets)])
	a.doing = doingElse
	b.read = n
	return err
}

// pending reports whether there are packets to be taken.
func (a *analyser) pending() bool { return a.block.next < a.block.read }

// lookAhead decodes packets and looks for their flows, up to one that the
// decoder lends memory of its own for.
func (a *analyser) lookAhead() {
	b := &a.block
	from := b.decoded
	a.doing = doingDecode
	for b.decoded < b.read {
		i := b.decoded
		b.decoded++ // first: what panics is not tried again
		b.tracked[i] = false
		if in := &b.in[i]; in.WireLength > capture.MaxWire {
			in.WireLength = uint32(len(in.Data))
			a.totals.LengthsRefused++
		}
		if a.decoder.Decode(&b.in[i], &b.packets[i]) != decode.Tracked {
			continue
		}
		if a.engine != nil {
			a.engine.Find(&b.packets[i], &b.ahead[i])
		}
		b.tracked[i] = true
		if a.decoder.Lends() {
			break
		}
	}
	a.doing = doingElse
	if a.engine != nil {
		a.engine.Touch(b.ahead[from:b.decoded])
	}
}

// take counts and fingerprints the next packet. It reports whether that belongs
// to a connection; a.packet then says more, and a.result when there is an engine.
func (a *analyser) take() (tracked bool) {
	b := &a.block
	if b.next == b.decoded {
		a.lookAhead()
	}
	i := b.next
	b.next++
	a.in = &b.in[i]
	a.totals.Packets++
	a.totals.Bytes += uint64(a.in.WireLength)
	if uint32(len(a.in.Data)) < a.in.WireLength {
		a.totals.Cut++
	}
	if !b.tracked[i] {
		return false
	}
	a.packet = &b.packets[i]
	if a.engine != nil {
		a.doing = doingAnalyse
		a.engine.Take(a.packet, &b.ahead[i], &a.result)
		a.doing = doingElse
	}
	return true
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
	case doingDecode, doingAnalyse:
		in := a.in
		if doing == doingDecode {
			in = &a.block.in[a.block.decoded-1]
		}
		a.totals.Panics++
		if a.onPanic != nil {
			a.onPanic(in, cause, debug.Stack())
		}
		return nil
	}
	panic(cause)
}

// counts returns what was counted so far.
func (a *analyser) counts() Totals {
	t := a.totals
	t.Decode = a.decoder.Stats()
	if a.engine != nil {
		t.Handshake = a.engine.Stats()
		t.Connections, t.Fingerprints = t.Handshake.Opened, t.Handshake.Events
	}
	t.Untracked = t.Decode.Untracked()
	t.Undecodable = t.Decode.Undecodable() + t.Decode.FragmentsIncomplete + t.Panics
	t.Panics += t.Decode.Verdicts[decode.Fault]
	return t
}
