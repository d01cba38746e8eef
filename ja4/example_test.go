package ja4_test

import (
	"encoding/hex"
	"fmt"

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
