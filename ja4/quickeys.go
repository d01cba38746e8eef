package ja4

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"

	"github.com/whorl-net/whorl/ja4/internal/quicpacket"
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
	case version == quicpacket.V2:
		return saltV2
	case version == quicpacket.V1 || version >= quicpacket.Draft|33:
		return saltV1
	case version >= quicpacket.Draft|29:
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

// newInitialKeys derives the keys of the client or the server from the
// connection id that the client chose first (RFC 9001 section 5.2).
func newInitialKeys(version uint32, dst []byte, server bool) *quicpacket.Keys {
	initial := hmac256([]byte(initialSalt(version)), dst)
	role := "client in"
	if server {
		role = "server in"
	}
	secret := expandLabel(initial[:], role, 32)
	labels := [3]string{"quic key", "quic iv", "quic hp"}
	if version == quicpacket.V2 {
		labels = [3]string{"quicv2 key", "quicv2 iv", "quicv2 hp"}
	}
	key := expandLabel(secret[:], labels[0], 16)
	iv := expandLabel(secret[:], labels[1], 12)
	hp := expandLabel(secret[:], labels[2], 16)

	// Neither fails: the length of the key is right.
	block, _ := aes.NewCipher(key[:16])
	aead, _ := cipher.NewGCM(block)
	header, _ := aes.NewCipher(hp[:16])
	return &quicpacket.Keys{AEAD: aead, IV: [12]byte(iv[:12]), Mask: func(sample []byte) [5]byte {
		var mask [aes.BlockSize]byte
		header.Encrypt(mask[:], sample)
		return [5]byte(mask[:5])
	}}
}
