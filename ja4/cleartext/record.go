package cleartext

import (
	"crypto/cipher"
	"encoding/binary"
)

// Record types (RFC 8446 section 5.1).
const (
	recordChangeCipherSpec = 20
	recordAlert            = 21
	recordHandshake        = 22
	recordApplicationData  = 23
	recordHeartbeat        = 24
)

const (
	recordHeaderLen = 5
	maxRecordLen    = 1<<14 + 2048
)

// recordKeys open the records of one direction under one key.
type recordKeys struct {
	aead cipher.AEAD
	// iv is what the sequence number is added to; of TLS 1.2 with AES-GCM only
	// the first four bytes, and the records bring the rest.
	iv [12]byte
	// explicit: the nonce's last eight bytes are in the record.
	explicit, tls13 bool
	sequence        uint64
}

// newRecordKeys13 makes the keys that follow from a traffic secret.
func newRecordKeys13(s suite, secret []byte) *recordKeys {
	key := s.expandLabel(secret, "key", s.keyLen)
	iv := s.expandLabel(secret, "iv", 12)
	return &recordKeys{aead: s.aead(key), iv: [12]byte(iv), tls13: true}
}

// newRecordKeys12 makes the keys of both directions that follow from a master
// secret (RFC 5246 section 6.3).
func newRecordKeys12(s suite, master []byte, client, server [32]byte) (fromClient, fromServer *recordKeys) {
	ivLen := 4
	if s.chacha {
		ivLen = 12
	}
	block := s.prf(master, "key expansion", append(server[:], client[:]...), 2*s.keyLen+2*ivLen)
	take := func(n int) []byte {
		b := block[:n]
		block = block[n:]
		return b
	}
	c := &recordKeys{aead: s.aead(take(s.keyLen)), explicit: !s.chacha}
	v := &recordKeys{aead: s.aead(take(s.keyLen)), explicit: !s.chacha}
	copy(c.iv[:], take(ivLen))
	copy(v.iv[:], take(ivLen))
	return c, v
}

// open decrypts a record, header included, to dst. It returns the type of the
// content, and false when the keys do not fit; they may then be tried again.
func (k *recordKeys) open(dst, record []byte) (kind byte, plain []byte, ok bool) {
	header, body := record[:recordHeaderLen], record[recordHeaderLen:]
	nonce := k.iv
	tail := nonce[len(nonce)-8:]
	additional := header
	if k.explicit {
		if len(body) < 8 {
			return 0, nil, false
		}
		copy(tail, body)
		body = body[8:]
	} else {
		binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^k.sequence)
	}
	if !k.tls13 {
		size := len(body) - k.aead.Overhead() // if negative, Open fails
		var b [13]byte
		binary.BigEndian.PutUint64(b[:], k.sequence)
		copy(b[8:], header[:3])
		binary.BigEndian.PutUint16(b[11:], uint16(size))
		additional = b[:]
	}
	plain, err := k.aead.Open(dst[:0], nonce[:], body, additional)
	if err != nil {
		return 0, nil, false
	}
	k.sequence++
	if !k.tls13 {
		return header[0], plain, true
	}
	// The type stands behind the content, zeros as padding behind the type.
	for len(plain) > 0 {
		last := plain[len(plain)-1]
		plain = plain[:len(plain)-1]
		if last != 0 {
			return last, plain, true
		}
	}
	return 0, nil, true
}
