package ja4

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
)

// The salts of the Initial secret: RFC 9001 section 5.2, RFC 9369 section
// 3.3.1, and the drafts before them.
const (
	saltV1      = "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a"
	saltV2      = "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9"
	saltDraft29 = "\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99"
	saltDraft23 = "\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02"
)

func initialSalt(version uint32) string {
	switch {
	case version == quicV2:
		return saltV2
	case version == quicV1 || version >= quicDraft|33:
		return saltV1
	case version >= quicDraft|29:
		return saltDraft29
	default:
		return saltDraft23
	}
}

// hmac256 is HMAC-SHA256 for keys and messages as short as those here: at most
// 64 and 128 bytes. Unlike crypto/hmac it allocates nothing, which halves the
// price of the keys of an unwanted packet.
func hmac256(key, message []byte) [sha256.Size]byte {
	const block = sha256.BlockSize
	var inner [block + 128]byte
	var outer [block + sha256.Size]byte
	copy(inner[:], key)
	copy(outer[:], key)
	for i := range block {
		inner[i] ^= 0x36
		outer[i] ^= 0x5c
	}
	n := block + copy(inner[block:], message)
	sum := sha256.Sum256(inner[:n])
	copy(outer[block:], sum[:])
	return sha256.Sum256(outer[:])
}

// expandLabel is HKDF-Expand-Label of RFC 8446 section 7.1 with an empty
// context and a length of at most 32 bytes.
func expandLabel(secret []byte, label string, length int) [sha256.Size]byte {
	var info [64]byte
	b := append(info[:0], 0, byte(length), byte(len("tls13 ")+len(label)))
	b = append(b, "tls13 "...)
	b = append(b, label...)
	return hmac256(secret, append(b, 0, 1)) // empty context, first block
}

// initialKeys open the Initial packets of one sender.
type initialKeys struct {
	aead   cipher.AEAD
	header cipher.Block
	iv     [12]byte
	// expected is the number after the greatest that was opened.
	expected uint64
}

// newInitialKeys derives the keys of the client or the server from the
// connection id that the client chose first (RFC 9001 section 5.2).
func newInitialKeys(version uint32, dst []byte, server bool) *initialKeys {
	initial := hmac256([]byte(initialSalt(version)), dst)
	role := "client in"
	if server {
		role = "server in"
	}
	secret := expandLabel(initial[:], role, 32)
	labels := [3]string{"quic key", "quic iv", "quic hp"}
	if version == quicV2 {
		labels = [3]string{"quicv2 key", "quicv2 iv", "quicv2 hp"}
	}
	key := expandLabel(secret[:], labels[0], 16)
	iv := expandLabel(secret[:], labels[1], 12)
	hp := expandLabel(secret[:], labels[2], 16)

	k := &initialKeys{iv: [12]byte(iv[:12])}
	// Neither fails: the length of the key is right.
	block, _ := aes.NewCipher(key[:16])
	k.aead, _ = cipher.NewGCM(block)
	k.header, _ = aes.NewCipher(hp[:16])
	return k
}

// open removes the header protection of l and decrypts it into scratch, which
// it may grow. It returns the payload, nil when the keys do not fit, and scratch.
func (k *initialKeys) open(l *longPacket, scratch []byte) (payload, grown []byte) {
	const sample = 16
	scratch = append(scratch[:0], l.all...)
	if len(scratch) < l.number+4+sample {
		return nil, scratch
	}
	var mask [sample]byte
	k.header.Encrypt(mask[:], scratch[l.number+4:][:sample])
	scratch[0] ^= mask[0] & 0x0f
	numberLen := int(scratch[0]&3) + 1

	var truncated uint64
	for i := range numberLen {
		b := &scratch[l.number+i]
		*b ^= mask[1+i]
		truncated = truncated<<8 | uint64(*b)
	}
	number := packetNumber(k.expected, truncated, numberLen)
	nonce := k.iv
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^number)
	header, body := scratch[:l.number+numberLen], scratch[l.number+numberLen:]
	payload, err := k.aead.Open(body[:0], nonce[:], body, header)
	if err != nil {
		return nil, scratch
	}
	k.expected = max(k.expected, number+1)
	return payload, scratch
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

// The frames of an Initial packet (RFC 9000 sections 12.4 and 19).
const (
	framePadding         = 0x00
	framePing            = 0x01
	frameAck             = 0x02
	frameAckECN          = 0x03
	frameCrypto          = 0x06
	frameConnectionClose = 0x1c
)

// eachCrypto calls insert for each CRYPTO frame in the payload of an Initial
// packet, up to the first frame that cannot be read.
func eachCrypto(payload []byte, insert func(offset uint64, data []byte)) {
	r := reader{rest: payload}
	for len(r.rest) > 0 {
		switch r.rest[0] {
		case framePadding, framePing:
			r.rest = r.rest[1:]
		case frameAck, frameAckECN:
			ecn := r.uint8() == frameAckECN
			r.varint() // largest
			r.varint() // delay
			ranges := r.varint()
			r.varint() // first range
			for ; ranges > 0 && !r.short; ranges-- {
				r.varint() // gap
				r.varint() // length
			}
			if ecn {
				r.varint()
				r.varint()
				r.varint()
			}
		case frameCrypto:
			r.skip(1)
			offset, length := r.varint(), r.varint()
			if length > uint64(len(r.rest)) {
				return
			}
			data := r.take(int(length))
			if r.short {
				return
			}
			insert(offset, data)
		case frameConnectionClose:
			r.skip(1)
			r.varint() // error
			r.varint() // frame type
			length := r.varint()
			if length > uint64(len(r.rest)) {
				return
			}
			r.skip(int(length))
		default:
			return
		}
	}
}
