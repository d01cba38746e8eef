package ja4_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/whorl-net/whorl/ja4"
)

// The first bytes of a connection to port 443: one TLS record.
const hello = "16030100700100006c0303000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0000081301" +
	"13021303c02f0100003b00000010000e00000b6578616d706c652e636f6d0010000e000c02683208687474702f312e31" +
	"000d00080006040308040401002b00050403040303"

func ExampleTLSClientHello() {
	b, err := hex.DecodeString(hello)
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := ja4.TLSClientHello(b)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Value)
	fmt.Println(e.Raw)
	fmt.Println(e.ServerName)
	// Output:
	// t13d0404h2_77f0cd3447db_4b7616f1fee2
	// t13d0404h2_1301,1302,1303,c02f_000d,002b_0403,0804,0401
	// example.com
}

func ExampleTLSStream() {
	b, _ := hex.DecodeString(hello)
	var s ja4.TLSStream
	for _, segment := range [][]byte{b[:40], b[40:]} {
		status := s.Write(segment, func(m ja4.Message) {
			if m.Type != ja4.MessageClientHello {
				return
			}
			if h, err := ja4.ClientHello(m.Transport, m.Body); err == nil {
				fmt.Println(h.Value())
			}
		})
		fmt.Println(status)
	}
	// Output:
	// more
	// t13d0404h2_77f0cd3447db_4b7616f1fee2
	// more
}

func ExampleParse() {
	parts, err := ja4.Parse(ja4.TypeJA4, "t13d1516h2_8daaf6152771_e5627efa2ab1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(parts.Part("version"), parts.Part("cipher_count"), parts.Part("alpn"))
	// Output: 13 15 h2
}

// One parsed hello gives its fingerprint in every form.
func ExampleClientHello() {
	b, _ := hex.DecodeString(hello)
	const recordHeader, messageHeader = 5, 4
	h, err := ja4.ClientHello(ja4.TLS, b[recordHeader+messageHeader:])
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.Value())
	fmt.Println(h.ValueOriginal())
	fmt.Println(h.RawOriginal())
	// Output:
	// t13d0404h2_77f0cd3447db_4b7616f1fee2
	// t13d0404h2_77f0cd3447db_ceba51a9e078
	// t13d0404h2_1301,1302,1303,c02f_0000,0010,000d,002b_0403,0804,0401
}

// datagram is the client's first of RFC 9001, appendix A.2.
func datagram() []byte {
	text, err := os.ReadFile("testdata/rfc9001-a2.hex")
	if err != nil {
		panic(err)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// What a QUIC client says first is encrypted, with keys that everybody can
// derive from it.
func ExampleQUICClientHello() {
	e, err := ja4.QUICClientHello(datagram())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Value, e.ServerName)
	// Output: q13d0211an_62ed6f6ca7ad_4d634acda6c0 example.com
}

// A flow takes the datagrams of both ends, 0 and 1, and finds out who is the
// client.
func ExampleQUICFlow() {
	var f ja4.QUICFlow
	packets, status := f.Datagram(1, datagram(), func(side uint8, m ja4.Message) {
		fmt.Printf("side %d says a handshake message of type %d, %d bytes\n", side, m.Type, len(m.Body))
	})
	client, known := f.Client()
	fmt.Println(packets.At(0), status, client, known)
	// Output:
	// side 1 says a handshake message of type 1, 237 bytes
	// initial more 1 true
}

// A hello may come in fragments, in any order.
func ExampleDTLSStream() {
	b, _ := hex.DecodeString(hello)
	body := b[9:]
	session := 34 + 1 + int(body[34])
	body = append(append(append([]byte{}, body[:session]...), 0), body[session:]...) // an empty cookie
	fragment := func(start, end int) []byte {
		n := end - start
		record := []byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, byte(start), 0, byte(12 + n)}
		message := []byte{1, 0, 0, byte(len(body)), 0, 0, 0, 0, byte(start), 0, 0, byte(n)}
		return append(append(record, message...), body[start:end]...)
	}
	var s ja4.DTLSStream
	for _, d := range [][]byte{fragment(60, len(body)), fragment(0, 60)} {
		status := s.Datagram(d, func(m ja4.Message) {
			if h, err := ja4.ClientHello(m.Transport, m.Body); err == nil {
				fmt.Println(h.Value())
			}
		})
		fmt.Println(status)
	}
	// Output:
	// more
	// d12d0404h2_77f0cd3447db_4b7616f1fee2
	// more
}

// Types have names, and sets of them say what to compute.
func ExampleTypeSet() {
	for t := ja4.TypeJA4; t < ja4.NumTypes; t++ {
		if ja4.JA4Only.Has(t) {
			fmt.Println(t, t.Plus(), t.Optional())
		}
	}
	// Output:
	// ja4 false false
	// ja4_o false true
}
