package cleartext

import "github.com/whorl-net/whorl/ja4/internal/quicpacket"

// labelPrefix is what the labels of a version begin with (RFC 9001 section
// 5.1, RFC 9369 section 3.3.2).
func labelPrefix(version uint32) string {
	if version == quicpacket.V2 {
		return "quicv2 "
	}
	return "quic "
}

// newPacketKeys makes the keys that follow from a secret.
func newPacketKeys(s suite, version uint32, secret []byte) *quicpacket.Keys {
	prefix := labelPrefix(version)
	return &quicpacket.Keys{
		AEAD: s.aead(s.expandLabel(secret, prefix+"key", s.keyLen)),
		IV:   [12]byte(s.expandLabel(secret, prefix+"iv", 12)),
		Mask: s.headerMask(s.expandLabel(secret, prefix+"hp", s.keyLen)),
	}
}

// trafficKeys open the packets with a short header of one sender, over key
// updates (RFC 9001 section 6).
type trafficKeys struct {
	suite   suite
	version uint32
	secret  []byte // of current
	phase   byte   // of current: the key phase bit
	// next is made when a packet asks for it. old opens packets that were late.
	old, current, next *quicpacket.Keys
}

func newTrafficKeys(s suite, version uint32, secret []byte) *trafficKeys {
	return &trafficKeys{suite: s, version: version, secret: secret, current: newPacketKeys(s, version, secret)}
}

const keyPhase = 0x04

// open opens a packet, with the keys of its phase.
func (t *trafficKeys) open(p *quicpacket.Packet, scratch []byte) (payload, grown []byte) {
	scratch, first, numberLen := t.current.Unmask(p, scratch)
	if numberLen == 0 {
		return nil, scratch
	}
	if first&keyPhase == t.phase {
		return t.current.OpenUnmasked(p, scratch, numberLen), scratch
	}
	if t.next == nil {
		t.next = t.update()
	}
	t.next.Follow(t.current)
	if payload, _, scratch = t.next.Open(p, scratch); payload != nil {
		t.secret = t.nextSecret()
		t.old, t.current, t.next = t.current, t.next, nil
		t.phase ^= keyPhase
		return payload, scratch
	}
	if t.old != nil {
		payload, _, scratch = t.old.Open(p, scratch)
	}
	return payload, scratch
}

func (t *trafficKeys) nextSecret() []byte {
	return t.suite.expandLabel(t.secret, labelPrefix(t.version)+"ku", t.suite.hash().Size())
}

// update makes the keys of the next phase. The key of header protection stays.
func (t *trafficKeys) update() *quicpacket.Keys {
	k := newPacketKeys(t.suite, t.version, t.nextSecret())
	k.Mask = t.current.Mask
	return k
}
