package ja4plus_test

import (
	"fmt"

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
