package cleartext

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20"
	"golang.org/x/crypto/chacha20poly1305"
)

// suite is what a cipher suite means for whoever has the secrets.
type suite struct {
	keyLen int
	chacha bool
	hash   func() hash.Hash
	// tls13: the suite belongs to TLS 1.3 and QUIC.
	tls13 bool
}

// suiteOf returns the suite with an IANA number. It knows those whose records
// are sealed with AES-GCM or ChaCha20-Poly1305.
func suiteOf(id uint16) (s suite, ok bool) {
	switch id {
	case 0x1301: // TLS_AES_128_GCM_SHA256
		return suite{keyLen: 16, hash: sha256.New, tls13: true}, true
	case 0x1302: // TLS_AES_256_GCM_SHA384
		return suite{keyLen: 32, hash: sha512.New384, tls13: true}, true
	case 0x1303: // TLS_CHACHA20_POLY1305_SHA256
		return suite{keyLen: 32, chacha: true, hash: sha256.New, tls13: true}, true

	case 0x009c, 0x009e, 0x00a0, 0x00a2, 0x00a4, 0x00a6, 0x00a8, 0x00aa, 0x00ac, // RFC 5288, 5487
		0xc02b, 0xc02d, 0xc02f, 0xc031, // RFC 5289
		0xd001: // RFC 8442
		return suite{keyLen: 16, hash: sha256.New}, true
	case 0x009d, 0x009f, 0x00a1, 0x00a3, 0x00a5, 0x00a7, 0x00a9, 0x00ab, 0x00ad,
		0xc02c, 0xc02e, 0xc030, 0xc032, 0xd002:
		return suite{keyLen: 32, hash: sha512.New384}, true
	case 0xcca8, 0xcca9, 0xccaa, 0xccab, 0xccac, 0xccad, 0xccae: // RFC 7905
		return suite{keyLen: 32, chacha: true, hash: sha256.New}, true
	}
	return suite{}, false
}

// aead returns the cipher for a key of keyLen bytes.
func (s *suite) aead(key []byte) cipher.AEAD {
	if s.chacha {
		a, err := chacha20poly1305.New(key)
		if err != nil {
			panic(err) // the length of the key is ours
		}
		return a
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return a
}

// headerMask returns the function that makes masks of QUIC header protection
// (RFC 9001 section 5.4).
func (s *suite) headerMask(key []byte) func(sample []byte) [5]byte {
	if s.chacha {
		return func(sample []byte) (mask [5]byte) {
			c, err := chacha20.NewUnauthenticatedCipher(key, sample[4:16])
			if err != nil {
				panic(err)
			}
			c.SetCounter(binary.LittleEndian.Uint32(sample))
			c.XORKeyStream(mask[:], mask[:])
			return mask
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return func(sample []byte) [5]byte {
		var mask [aes.BlockSize]byte
		block.Encrypt(mask[:], sample)
		return [5]byte(mask[:5])
	}
}

// expandLabel is HKDF-Expand-Label of RFC 8446 section 7.1 with an empty
// context. It returns nil for a secret that is too short to be one.
func (s *suite) expandLabel(secret []byte, label string, length int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(length))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(info, "tls13 "...)
	info = append(info, label...)
	info = append(info, 0)
	out, err := hkdf.Expand(s.hash, secret, string(info), length)
	if err != nil {
		return nil
	}
	return out
}

// prf is the pseudorandom function of TLS 1.2 (RFC 5246 section 5).
func (s *suite) prf(secret []byte, label string, seed []byte, length int) []byte {
	seed = append([]byte(label), seed...)
	mac := func(data ...[]byte) []byte {
		h := hmac.New(s.hash, secret)
		for _, d := range data {
			h.Write(d)
		}
		return h.Sum(nil)
	}
	var out []byte
	for a := mac(seed); len(out) < length; a = mac(a) {
		out = append(out, mac(a, seed)...)
	}
	return out[:length]
}
