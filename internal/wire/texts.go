package wire

import "github.com/zeebo/xxh3"

const (
	// textSlots is how many texts are remembered, and maxText the longest of
	// them: half a MiB at most for each decoder in the pool.
	textSlots = 1024
	maxText   = 512
)

// texts are strings made lately: the clients of a network send the same
// handshakes again and again, and a fingerprint that was seen before needs no
// new memory. Who sends what makes hashes collide only gets his own strings.
type texts [textSlots]string

// of returns p as a string.
func (t *texts) of(p []byte) string {
	if len(p) == 0 {
		return ""
	}
	if len(p) > maxText {
		return string(p)
	}
	slot := &t[xxh3.Hash(p)%textSlots]
	if *slot != string(p) {
		*slot = string(p)
	}
	return *slot
}
