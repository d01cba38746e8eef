package ja4plus_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// The options of a SYN are given as they are in the header.
func ExampleSYN() {
	options := []byte{2, 4, 0x05, 0xb4, 1, 3, 3, 6, 4, 2, 0, 0}
	fmt.Println(ja4plus.SYN(65535, options))
	// Output: 65535_2-1-3-4-0-0_1460_6
}

// A stream takes the bytes of one direction in pieces of any size.
func ExampleHTTPStream() {
	var s ja4plus.HTTPStream
	print := func(e ja4.Event) { fmt.Println(e.ServerName, e.Raw) }
	s.Write([]byte("GET / HTTP/1.1\r\nHost: www.exam"), print)
	s.Write([]byte("ple.com:8080\r\nAccept-Language: en-US\r\nCookie: b=2; a=1\r\n\r\n"), print)
	// Output: www.example.com ge11cn02enus_Host,Accept-Language_a,b_a=1,b=2
}

// An HTTP/3 or decrypted request comes in as a list of fields.
func ExampleRequest() {
	var r ja4plus.Request
	r.Reset("", "30")
	r.Add(":method", "GET")
	r.Add(":authority", "www.example.com")
	r.Add("user-agent", "example")
	fmt.Println(r.Event().Raw)
	// Output: ge30nn010000_user-agent__
}

// Light distances come as soon as the packets that make them were seen.
func ExampleTCPLatency() {
	var l ja4plus.TCPLatency
	l.Packet(true, 0x02, 0, 0, 64)         // SYN
	l.Packet(false, 0x12, 0, 1562000, 238) // SYN-ACK
	fmt.Println(l.Packet(true, 0x10, 0, 5916000, 64))
	// Output: {2177_64 781_238}
}

// A server hello, from behind the four bytes of its message header.
func ExampleServerHello() {
	body, _ := hex.DecodeString("0303" + "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" + "00" +
		"c02f" + "00" + "0010" + "ff01000100" + "000b00020100" + "00170000")
	e, err := ja4plus.ServerHello(ja4.TLS, body)
	fmt.Println(e.Value, e.Raw, err)
	// Output: t120300_c02f_460f64128655 t120300_c02f_ff01,000b,0017 <nil>
}

// JA4X looks at which attributes and extensions there are, not at what they
// say.
func ExampleCertificate() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Unix(2e9, 0), DNSNames: []string{"example.com"},
		Subject: pkix.Name{Country: []string{"DE"}, Organization: []string{"Example"}, CommonName: "example.com"},
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := ja4plus.Certificate(der)
	fmt.Println(e.Raw, err)
	// Output: 550406,55040a,550403_550406,55040a,550403_551d11 <nil>
}

// The request and what follows it.
func ExampleHTTPRequest() {
	e, rest, err := ja4plus.HTTPRequest([]byte("POST /login HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\na=1"))
	fmt.Println(e.Raw, e.ServerName, string(rest), err)
	// Output: po11nn020000_Host,Content-Length__ example.com a=1 <nil>
}

// Each message is a fingerprint of its own.
func ExampleDHCP() {
	discover := make([]byte, 240)
	copy(discover[236:], "\x63\x82\x53\x63")
	discover = append(discover, 53, 1, 1, 50, 4, 192, 0, 2, 7, 57, 2, 0x05, 0xdc, 55, 4, 1, 3, 6, 42, 255)
	e, err := ja4plus.DHCP(discover)
	fmt.Println(e.Value, err)
	// Output: disco1500in_57-55_1-3-6-42 <nil>
}

func ExampleDHCPv6() {
	solicit := []byte{1, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1, 0, 6, 0, 4, 0, 23, 0, 24}
	e, err := ja4plus.DHCPv6(solicit)
	fmt.Println(e.Value, err)
	// Output: solct0004nn_1-6_23-24 <nil>
}

// A server that repeats its SYN-ACK shows its timers.
func ExampleSYNACKRetries() {
	var r ja4plus.SYNACKRetries
	for _, seconds := range []int64{0, 1, 3, 7} {
		value, _ := r.SYNACK(seconds*1e9, 65535, []byte{2, 4, 0x05, 0xb4})
		fmt.Println(value)
	}
	value, _ := r.Reset(15e9)
	fmt.Println(value)
	// Output:
	// 65535_2_1460_00
	// 65535_2_1460_00_1
	// 65535_2_1460_00_1-2
	// 65535_2_1460_00_1-2-4
	// 65535_2_1460_00_1-2-4-R8
}

// Somebody types; the shell answers.
func ExampleSSHWindow() {
	w := ja4plus.NewSSHWindow(0, ja4plus.BareACKs{})
	const psh, ack = 0x18, 0x10
	for range 100 {
		w.Packet(true, psh, 36)
		w.Packet(true, ack, 0)
		if e, ok := w.Packet(false, psh, 36); ok {
			fmt.Println(e.Value, "is an", ja4plus.SSHSessionType(e.Value))
		}
	}
	// Output: c36s36_c100s100_c100s0 is an Interactive SSH Session
}

// The light distances of QUIC need no more than the kinds of its packets.
func ExampleQUICLatency() {
	var l ja4plus.QUICLatency
	l.Packet(true, ja4.PacketInitial, 0, 57)
	fmt.Println(l.Packet(false, ja4.PacketInitial, 20_000_000, 56).Server)
	l.Packet(false, ja4.PacketHandshake, 20_100_000, 56)
	fmt.Println(l.Packet(true, ja4.PacketHandshake, 21_100_000, 57).Client)
	// Output:
	// 10000_56
	// 500_57
}

// A connection that is silent between two requests need not be kept as a
// stream.
func ExampleHTTPStream_Rest() {
	var s ja4plus.HTTPStream
	s.Write([]byte("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"), func(ja4.Event) {})
	rest, ok := s.Rest()
	fmt.Println(ok)

	var again ja4plus.HTTPStream
	again.Resume(rest, s.HeaderTable())
	again.Write([]byte("GET /2 HTTP/1.1\r\nHost: b\r\n\r\n"), func(e ja4.Event) { fmt.Println(e.ServerName) })
	// Output:
	// true
	// b
}
