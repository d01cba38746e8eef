package quicpacket

import (
	"crypto/cipher"
	"encoding/binary"
)

// SampleLen is the length of the sample that header protection takes.
const SampleLen = 16

// Keys open the packets of one sender at one level of encryption.
type Keys struct {
	AEAD cipher.AEAD
	// Mask returns the mask of header protection for a sample of SampleLen
	// bytes (RFC 9001 section 5.4).
	Mask func(sample []byte) [5]byte
	IV   [12]byte
	// expected is the number after the greatest that was opened.
	expected uint64
}

// Follow makes k, the keys after an update, expect what old would have.
func (k *Keys) Follow(old *Keys) { k.expected = old.expected }

// Open removes the protection of p. It works in scratch, which it may grow,
// and returns it as grown. payload, part of it, is nil when the keys do not
// fit; first is the first byte of the header without its protection.
func (k *Keys) Open(p *Packet, scratch []byte) (payload []byte, first byte, grown []byte) {
	scratch, first, numberLen := k.Unmask(p, scratch)
	if numberLen == 0 {
		return nil, 0, scratch
	}
	return k.OpenUnmasked(p, scratch, numberLen), first, scratch
}

// Unmask copies p to scratch and removes the header protection of the copy.
// The length of the packet number is 0 when p is too short.
func (k *Keys) Unmask(p *Packet, scratch []byte) (unmasked []byte, first byte, numberLen int) {
	scratch = append(scratch[:0], p.All...)
	if len(scratch) < p.Number+4+SampleLen {
		return scratch, 0, 0
	}
	mask := k.Mask(scratch[p.Number+4:][:SampleLen])
	low := byte(0x0f)
	if p.Kind == Short {
		low = 0x1f
	}
	scratch[0] ^= mask[0] & low
	numberLen = int(scratch[0]&3) + 1
	for i := range numberLen {
		scratch[p.Number+i] ^= mask[1+i]
	}
	return scratch, scratch[0], numberLen
}

// OpenUnmasked decrypts in place what Unmask returned. It returns nil when the
// keys do not fit; the bytes are then spoiled.
func (k *Keys) OpenUnmasked(p *Packet, unmasked []byte, numberLen int) []byte {
	var truncated uint64
	for _, b := range unmasked[p.Number:][:numberLen] {
		truncated = truncated<<8 | uint64(b)
	}
	number := packetNumber(k.expected, truncated, numberLen)
	nonce := k.IV
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^number)
	header, body := unmasked[:p.Number+numberLen], unmasked[p.Number+numberLen:]
	payload, err := k.AEAD.Open(body[:0], nonce[:], body, header)
	if err != nil {
		return nil
	}
	k.expected = max(k.expected, number+1)
	return payload
}

// packetNumber returns the number closest to expected whose last length bytes
// are truncated (RFC 9000 appendix A.3).
func packetNumber(expected, truncated uint64, length int) uint64 {
	window := uint64(1) << (8 * length)
	number := expected&^(window-1) | truncated
	switch {
	case number+window/2 <= expected && number < 1<<62-window:
		return number + window
	case number > expected+window/2 && number >= window:
		return number - window
	}
	return number
}
