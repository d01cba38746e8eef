package checkpoint

import (
	"encoding/binary"
	"hash/crc32"
)

// mend sets the checksums of a round, as far as it can be followed.
func mend(p []byte) []byte {
	sum := func(from, to int) bool {
		if to+4 > len(p) {
			return false
		}
		binary.LittleEndian.PutUint32(p[to:], crc32.Checksum(p[from:to], castagnoli))
		return true
	}
	if len(p) < len(magic)+8 {
		return p
	}
	n := binary.LittleEndian.Uint32(p[len(magic)+4:])
	if n > maxEpochBytes || !sum(0, len(magic)+8+int(n)+16) {
		return p
	}
	for at := len(magic) + 8 + int(n) + 20; sum(at, at+blockHeaderBytes-4); {
		stored := binary.LittleEndian.Uint64(p[at+24:])
		if stored > uint64(len(p)) || !sum(at+blockHeaderBytes, at+blockHeaderBytes+int(stored)) {
			return p
		}
		at += blockHeaderBytes + int(stored) + 4
	}
	return p
}
