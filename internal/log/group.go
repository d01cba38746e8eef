package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/klauspost/compress/s2"
)

// A group is a run of records in one message of the store:
//
//	offset  bytes
//	0       4      "WLOG"
//	4       1      version, 2; 1 has no records by themselves
//	5       1      how the body is stored: 0 as it is, 1 S2, 2 each record by itself
//	6       2      0
//	8       8      position of the first record
//	16      8      log time of the last record
//	24      4      number of records
//	28      4      bytes of the body before compression, of its records if these are
//	               compressed
//	32      4      CRC-32C of bytes 0 to 31 and of the body as stored
//	36             the body
//
// All numbers are little endian. The body begins with the sessions the records
// belong to, each once: their number, then probe, network (length and bytes),
// id (16 bytes) and live (1 byte). Then each record: kind (1 byte), session (0
// is none, n the n-th), log time (the first as it is, the others less that of the
// record before) and Data (length and bytes). Numbers there are varints. Where
// each record is by itself, the length is doubled, plus 1 if Data is S2.
const (
	groupMagic   = "WLOG"
	groupVersion = 2
	groupHeader  = 36

	bodyPlain  = 0
	bodyS2     = 1
	bodyPacked = 2

	// maxBody bounds a body before compression. A group that S2 cannot make
	// smaller must still fit into a message.
	maxBody = 7 << 20
	// maxRaw bounds the Data of all records of a group together, uncompressed.
	maxRaw = 4 * maxBody
	// recordFraming is the most a record takes beside Data, and sessionFraming
	// beside its two names.
	recordFraming  = 1 + 3*binary.MaxVarintLen64
	sessionFraming = 2*binary.MaxVarintLen64 + 16 + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errGroup is wrapped by every error about a group that cannot be read.
var errGroup = errors.New("group of records is damaged")

// groupInfo is what the header of a group says.
type groupInfo struct {
	first   Position
	count   int
	logTime int64 // of the last record
	raw     int   // bytes of the body before compression
}

func (g *groupInfo) last() Position { return g.first + Position(g.count) - 1 }

// groupEncoder makes groups, one at a time. It keeps its buffers.
type groupEncoder struct {
	body     []byte
	out      []byte
	sessions map[Session]int
	order    []Session
}

// encode returns the group of records, which are one behind the other and not
// none, and how long its body is before compression. The result is valid until
// the next call.
func (e *groupEncoder) encode(records []Record) (group []byte, raw int) {
	how := byte(bodyS2)
	for i := range records {
		if records[i].packed != nil {
			how = bodyPacked
		}
	}
	b := e.appendSessions(append(e.body[:0], make([]byte, groupHeader)...), records)
	b, raw = e.appendRecords(b, records, how)
	e.body = b
	if how == bodyS2 {
		if need := groupHeader + s2.MaxEncodedLen(raw); cap(e.out) < need {
			e.out = make([]byte, need)
		}
		out := e.out[:cap(e.out)]
		if stored := s2.Encode(out[groupHeader:], b[groupHeader:]); len(stored) < raw {
			b = out[:groupHeader+len(stored)]
		} else {
			how = bodyPlain
		}
	}
	clear(b[:groupHeader])
	copy(b, groupMagic)
	b[4], b[5] = groupVersion, how
	binary.LittleEndian.PutUint64(b[8:], uint64(records[0].Position))
	binary.LittleEndian.PutUint64(b[16:], uint64(records[len(records)-1].LogTime))
	binary.LittleEndian.PutUint32(b[24:], uint32(len(records)))
	binary.LittleEndian.PutUint32(b[28:], uint32(raw))
	binary.LittleEndian.PutUint32(b[32:], groupSum(b))
	return b, raw
}

// appendSessions appends the sessions of records, each once, and numbers them.
func (e *groupEncoder) appendSessions(b []byte, records []Record) []byte {
	if e.sessions == nil {
		e.sessions = make(map[Session]int)
	}
	clear(e.sessions)
	e.order = e.order[:0]
	for i := range records {
		s := records[i].Session
		if s == (Session{}) || e.sessions[s] != 0 {
			continue
		}
		e.order = append(e.order, s)
		e.sessions[s] = len(e.order)
	}
	b = binary.AppendUvarint(b, uint64(len(e.order)))
	for _, s := range e.order {
		b = appendString(b, s.Probe)
		b = appendString(b, s.Network)
		b = append(b, s.ID[:]...)
		live := byte(0)
		if s.Live {
			live = 1
		}
		b = append(b, live)
	}
	return b
}

// appendRecords appends records to the body that begins behind the header. raw is
// the length of the body if nothing in it were compressed.
func (e *groupEncoder) appendRecords(b []byte, records []Record, how byte) (_ []byte, raw int) {
	before, saved := int64(0), 0
	for i := range records {
		r := &records[i]
		b = append(b, byte(r.Kind))
		b = binary.AppendUvarint(b, uint64(e.sessions[r.Session]))
		b = binary.AppendVarint(b, r.LogTime-before)
		before = r.LogTime
		switch {
		case how != bodyPacked:
			b = binary.AppendUvarint(b, uint64(len(r.Data)))
			b = append(b, r.Data...)
		case r.packed == nil:
			b = binary.AppendUvarint(b, uint64(len(r.Data))<<1)
			b = append(b, r.Data...)
		default:
			b = binary.AppendUvarint(b, uint64(len(r.packed.data))<<1|1)
			b = append(b, r.packed.data...)
			saved += r.packed.raw - len(r.packed.data)
		}
	}
	return b, len(b) - groupHeader + saved
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func groupSum(group []byte) uint32 {
	return crc32.Update(crc32.Checksum(group[:32], castagnoli), castagnoli, group[groupHeader:])
}

// readGroupInfo checks a group and reads its header. Errors wrap errGroup.
func readGroupInfo(group []byte) (groupInfo, error) {
	bad := func(format string, a ...any) (groupInfo, error) {
		return groupInfo{}, fmt.Errorf(format+": %w", append(a, errGroup)...)
	}
	if len(group) < groupHeader || string(group[:4]) != groupMagic {
		return bad("%d bytes do not begin as a group", len(group))
	}
	if got := binary.LittleEndian.Uint32(group[32:]); got != groupSum(group) {
		return bad("checksum is %08x, want %08x", groupSum(group), got)
	}
	if group[4] == 0 || group[4] > groupVersion {
		return groupInfo{}, fmt.Errorf("group of records has version %d, this program reads %d: it was written by a newer one", group[4], groupVersion)
	}
	g := groupInfo{
		first:   Position(binary.LittleEndian.Uint64(group[8:])),
		logTime: int64(binary.LittleEndian.Uint64(group[16:])),
		count:   int(binary.LittleEndian.Uint32(group[24:])),
		raw:     int(binary.LittleEndian.Uint32(group[28:])),
	}
	// A record takes 4 bytes at least.
	most := maxBody
	if group[5] == bodyPacked {
		most = maxRaw
	}
	if g.raw > most || g.count == 0 || g.count > g.raw/4 || g.first == 0 || g.last() < g.first {
		return bad("%d records from %d in %d bytes", g.count, g.first, g.raw)
	}
	return g, nil
}

// decodeGroup appends the records of a group to records. Their Data lies in a
// buffer that was made for this group. Errors wrap errGroup.
func decodeGroup(group []byte, records []Record) ([]Record, error) {
	g, err := readGroupInfo(group)
	if err != nil {
		return nil, err
	}
	body := group[groupHeader:]
	switch how := group[5]; how {
	case bodyPlain, bodyPacked:
	case bodyS2:
		if n, err := s2.DecodedLen(body); err != nil || n != g.raw {
			return nil, fmt.Errorf("body is compressed from %d bytes (%v), want %d: %w", n, err, g.raw, errGroup)
		}
		if body, err = s2.Decode(nil, body); err != nil {
			return nil, fmt.Errorf("decompress: %w: %w", err, errGroup)
		}
	default:
		return nil, fmt.Errorf("body is stored in way %d: %w", how, errGroup)
	}
	d := groupDecoder{rest: body, packed: group[5] == bodyPacked, most: g.raw}
	sessions := d.sessions()
	at := int64(0)
	for i := range g.count {
		r := Record{Position: g.first + Position(i), Kind: Kind(d.byte())}
		session := d.uvarint()
		at += d.varint()
		r.LogTime = at
		r.Data = d.data()
		if session > uint64(len(sessions)) || !r.Kind.Valid() {
			d.bad = true
		} else if session > 0 {
			r.Session = sessions[session-1]
		}
		if d.bad {
			return nil, fmt.Errorf("record %d cannot be read: %w", r.Position, errGroup)
		}
		records = append(records, r)
	}
	if n := len(body) + d.saved; n != g.raw {
		return nil, fmt.Errorf("body has %d bytes, want %d: %w", n, g.raw, errGroup)
	}
	if len(d.rest) > 0 || at != g.logTime {
		return nil, fmt.Errorf("%d bytes follow the last record, of %d: %w", len(d.rest), at, errGroup)
	}
	return records, nil
}

// groupDecoder reads a body. Once something does not fit all that follows is
// zero.
type groupDecoder struct {
	rest   []byte
	bad    bool
	packed bool // each record is by itself
	most   int  // bytes that the body may have, uncompressed
	saved  int  // bytes that compression took off so far
}

// data returns the Data of a record.
func (d *groupDecoder) data() []byte {
	n := d.uvarint()
	if !d.packed {
		return d.bytes(n)
	}
	p := d.bytes(n >> 1)
	if n&1 == 0 || d.bad {
		return p
	}
	size, err := s2.DecodedLen(p)
	if err != nil || size-len(p) > d.most-d.saved {
		d.bad = true
		return nil
	}
	d.saved += size - len(p)
	data, err := s2.Decode(nil, p)
	if err != nil {
		d.bad = true
		return nil
	}
	return data
}

func (d *groupDecoder) byte() byte {
	b := d.bytes(1)
	if d.bad {
		return 0
	}
	return b[0]
}

func (d *groupDecoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	return advance(d, v, n)
}

func (d *groupDecoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	return advance(d, v, n)
}

func advance[V any](d *groupDecoder, v V, n int) (zero V) {
	if d.bad || n <= 0 {
		d.bad = true
		return zero
	}
	d.rest = d.rest[n:]
	return v
}

// bytes returns the next n, nil for none.
func (d *groupDecoder) bytes(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	if n == 0 {
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *groupDecoder) sessions() []Session {
	n := d.uvarint()
	if n > uint64(len(d.rest))/19 { // the least a session takes
		d.bad = true
		return nil
	}
	sessions := make([]Session, n)
	for i := range sessions {
		s := &sessions[i]
		s.Probe = string(d.bytes(d.uvarint()))
		s.Network = string(d.bytes(d.uvarint()))
		copy(s.ID[:], d.bytes(16))
		s.Live = d.byte() == 1
	}
	return sessions
}
