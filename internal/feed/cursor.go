package feed

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxCursorLen is the greatest length of a cursor's text in bytes.
const MaxCursorLen = 64

// maxEpochLen leaves room for a dot and the 20 digits of the largest sequence.
const maxEpochLen = MaxCursorLen - 21

// ErrCursor is wrapped by every error about a cursor that no journal gave out.
var ErrCursor = errors.New("not a cursor of this feed such as 7f3a9c02d1e4.8812")

// Cursor is a place in the feed: behind the event Sequence of Epoch. Comparable.
// The zero Cursor is no place.
type Cursor struct {
	// Epoch names one numbering; it changes when the journal is lost.
	Epoch string
	// Sequence is that of the last event handled; 0 is before the first.
	Sequence uint64
}

// String returns "epoch.sequence", at most MaxCursorLen bytes, or "" for the
// zero Cursor.
func (c Cursor) String() string {
	if c == (Cursor{}) {
		return ""
	}
	return string(c.Append(make([]byte, 0, MaxCursorLen)))
}

// Append appends "epoch.sequence" to b.
func (c Cursor) Append(b []byte) []byte {
	b = append(b, c.Epoch...)
	b = append(b, '.')
	return strconv.AppendUint(b, c.Sequence, 10)
}

// ParseCursor is the inverse of String. Errors wrap ErrCursor.
func ParseCursor(s string) (Cursor, error) {
	bad := func(what string) (Cursor, error) {
		return Cursor{}, fmt.Errorf("%s: %w", what, ErrCursor)
	}
	if len(s) > MaxCursorLen {
		return bad(fmt.Sprintf("cursor has %d bytes, at most %d", len(s), MaxCursorLen))
	}
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] != '.' {
			continue
		}
		epoch, digits := s[:i], s[i+1:]
		if !validEpoch(epoch) {
			return bad(fmt.Sprintf("%q has no epoch before the dot", s))
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		// One place has one text: no "007", no "+7".
		if err != nil || digits != "0" && digits[0] == '0' {
			return bad(fmt.Sprintf("%q has no sequence number behind the dot", s))
		}
		return Cursor{Epoch: epoch, Sequence: n}, nil
	}
	return bad(fmt.Sprintf("%q has no dot", s))
}

// epochDigits is the length of every epoch that a collector gives its feed.
const epochDigits = 12

// ParseGiven is ParseCursor for a cursor of any collector's feed: its epoch is 12
// lower-case hexadecimal digits. Errors wrap ErrCursor.
func ParseGiven(s string) (Cursor, error) {
	c, err := ParseCursor(s)
	if err == nil && (len(c.Epoch) != epochDigits || strings.Trim(c.Epoch, "0123456789abcdef") != "") {
		return Cursor{}, fmt.Errorf("%q: epoch is not %d hexadecimal digits: %w", s, epochDigits, ErrCursor)
	}
	return c, err
}

// validEpoch reports whether s is 1 to maxEpochLen lower-case letters and digits.
func validEpoch(s string) bool {
	if s == "" || len(s) > maxEpochLen {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
