package ja4

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4/internal/quicpacket"
)

const (
	quicV1    = quicpacket.V1
	quicV2    = quicpacket.V2
	quicDraft = quicpacket.Draft
)

// The frames that the tests write (RFC 9000 section 19).
const (
	framePadding         = 0x00
	framePing            = 0x01
	frameAck             = 0x02
	frameAckECN          = 0x03
	frameCrypto          = 0x06
	frameConnectionClose = 0x1c
)

// appendVarint appends a variable-length integer in its shortest form, or in
// 2 bytes at least.
func appendVarint(b []byte, v int) []byte {
	if v < 1<<14 {
		return binary.BigEndian.AppendUint16(b, uint16(v)|0x4000)
	}
	return binary.BigEndian.AppendUint32(b, uint32(v)|0x80000000)
}

func cryptoFrame(offset int, data []byte) []byte {
	b := appendVarint([]byte{frameCrypto}, offset)
	return append(appendVarint(b, len(data)), data...)
}

// initialPacket describes a packet to seal; ids are in hex.
type initialPacket struct {
	dst, src, token string
	// original is the connection id that the keys follow from; dst if empty.
	original string
	server   bool
	number   uint32
	// numberLen is the length of the number in bytes; 4 if 0.
	numberLen int
	payload   []byte
	size      int // of the payload, padded with PADDING frames
}

// longHeader is the header of a packet with a long header, up to its length.
func longHeader(t testing.TB, version uint32, kind PacketKind, dst, src string) []byte {
	bits := byte(kind - PacketInitial)
	if version == quicV2 {
		bits = (bits + 1) & 3
	}
	b := binary.BigEndian.AppendUint32([]byte{0xc0 | bits<<4}, version)
	d, s := unhex(t, dst), unhex(t, src)
	b = append(append(b, byte(len(d))), d...)
	return append(append(b, byte(len(s))), s...)
}

// sealInitial makes a protected Initial packet (RFC 9001 section 5).
func sealInitial(t testing.TB, version uint32, p initialPacket) []byte {
	t.Helper()
	if p.original == "" {
		p.original = p.dst
	}
	k := newInitialKeys(version, unhex(t, p.original), p.server)
	numberLen := p.numberLen
	if numberLen == 0 {
		numberLen = 4
	}
	payload := slices.Clone(p.payload)
	payload = append(payload, make([]byte, max(0, p.size-len(payload), 4-len(payload)))...)
	header := longHeader(t, version, PacketInitial, p.dst, p.src)
	header[0] |= byte(numberLen - 1)
	token := unhex(t, p.token)
	header = append(appendVarint(header, len(token)), token...)
	header = appendVarint(header, numberLen+len(payload)+k.AEAD.Overhead())
	numberAt := len(header)
	number := binary.BigEndian.AppendUint32(nil, p.number)
	header = append(header, number[4-numberLen:]...)
	nonce := k.IV
	for i, c := range number {
		nonce[len(nonce)-4+i] ^= c
	}
	packet := k.AEAD.Seal(slices.Clone(header), nonce[:], payload, header)
	mask := k.Mask(packet[numberAt+4:][:quicpacket.SampleLen])
	packet[0] ^= mask[0] & 0x0f
	for i := range numberLen {
		packet[numberAt+i] ^= mask[1+i]
	}
	return packet
}

// otherPacket is a packet whose content nobody but the ends can read.
func otherPacket(t testing.TB, version uint32, kind PacketKind, dst, src string, size int) []byte {
	b := longHeader(t, version, kind, dst, src)
	if kind != PacketRetry {
		b = appendVarint(b, size)
	}
	return append(b, encrypted(size)...)
}

func quicHello() []byte {
	spec := chrome()
	spec.extensions = append(spec.extensions, extension{0x0039, make([]byte, 60)})
	spec.extensions[7] = alpn("h3")
	return message(MessageClientHello, spec.body(QUIC))
}

// exchange is a flow and what it emitted.
type exchange struct {
	t    *testing.T
	flow QUICFlow
	collector
}

// send gives a datagram to the flow and checks what it says about it.
func (x *exchange) send(side uint8, datagram []byte, wantKinds string, want Status) {
	x.t.Helper()
	before := bytes.Clone(datagram)
	packets, status := x.flow.Datagram(side, datagram, x.takeSide)
	var kinds []string
	for i := range packets.Len() {
		kinds = append(kinds, packets.At(i).String())
	}
	if got := strings.Join(kinds, " "); got != wantKinds || status != want {
		x.t.Errorf("%s: [%s] %v, want [%s] %v", x.t.Name(), got, status, wantKinds, want)
	}
	if !bytes.Equal(before, datagram) {
		x.t.Error("the datagram was changed")
	}
}

func (x *exchange) wants(want string) {
	x.t.Helper()
	if got := strings.Join(x.got, " "); got != want {
		x.t.Errorf("%s: emitted [%s], want [%s]", x.t.Name(), got, want)
	}
}

// Appendix A of RFC 9001 and of RFC 9369.
func TestPublishedQUICVectors(t *testing.T) {
	const dcid = "8394c8f03e515708"
	for _, c := range []struct {
		name    string
		version uint32
		server  bool
		iv      string
	}{
		{"v1 client", quicV1, false, "fa044b2f42a3fd3b46fb255c"},
		{"v1 server", quicV1, true, "0ac1493ca1905853b0bba03e"},
		{"v2 client", quicV2, false, "91f73e2351d8fa91660e909f"},
		{"v2 server", quicV2, true, "dd13c276499c0249d3310652"},
	} {
		k := newInitialKeys(c.version, unhex(t, dcid), c.server)
		if got := hex.EncodeToString(k.IV[:]); got != c.iv {
			t.Errorf("%s: iv %s, want %s", c.name, got, c.iv)
		}
	}

	clientHello := unhex(t, "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c"+
		"00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c"+
		"706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003"+
		"020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ffff0704"+
		"8000ffff0801100104800075300901100f088394c8f03e51570806048000ffff")
	// The appendix writes the empty token with a length of one byte.
	k := newInitialKeys(quicV1, unhex(t, dcid), false)
	header := append(longHeader(t, quicV1, PacketInitial, dcid, ""), 0, 0x44, 0x9e, 0, 0, 0, 2)
	header[0] |= 3
	nonce := k.IV
	nonce[11] ^= 2
	packet := k.AEAD.Seal(header, nonce[:], append(bytes.Clone(clientHello), make([]byte, 1162-len(clientHello))...), header)
	if got, want := hex.EncodeToString(packet[len(packet)-16:]), "e221af44860018ab0856972e194cd934"; got != want {
		t.Errorf("v1 client packet ends in %s, want %s", got, want)
	}

	for _, c := range []struct {
		name    string
		version uint32
		packet  string
	}{
		{"v1", quicV1, "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5e" +
			"de4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7a" +
			"af2f58891850abbdca3d20398c276456cbc42158407dd074ee"},
		{"v2", quicV2, "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf87263017915358" +
			"230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881e" +
			"af21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140"},
	} {
		x := exchange{t: t}
		x.send(0, sealInitial(t, c.version, initialPacket{dst: dcid, payload: clientHello, size: 1162}), "initial", StatusMore)
		x.send(1, unhex(t, c.packet), "initial", StatusDone)
		x.wants("q1/237 q2/86")
		if client, known := x.flow.Client(); client != 0 || !known {
			t.Errorf("%s: client %d, %t", c.name, client, known)
		}
	}
}

// One hello in every version, alone, in shuffled pieces, over two datagrams
// in either order.
func TestQUICHello(t *testing.T) {
	hello := quicHello()
	want, err := TLSClientHello(hello)
	if err != nil {
		t.Fatal(err)
	}
	want.Value, want.Raw = "q"+want.Value[1:], "q"+want.Raw[1:]
	rng := rand.New(rand.NewPCG(3, 4))
	for _, version := range []uint32{quicV1, quicV2, quicDraft | 23, quicDraft | 29, quicDraft | 32, quicDraft | 34} {
		for range 20 {
			// Cut at random places, some pieces twice or overlapping.
			var frames [][]byte
			for at := 0; at < len(hello); {
				n := min(1+rng.IntN(200), len(hello)-at)
				from := max(0, at-rng.IntN(30))
				frames = append(frames, cryptoFrame(from, hello[from:at+n]))
				at += n
			}
			rng.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
			half := rng.IntN(len(frames))
			ack := []byte{frameAck, 3, 0, 1, 0, 0, 0}
			ecn := []byte{frameAckECN, 3, 0, 0, 0, 1, 2, 3}
			first := slices.Concat(ack, slices.Concat(frames[:half]...), []byte{framePing, framePadding, framePadding})
			second := slices.Concat([]byte{framePing}, ecn, slices.Concat(frames[half:]...))
			a := sealInitial(t, version, initialPacket{dst: "a1a2a3a4a5a6a7a8", src: "b1", number: 0, payload: first, size: 1180})
			b := sealInitial(t, version, initialPacket{dst: "a1a2a3a4a5a6a7a8", src: "b1", number: 1, payload: second, size: 1180})
			for _, datagrams := range [][][]byte{{a, b}, {b, a}, {a, a, b, b}} {
				got, err := QUICClientHello(datagrams...)
				if err != nil || got != want {
					t.Fatalf("version %08x: %v, %v\nwant %v", version, got, err, want)
				}
			}
		}
	}
	if _, err := QUICClientHello([]byte("no QUIC")); !errors.Is(err, ErrNoHello) {
		t.Errorf("error %v, want ErrNoHello", err)
	}
}

// A whole exchange: the server's answer with coalesced packets, padding, the
// client's later packets under the server's connection id.
func TestQUICExchange(t *testing.T) {
	hello, sh := quicHello(), tlsServerHello(false)
	const first, client, server = "a1a2a3a4a5a6a7a8", "c1c2", "5e5e5e5e"
	x := exchange{t: t}
	// Side 1 is the client here.
	x.send(1, sealInitial(t, quicV1, initialPacket{dst: first, src: client, payload: cryptoFrame(0, hello), size: 1180}), "initial", StatusMore)
	answer := sealInitial(t, quicV1, initialPacket{original: first, dst: client, src: server, server: true, payload: append([]byte{2, 0, 0, 0, 0}, cryptoFrame(0, sh)...)})
	answer = slices.Concat(answer, otherPacket(t, quicV1, PacketHandshake, client, server, 500), []byte{0x40, 1, 2, 3})
	x.send(0, answer, "initial handshake short", StatusDone)
	if x.flow.Held() != 0 || x.flow.opening != nil {
		t.Error("memory held after the end")
	}
	x.wants(fmt.Sprintf("q1/%d q2/%d", len(hello)-4, len(sh)-4))
	ack := sealInitial(t, quicV1, initialPacket{original: first, dst: server, src: client, number: 1, payload: []byte{2, 0, 0, 0, 0}})
	x.send(1, slices.Concat(ack, otherPacket(t, quicV1, PacketHandshake, server, client, 60), make([]byte, 100)), "initial handshake", StatusDone)
	x.send(1, sealInitial(t, quicV1, initialPacket{dst: first, src: client, payload: cryptoFrame(0, hello), size: 1180}), "initial", StatusDone)
	x.send(1, []byte{0x41, 1, 2, 3, 4}, "short", StatusDone)
	x.wants(fmt.Sprintf("q1/%d q2/%d", len(hello)-4, len(sh)-4))

	x.send(0, sealInitial(t, quicV1, initialPacket{original: first, dst: client, src: server, server: true, number: 1, payload: []byte{1}}), "initial", StatusDone)
	if x.flow.attempts != 0 {
		t.Errorf("%d derivations in vain, want 0", x.flow.attempts)
	}

	// The same ports again: another connection.
	again := quicHello()
	again[10] ^= 0xff // another random
	x.send(1, sealInitial(t, quicV1, initialPacket{dst: "a9a9a9a9a9a9a9a9", src: "c3", payload: cryptoFrame(0, again), size: 1180}), "initial", StatusMore)
	x.wants(fmt.Sprintf("q1/%d q2/%d q1/%d", len(hello)-4, len(sh)-4, len(hello)-4))
}

// After a Retry the client says the same under another connection id: one hello.
func TestQUICRetry(t *testing.T) {
	hello, sh := quicHello(), tlsServerHello(false)
	for _, version := range []uint32{quicV1, quicV2} {
		x := exchange{t: t}
		x.send(0, sealInitial(t, version, initialPacket{dst: "a1a2a3a4a5a6a7a8", src: "c1", payload: cryptoFrame(0, hello), size: 1180}), "initial", StatusMore)
		x.send(1, otherPacket(t, version, PacketRetry, "c1", "7e7e7e7e7e", 60), "retry", StatusMore)
		x.send(0, sealInitial(t, version, initialPacket{dst: "7e7e7e7e7e", src: "c1", token: "746f6b656e", number: 1, payload: cryptoFrame(0, hello), size: 1180}), "initial", StatusMore)
		x.wants(fmt.Sprintf("q1/%d", len(hello)-4))
		x.send(1, sealInitial(t, version, initialPacket{original: "7e7e7e7e7e", dst: "c1", src: "5e", server: true, payload: cryptoFrame(0, sh)}), "initial", StatusDone)
		x.wants(fmt.Sprintf("q1/%d q2/%d", len(hello)-4, len(sh)-4))
	}
}

// A Retry seen before its client hello was complete, and a hello seen only
// after it.
func TestQUICRetryMidHello(t *testing.T) {
	hello := quicHello()
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: "a1a2a3a4a5a6a7a8", payload: cryptoFrame(0, hello[:100])}), "initial", StatusMore)
	x.send(1, otherPacket(t, quicV1, PacketRetry, "", "7e7e7e7e7e", 60), "retry", StatusMore)
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: "7e7e7e7e7e", number: 1, payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	x.wants(fmt.Sprintf("q1/%d", len(hello)-4))
}

// A retry request over QUIC: two hellos each way, in one CRYPTO stream.
func TestQUICHelloRetryRequest(t *testing.T) {
	hello, hrr, sh := quicHello(), tlsServerHello(true), tlsServerHello(false)
	const first = "a1a2a3a4a5a6a7a8"
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: first, src: "c1", payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	x.send(1, sealInitial(t, quicV1, initialPacket{original: first, dst: "c1", src: "5e", server: true, payload: cryptoFrame(0, hrr)}), "initial", StatusMore)
	x.send(0, sealInitial(t, quicV1, initialPacket{original: first, dst: "5e", src: "c1", number: 1, payload: cryptoFrame(len(hello), hello)}), "initial", StatusMore)
	x.send(1, sealInitial(t, quicV1, initialPacket{original: first, dst: "c1", src: "5e", number: 1, server: true, payload: cryptoFrame(len(hrr), sh)}), "initial", StatusDone)
	h := len(hello) - 4
	x.wants(fmt.Sprintf("q1/%d q2/%d q1/%d q2/%d", h, len(hrr)-4, h, len(sh)-4))
}

// A server may answer version 1 in version 2 (RFC 9368).
func TestQUICVersionChange(t *testing.T) {
	hello, sh := quicHello(), tlsServerHello(false)
	const first = "a1a2a3a4a5a6a7a8"
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: first, src: "c1", payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	x.send(1, sealInitial(t, quicV2, initialPacket{original: first, dst: "c1", src: "5e", server: true, payload: cryptoFrame(0, sh)}), "initial", StatusDone)
	x.wants(fmt.Sprintf("q1/%d q2/%d", len(hello)-4, len(sh)-4))
}

// After a change of version both sides open by the new one.
func TestQUICVersionChangeWithRetryRequest(t *testing.T) {
	hello, hrr, sh := quicHello(), tlsServerHello(true), tlsServerHello(false)
	const first = "a1a2a3a4a5a6a7a8"
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: first, src: "c1", payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	x.send(1, sealInitial(t, quicV2, initialPacket{original: first, dst: "c1", src: "5e", server: true, payload: cryptoFrame(0, hrr)}), "initial", StatusMore)
	x.send(0, sealInitial(t, quicV2, initialPacket{original: first, dst: "5e", src: "c1", number: 1, payload: cryptoFrame(len(hello), hello)}), "initial", StatusMore)
	x.send(1, sealInitial(t, quicV2, initialPacket{original: first, dst: "c1", src: "5e", number: 1, server: true, payload: cryptoFrame(len(hrr), sh)}), "initial", StatusDone)
	h := len(hello) - 4
	x.wants(fmt.Sprintf("q1/%d q2/%d q1/%d q2/%d", h, len(hrr)-4, h, len(sh)-4))
}

// The two ends may change places, as between peers that reuse their ports.
func TestQUICRolesChange(t *testing.T) {
	hello := quicHello()
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: "a1a2a3a4a5a6a7a8", payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	x.send(1, sealInitial(t, quicV1, initialPacket{dst: "b1b2b3b4b5b6b7b8", payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	if client, _ := x.flow.Client(); client != 1 {
		t.Errorf("client is side %d, want 1", client)
	}
	x.wants(fmt.Sprintf("q1/%d q1/%d", len(hello)-4, len(hello)-4))
}

// A damaged packet under the connection id at hand costs no derivation.
func TestQUICDamagedPacket(t *testing.T) {
	x := exchange{t: t}
	p := sealInitial(t, quicV1, initialPacket{dst: "a1a2a3a4a5a6a7a8", payload: cryptoFrame(0, quicHello()[:100])})
	x.send(0, p, "initial", StatusMore)
	p[len(p)-1] ^= 1
	x.send(0, p, "initial", StatusMore)
	if x.flow.attempts != 0 {
		t.Errorf("%d derivations in vain, want 0", x.flow.attempts)
	}
}

// Packet numbers of every length open, also when their upper bytes are implied.
func TestQUICPacketNumbers(t *testing.T) {
	hello := quicHello()
	x := exchange{t: t}
	at := 0
	for _, n := range []struct {
		number uint32
		length int
	}{{0x1234567, 4}, {0x1234570, 1}, {0x1234600, 2}, {0x1234660, 1}, {0x12346d0, 1}, {0x1234700, 1}, {0x12350ff, 3}} {
		x.send(0, sealInitial(t, quicV1, initialPacket{dst: "a1a2a3a4a5a6a7a8", number: n.number, numberLen: n.length,
			payload: cryptoFrame(at, hello[at:at+10])}), "initial", StatusMore)
		if at += 10; len(x.flow.opening.crypto[0].Prefix()) != at {
			t.Errorf("packet %x with %d bytes of number was not opened", n.number, n.length)
		}
	}
}

// The salt that each version has.
func TestInitialSalts(t *testing.T) {
	for version, want := range map[uint32]string{
		quicV1: "38762cf7", quicV2: "0dede3de", quicDraft | 34: "38762cf7", quicDraft | 33: "38762cf7",
		quicDraft | 32: "afbfec28", quicDraft | 29: "afbfec28", quicDraft | 28: "c3eef712", quicDraft | 23: "c3eef712",
	} {
		if got := hex.EncodeToString([]byte(initialSalt(version)[:4])); got != want || !quicpacket.Known(version) {
			t.Errorf("version %08x: salt %s, want %s", version, got, want)
		}
	}
	for _, version := range []uint32{0, 2, quicDraft | 22, quicDraft | 35, 0x6b3343ce} {
		if quicpacket.Known(version) {
			t.Errorf("version %08x is known", version)
		}
	}
}

// A flow that starts with the server's packets knows no client until a packet
// from it can be opened.
func TestQUICMidStart(t *testing.T) {
	hello, sh := quicHello(), tlsServerHello(false)
	const first = "a1a2a3a4a5a6a7a8"
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{original: first, dst: "c1", src: "5e", server: true, payload: cryptoFrame(0, sh)}), "initial", StatusMore)
	if _, known := x.flow.Client(); known {
		t.Error("client known from a packet that nobody can open")
	}
	x.send(1, sealInitial(t, quicV1, initialPacket{dst: first, src: "c1", payload: cryptoFrame(0, hello)}), "initial", StatusMore)
	if client, known := x.flow.Client(); !known || client != 1 {
		t.Errorf("client %d, %t; want 1, true", client, known)
	}
	x.wants(fmt.Sprintf("q1/%d", len(hello)-4))
}

// Packet kinds and what ends a walk.
func TestQUICPacketWalk(t *testing.T) {
	hello := quicHello()
	initial := sealInitial(t, quicV1, initialPacket{dst: "a1a2a3a4a5a6a7a8", src: "c1", payload: cryptoFrame(0, hello)})
	zero := otherPacket(t, quicV1, PacketZeroRTT, "a1a2a3a4a5a6a7a8", "c1", 100)
	hs := otherPacket(t, quicV1, PacketHandshake, "a1a2a3a4a5a6a7a8", "c1", 100)
	negotiation := append(longHeader(t, 0, PacketInitial, "c1", "a1"), 0, 0, 0, 1)
	for _, c := range []struct {
		name     string
		datagram []byte
		kinds    string
		status   Status
	}{
		{"0-RTT behind the Initial", slices.Concat(initial, zero), "initial 0-rtt", StatusMore},
		{"padding behind", slices.Concat(initial, make([]byte, 50)), "initial", StatusMore},
		{"garbage behind", slices.Concat(initial, []byte{0xff, 1, 2}), "initial", StatusMore},
		{"at most eight", slices.Concat(initial, bytes.Repeat(hs, 10)), "initial" + strings.Repeat(" handshake", 7), StatusMore},
		{"version negotiation", negotiation, "version-negotiation", StatusMore},
		{"handshake first", hs, "handshake", StatusMore},
		{"unknown version", longHeader(t, 0x5a5a5a5a, PacketInitial, "a1", ""), "", StatusInvalid},
		{"short header first", []byte{0x40, 1, 2, 3}, "", StatusInvalid},
		{"connection id of 21 bytes", append(longHeader(t, quicV1, PacketInitial, strings.Repeat("a1", 21), ""), 0, 0x40, 4, 1, 2, 3, 4), "", StatusInvalid},
		{"cut short", initial[:len(initial)-1], "", StatusInvalid},
		{"text", []byte("hello"), "", StatusInvalid},
		{"nothing", nil, "", StatusInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := exchange{t: t}
			x.send(0, c.datagram, c.kinds, c.status)
			if got, want := LooksLikeQUIC(c.datagram), strings.HasPrefix(c.kinds, "initial"); got != want {
				t.Errorf("LooksLikeQUIC = %t, want %t", got, want)
			}
		})
	}
	packets := QUICPackets{n: 2, kinds: [8]PacketKind{PacketInitial, PacketShort, PacketRetry}}
	if !packets.Has(PacketShort) || packets.Has(PacketRetry) {
		t.Error("Has looks at the wrong kinds")
	}
}

// Packets that cannot be opened cost a bounded number of derivations, and the
// flow is then no QUIC flow.
func TestQUICGivesUp(t *testing.T) {
	p := otherPacket(t, quicV1, PacketInitial, "a1a2a3a4a5a6a7a8", "", 1180)
	p[len(longHeader(t, quicV1, PacketInitial, "a1a2a3a4a5a6a7a8", ""))] = 0 // no token
	p = append(longHeader(t, quicV1, PacketInitial, "a1a2a3a4a5a6a7a8", ""), 0)
	p = append(appendVarint(p, 1180), encrypted(1180)...)
	var f QUICFlow
	for i := range maxAttempts + 1 {
		_, status := f.Datagram(0, p, nil)
		if want := i >= maxAttempts-1; (status == StatusInvalid) != want {
			t.Fatalf("datagram %d: %v", i+1, status)
		}
	}
}

// A hello beyond the bound is given up, pieces far ahead are not kept.
func TestQUICBounds(t *testing.T) {
	const first = "a1a2a3a4a5a6a7a8"
	x := exchange{t: t}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: first, payload: cryptoFrame(60000, []byte{1})}), "initial", StatusMore)
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: first, number: 1, payload: slices.Concat(
		[]byte{frameCrypto, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0},
		[]byte{frameCrypto, 0xbf, 0xff, 0xff, 0xff, 1, 0})}), "initial", StatusMore)
	if held := x.flow.Held(); held > 32<<10 {
		t.Errorf("holds %d bytes for pieces far ahead", held)
	}
	x.send(0, sealInitial(t, quicV1, initialPacket{dst: first, number: 2, payload: cryptoFrame(0, []byte{1, 1, 0, 0})}), "initial", StatusTooLarge)
	if x.flow.Held() != 0 {
		t.Error("memory held after giving up")
	}
	x.wants("")
}

func BenchmarkQUICFlow(b *testing.B) {
	const first = "a1a2a3a4a5a6a7a8"
	initial := sealInitial(b, quicV1, initialPacket{dst: first, src: "c1", payload: cryptoFrame(0, quicHello()), size: 1180})
	answer := sealInitial(b, quicV1, initialPacket{original: first, dst: "c1", src: "5e", server: true, payload: cryptoFrame(0, tlsServerHello(false))})
	emit := func(uint8, Message) {}
	b.Run("both hellos", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var f QUICFlow
			f.Datagram(0, initial, emit)
			f.Datagram(1, answer, emit)
		}
	})
	b.Run("after the end", func(b *testing.B) {
		var f QUICFlow
		f.Datagram(0, initial, emit)
		f.Datagram(1, answer, emit)
		short := encrypted(1200)
		short[0] = 0x41
		b.ReportAllocs()
		for b.Loop() {
			f.Datagram(1, short, emit)
		}
	})
	b.Run("not openable", func(b *testing.B) {
		bad := slices.Clone(initial)
		bad[len(bad)-1] ^= 1
		b.ReportAllocs()
		for b.Loop() {
			var f QUICFlow
			f.Datagram(0, bad, emit)
		}
	})
	b.Run("LooksLikeQUIC", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			LooksLikeQUIC(initial)
		}
	})
}

func FuzzQUICFlow(f *testing.F) {
	const first = "a1a2a3a4a5a6a7a8"
	f.Add(sealInitial(f, quicV1, initialPacket{dst: first, payload: cryptoFrame(0, quicHello())}), []byte{})
	f.Add(sealInitial(f, quicV2, initialPacket{dst: first, payload: cryptoFrame(0, quicHello()[:50])}), otherPacket(f, quicV2, PacketRetry, "", "01", 40))
	f.Add([]byte{}, otherPacket(f, quicV1, PacketHandshake, "01", "02", 60))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fuzzguard.Watch(t)
		var flow QUICFlow
		for _, p := range [][]byte{a, b, a, b} {
			flow.Datagram(0, p, func(_ uint8, m Message) { ClientHello(QUIC, m.Body) })
			flow.Datagram(1, p, func(_ uint8, m Message) { ClientHello(QUIC, m.Body) })
		}
		LooksLikeQUIC(a)
	})
}

// FuzzQUICPayload reaches what decryption keeps a fuzzer from: the frames.
func FuzzQUICPayload(f *testing.F) {
	f.Add(cryptoFrame(0, quicHello()), cryptoFrame(30, quicHello()))
	f.Add([]byte{frameAck, 3, 0, 1, 0, 0, 0, frameConnectionClose, 1, 2, 1, 'x'}, []byte{frameAckECN, 3, 0, 0, 0, 1, 2, 3, frameCrypto, 0, 4, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		fuzzguard.Watch(t)
		flow := QUICFlow{known: true, begun: true, opening: &quicOpening{}}
		for _, p := range [][]byte{a, b, a} {
			for side := range uint8(2) {
				if flow.opening != nil {
					flow.payload(side, p, func(uint8, Message) {})
				}
			}
			if held := flow.Held(); held > 4*MaxHandshakeBytes {
				t.Fatalf("holds %d bytes", held)
			}
		}
	})
}
