package cleartext

import (
	"maps"

	"github.com/whorl-net/whorl/ja4/internal/wire"
)

const (
	// maxStreams bounds the streams of a connection that are known, and
	// maxStreamBytes what they hold together.
	maxStreams     = 1024
	maxStreamBytes = 1 << 20
)

// streams puts the STREAM frames of a connection in order.
type streams struct {
	byID map[streamID]*stream
	held int
}

type streamID struct {
	side uint8
	id   uint64
}

type stream struct {
	data wire.Assembly
	// size is where the stream ends, if sized.
	size        uint64
	sized, done bool
}

// take adds a frame and hands over what it completes. A frame that a bound
// does not allow is lost; its stream then stops there.
func (s *streams) take(side uint8, id, offset uint64, data []byte, end bool, sink Sink) {
	if sink.Stream == nil {
		return
	}
	key := streamID{side, id}
	t := s.byID[key]
	if t == nil {
		if t = s.open(key); t == nil {
			return
		}
	}
	if t.done {
		return
	}
	before := t.data.Held()
	if ahead := offset > t.data.Offset(); !ahead || s.held+len(data) <= maxStreamBytes {
		t.data.Insert(offset, data)
	}
	if end {
		t.size, t.sized = offset+uint64(len(data)), true
	}
	p := t.data.Prefix()
	t.done = t.sized && t.data.Offset()+uint64(len(p)) >= t.size
	if len(p) > 0 || t.done {
		sink.Stream(side, id, p, t.done)
		t.data.Advance(len(p))
	}
	if t.done {
		t.data = wire.Assembly{}
	}
	s.held += t.data.Held() - before
}

// open makes room for a stream that is not known, nil if there is none:
// streams that are done give way, although a frame that is repeated would then
// be taken for new.
func (s *streams) open(key streamID) *stream {
	if len(s.byID) >= maxStreams {
		maps.DeleteFunc(s.byID, func(_ streamID, t *stream) bool { return t.done })
		if len(s.byID) >= maxStreams {
			return nil
		}
	}
	if s.byID == nil {
		s.byID = make(map[streamID]*stream)
	}
	t := new(stream)
	s.byID[key] = t
	return t
}
