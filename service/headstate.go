package service

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/whorl-net/whorl/flow"
)

// headVersion is the version of the head block of a checkpoint. Version 1 does not
// say what was counted of a session.
const headVersion = 2

// headState is what a checkpoint holds beside the shards: everything that
// decides what a log record does, as it is between two records. Its lists are
// in the order that matters to their owners.
type headState struct {
	sessions []session  // least recently applied first
	pushes   [][16]byte // least recently used first
	origins  []originKey
	counters []counterValue
	// acknowledged packets, see GetStatusResponse.
	acknowledged uint64
	// tracker is the tracker's own part.
	tracker []byte
}

// counterValue is one counter by its name in GetStatusResponse.drops.
type counterValue struct {
	where string
	n     uint64
}

// append encodes h: numbers as varints, texts behind their lengths.
func (h *headState) append(dst []byte) []byte {
	text := func(s string) { dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...) }
	dst = append(dst, headVersion)
	dst = binary.AppendUvarint(dst, uint64(len(h.sessions)))
	for i := range h.sessions {
		s := &h.sessions[i]
		text(s.key.probe)
		text(s.key.network)
		dst = append(dst, s.key.id[:]...)
		dst = binary.AppendUvarint(dst, s.last)
		dst = binary.AppendUvarint(dst, s.packets)
		dst = binary.AppendUvarint(dst, s.lost)
	}
	dst = binary.AppendUvarint(dst, uint64(len(h.pushes)))
	for _, id := range h.pushes {
		dst = append(dst, id[:]...)
	}
	slices.SortFunc(h.origins, func(a, b originKey) int {
		return cmp.Or(cmp.Compare(a.network, b.network), cmp.Compare(a.probe, b.probe), cmp.Compare(live(a.live), live(b.live)))
	})
	dst = binary.AppendUvarint(dst, uint64(len(h.origins)))
	for _, o := range h.origins {
		text(o.network)
		text(o.probe)
		dst = append(dst, live(o.live))
	}
	dst = binary.AppendUvarint(dst, uint64(len(h.counters)))
	for _, c := range h.counters {
		text(c.where)
		dst = binary.AppendUvarint(dst, c.n)
	}
	dst = binary.AppendUvarint(dst, h.acknowledged)
	dst = binary.AppendUvarint(dst, uint64(len(h.tracker)))
	return append(dst, h.tracker...)
}

func live(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// maxCounters bounds the counters of a head block.
const maxCounters = 1024

// parseHead reads what append wrote. Nothing is allocated that p cannot fill.
func parseHead(p []byte) (*headState, error) {
	r := &headReader{rest: p}
	version := r.byte()
	if r.err == nil && (version == 0 || version > headVersion) {
		return nil, fmt.Errorf("head has version %d, this program reads 1 to %d", version, headVersion)
	}
	h := new(headState)
	for n := r.count("sessions", maxSessions, 19); n > 0; n-- {
		var s session
		s.key.probe, s.key.network = r.text(maxProbeIDLen), r.text(flow.MaxNetworkLen)
		copy(s.key.id[:], r.bytes(16))
		s.last = r.number()
		if version > 1 {
			s.packets, s.lost = r.number(), r.number()
		}
		h.sessions = append(h.sessions, s)
	}
	for n := r.count("push keys", maxPushKeys, 16); n > 0; n-- {
		var id [16]byte
		copy(id[:], r.bytes(16))
		h.pushes = append(h.pushes, id)
	}
	for n := r.count("origins", 2*maxNamePairs, 3); n > 0; n-- {
		o := originKey{network: r.text(flow.MaxNetworkLen), probe: r.text(maxProbeIDLen)}
		o.live = r.byte() != 0
		h.origins = append(h.origins, o)
	}
	for n := r.count("counters", maxCounters, 2); n > 0; n-- {
		h.counters = append(h.counters, counterValue{where: r.text(maxTextLen), n: r.number()})
	}
	h.acknowledged = r.number()
	h.tracker = r.bytes(r.count("bytes of the tracker", len(r.rest), 1))
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%d bytes follow the head", len(r.rest))
	}
	if r.err != nil {
		return nil, r.err
	}
	return h, nil
}

// headReader reads the parts of a head; the first error stays, and everything
// is zero from then on.
type headReader struct {
	rest []byte
	err  error
}

func (r *headReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = nil
}

var errHeadShort = errors.New("head ends early")

func (r *headReader) bytes(n int) []byte {
	if n > len(r.rest) {
		r.fail(errHeadShort)
		return nil
	}
	p := r.rest[:n]
	r.rest = r.rest[n:]
	return p
}

func (r *headReader) byte() byte {
	if p := r.bytes(1); len(p) == 1 {
		return p[0]
	}
	return 0
}

func (r *headReader) number() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.fail(errHeadShort)
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// count reads how many things of at least size bytes follow.
func (r *headReader) count(what string, most, size int) int {
	n := r.number()
	switch {
	case r.err != nil:
		return 0
	case n > uint64(most):
		r.fail(fmt.Errorf("head has %d %s, at most %d", n, what, most))
		return 0
	case n > uint64(len(r.rest)/size):
		r.fail(errHeadShort)
		return 0
	}
	return int(n)
}

func (r *headReader) text(most int) string {
	n := r.number()
	if r.err == nil && n > uint64(most) {
		r.fail(fmt.Errorf("head has a text of %d bytes, at most %d", n, most))
	}
	if r.err != nil {
		return ""
	}
	return string(r.bytes(int(n)))
}
