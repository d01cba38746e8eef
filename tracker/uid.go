package tracker

import (
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
)

// UID names one incarnation of a connection: the same 5-tuple seen again after
// an eviction has another UID. It holds epoch, shard, slot and creation number,
// so it finds its connection without a search. Comparable; the zero UID is
// that of no connection.
type UID [16]byte

// UIDLen is the length of a UID's text form.
const UIDLen = 26

// uidEncoding keeps the order of the bytes: digits before letters.
var uidEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// ErrUID is wrapped by the errors of ParseUID.
var ErrUID = errors.New("not a connection uid of 26 characters")

// makeUID packs a UID. number has 48 bits: at a million new connections per
// second a shard needs 8 years to use them up.
func makeUID(epoch uint32, shard uint16, slot uint32, number uint64) UID {
	var u UID
	u.put(epoch, shard, slot, number)
	return u
}

// put is makeUID in place, in two stores.
func (u *UID) put(epoch uint32, shard uint16, slot uint32, number uint64) {
	binary.BigEndian.PutUint64(u[0:], uint64(epoch)<<32|uint64(shard)<<16|number>>32&0xffff)
	binary.BigEndian.PutUint64(u[8:], number<<32|uint64(slot))
}

func (u UID) epoch() uint32  { return binary.BigEndian.Uint32(u[0:]) }
func (u UID) shard() uint16  { return binary.BigEndian.Uint16(u[4:]) }
func (u UID) number() uint64 { return binary.BigEndian.Uint64(u[4:]) << 16 >> 16 }
func (u UID) slot() uint32   { return binary.BigEndian.Uint32(u[12:]) }

// String returns the text form: 26 lower-case letters and digits.
func (u UID) String() string { return uidEncoding.EncodeToString(u[:]) }

// Append appends the text form to b.
func (u UID) Append(b []byte) []byte { return uidEncoding.AppendEncode(b, u[:]) }

// ParseUID is the inverse of UID.String.
func ParseUID(s string) (UID, error) {
	var u UID
	if len(s) != UIDLen {
		return UID{}, fmt.Errorf("%.40q has %d characters: %w", s, len(s), ErrUID)
	}
	n, err := uidEncoding.Decode(u[:], []byte(s))
	if err != nil || n != len(u) || u.String() != s {
		return UID{}, fmt.Errorf("%q: %w", s, ErrUID)
	}
	return u, nil
}
