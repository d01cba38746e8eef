package handshake

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/ja4/ja4plus"
	"github.com/whorl-net/whorl/probe/decode"
)

// A secret is a recorded TLS connection with requests inside.
type secret struct {
	flights []flight
	keys    []byte   // SSLKEYLOGFILE of the client
	want    []string // JA4H of each request, as its server read it
	ja4x    string
}

func (s *secret) log(t testing.TB) *cleartext.KeyLog {
	t.Helper()
	k := cleartext.NewKeyLog(0)
	if k.Add(s.keys) == 0 {
		t.Fatal("no secrets were recorded")
	}
	return k
}

func (s *secret) packets(mss int) []decode.Packet {
	c := newConversation().open()
	for _, f := range s.flights {
		c.say(f.from, f.data, mss)
	}
	return c.packets
}

// ja4h computes a JA4H from fields in the order of the wire.
func ja4h(method, version string, fields [][2]string) string {
	hash := func(parts []string) string {
		if len(parts) == 0 {
			return "000000000000"
		}
		return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, ","))))[:12]
	}
	cookie, referer, language := "n", "n", "0000"
	var names, cookies, pairs []string
	for _, f := range fields {
		switch name := strings.ToLower(f[0]); {
		case name == "cookie":
			cookie = "c"
			pairs = append(pairs, strings.Split(f[1], "; ")...)
		case name == "referer":
			referer = "r"
		case name[0] == ':':
		default:
			if name == "accept-language" {
				first, _, _ := strings.Cut(f[1], ",")
				language = (strings.ToLower(strings.ReplaceAll(first, "-", "")) + "0000")[:4]
			}
			names = append(names, f[0])
		}
	}
	slices.Sort(pairs)
	for _, p := range pairs {
		name, _, _ := strings.Cut(p, "=")
		cookies = append(cookies, name)
	}
	return fmt.Sprintf("%s%s%s%s%02d%s_%s_%s_%s", strings.ToLower(method[:2]), version, cookie, referer, len(names), language,
		hash(names), hash(cookies), hash(pairs))
}

// serve1 answers n requests of HTTP/1.1 and returns their JA4H.
func serve1(conn io.ReadWriter, n int) (want []string, err error) {
	r := bufio.NewReader(conn)
	for range n {
		line, err := r.ReadString('\n')
		if err != nil {
			return want, err
		}
		method, _, _ := strings.Cut(line, " ")
		var fields [][2]string
		length := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return want, err
			}
			name, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok {
				break
			}
			fields = append(fields, [2]string{name, value})
			if name == "Content-Length" {
				fmt.Sscan(value, &length)
			}
		}
		io.CopyN(io.Discard, r, int64(length))
		want = append(want, ja4h(method, "11", fields))
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"); err != nil {
			return want, err
		}
	}
	return want, nil
}

// serve2 is serve1 for HTTP/2, by a server that only knows frames.
func serve2(conn io.ReadWriter, n int) (want []string, err error) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return nil, err
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.WriteSettings()
	f.WriteWindowUpdate(0, 1<<20)
	var block bytes.Buffer
	hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "204"})
	for ended := 0; ended < n; {
		frame, err := f.ReadFrame()
		if err != nil {
			return want, err
		}
		if m, ok := frame.(*http2.MetaHeadersFrame); ok {
			var fields [][2]string
			for _, h := range m.Fields {
				fields = append(fields, [2]string{h.Name, h.Value})
			}
			want = append(want, ja4h(m.PseudoValue("method"), "20", fields))
		}
		if s, ok := frame.(*http2.SettingsFrame); ok && !s.IsAck() {
			f.WriteSettingsAck()
		}
		end := false
		switch h := frame.(type) {
		case *http2.MetaHeadersFrame:
			end = h.StreamEnded()
		case *http2.DataFrame:
			end = h.StreamEnded()
		}
		if end {
			ended++
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: frame.Header().StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
		}
	}
	return want, nil
}

// requests are what the client of a recording asks.
func requests() []*http.Request {
	request := func(method, body string, header map[string]string) *http.Request {
		r, err := http.NewRequest(method, "https://example.net/", strings.NewReader(body))
		check(err)
		for name, value := range header {
			r.Header.Set(name, value)
		}
		return r
	}
	return []*http.Request{
		request("GET", "", map[string]string{"Accept-Language": "en-GB,en;q=0.5", "Cookie": "b=2; a=1"}),
		request("POST", strings.Repeat("GET / HTTP/1.1\r\n\r\n", 2000), map[string]string{"Referer": "https://example.net/a", "X-Y": "z"}),
		request("DELETE", "", nil),
	}
}

var recordHTTP = func() func(version uint16, protocol string) *secret {
	var mu sync.Mutex
	made := map[string]*secret{}
	return func(version uint16, protocol string) *secret {
		mu.Lock()
		defer mu.Unlock()
		name := fmt.Sprint(version, protocol)
		if made[name] == nil {
			made[name] = makeSecret(&tls.Config{MinVersion: version, MaxVersion: version, NextProtos: []string{protocol}})
		}
		return made[name]
	}
}()

// makeSecret records net/http as a client of serve1 or serve2.
func makeSecret(cfg *tls.Config) *secret {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.net", Country: []string{"DK"}},
		NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.net"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(err)
	certificate, err := ja4plus.Certificate(der)
	check(err)

	var s secret
	var mu sync.Mutex
	var keys bytes.Buffer
	a, b := loopback()
	cfg.ServerName, cfg.InsecureSkipVerify, cfg.KeyLogWriter = "example.net", true, &keys
	sv := tls.Server(recorder{b, server, &mu, &s.flights}, &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, NextProtos: cfg.NextProtos,
	})
	done := make(chan error, 1)
	go func() {
		serve := serve1
		if cfg.NextProtos[0] == "h2" {
			serve = serve2
		}
		var err error
		s.want, err = serve(sv, len(requests()))
		done <- err
		io.Copy(io.Discard, sv)
	}()
	cl := tls.Client(recorder{a, client, &mu, &s.flights}, cfg)
	check(cl.Handshake())
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		DialTLSContext:    func(context.Context, string, string) (net.Conn, error) { return cl, nil },
	}
	defer transport.CloseIdleConnections()
	for _, r := range requests() {
		answer, err := transport.RoundTrip(r)
		check(err)
		_, err = io.Copy(io.Discard, answer.Body)
		check(err)
		answer.Body.Close()
	}
	check(<-done)
	a.Close()
	b.Close()
	mu.Lock()
	defer mu.Unlock()
	s.keys, s.ja4x = keys.Bytes(), certificate.Value
	s.flights = slices.Clone(s.flights)
	return &s
}

// loopback returns both ends of a TCP connection: unlike those of a pipe, both
// may write at the same time.
func loopback() (a, b net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer l.Close()
	a, err = net.Dial("tcp", l.Addr().String())
	check(err)
	b, err = l.Accept()
	check(err)
	return a, b
}

var secretKinds = []struct {
	name     string
	version  uint16
	protocol string
}{
	{"TLS 1.2, HTTP/1.1", tls.VersionTLS12, "http/1.1"}, {"TLS 1.3, HTTP/1.1", tls.VersionTLS13, "http/1.1"},
	{"TLS 1.2, HTTP/2", tls.VersionTLS12, "h2"}, {"TLS 1.3, HTTP/2", tls.VersionTLS13, "h2"},
}

func valuesOf(events []Event, kind ja4.Type) (out []string) {
	for i := range events {
		if events[i].Type == kind {
			out = append(out, events[i].Value)
		}
	}
	return out
}

// With its secrets, a connection gives the requests inside it, as its server
// read them, and its certificate, each at the packet that completes it.
func TestInsideTLS(t *testing.T) {
	for _, k := range secretKinds {
		t.Run(k.name, func(t *testing.T) {
			s := recordHTTP(k.version, k.protocol)
			packets := s.packets(1000)
			events, _, g := run(Config{Secrets: s.log(t)}, packets)
			diff(t, valuesOf(events, ja4.TypeJA4H), s.want)
			diff(t, valuesOf(events, ja4.TypeJA4X), []string{s.ja4x})
			diff(t, valuesOf(events, ja4.TypeJA4), valuesOf(events, ja4.TypeJA4)[:1])
			if g.used != 0 || g.Stats().GivenUp != [NumReasons]uint64{} {
				t.Errorf("%d bytes held in the end, given up %v", g.used, g.Stats().GivenUp)
			}
			for i := range events {
				e := &events[i]
				if e.Type != ja4.TypeJA4H && e.Type != ja4.TypeJA4X {
					continue
				}
				if e.Tuple != packets[0].Tuple || e.Time != packets[e.PacketNum-1].Time {
					t.Errorf("%v of %v at packet %d", e.Type, e.Tuple, e.PacketNum)
				}
				with, _, _ := run(Config{Secrets: s.log(t)}, packets[:e.PacketNum])
				without, _, _ := run(Config{Secrets: s.log(t)}, packets[:e.PacketNum-1])
				if !slices.Contains(valuesOf(with, e.Type), e.Value) || slices.Contains(valuesOf(without, e.Type), e.Value) {
					t.Errorf("%v is not complete with packet %d, or before it", e.Type, e.PacketNum)
				}
			}
		})
	}
}

// Types chooses inside too, and what is held ends with what is wanted.
func TestTypesInside(t *testing.T) {
	for _, k := range secretKinds {
		s := recordHTTP(k.version, k.protocol)
		only := func(types ...ja4.Type) (set ja4.TypeSet) {
			for _, t := range types {
				set = set.With(t)
			}
			return set
		}
		for _, c := range []struct {
			types ja4.TypeSet
			want  string
		}{
			{only(ja4.TypeJA4H), "ja4h ja4h ja4h"},
			{only(ja4.TypeJA4H, ja4.TypeJA4HRO), "ja4h ja4h_ro ja4h ja4h_ro ja4h ja4h_ro"},
			{only(ja4.TypeJA4X), "ja4x"},
			{ja4.JA4Only, "ja4 ja4_o"},
		} {
			g := New(Config{Types: c.types, Secrets: s.log(t)})
			var out Result
			var events []Event
			for _, p := range s.packets(1400) {
				g.Packet(&p, &out)
				events = append(events, out.Events...)
				checkEngine(t, g)
			}
			if got := kinds(events); got != c.want {
				t.Errorf("%s, types %b: events %q, want %q", k.name, c.types, got, c.want)
			}
			if !c.types.Has(ja4.TypeJA4H) && g.used != 0 {
				t.Errorf("%s, types %b: %d bytes are held when all is found", k.name, c.types, g.used)
			}
		}
	}
}

// The server's data is passed over once its handshake is complete.
func TestServerDataIsNotOpened(t *testing.T) {
	s := recordHTTP(tls.VersionTLS13, "http/1.1")
	g := New(Config{Secrets: s.log(t)})
	var out Result
	for _, p := range s.packets(1400) {
		g.Packet(&p, &out)
	}
	c := g.conns.at(1)
	serverSide := g.e.clientSide() ^ 1
	if !c.streams[serverSide].done || c.streams[serverSide^1].done {
		t.Errorf("server is done: %t, client is: %t", c.streams[serverSide].done, c.streams[serverSide^1].done)
	}
	if g.used < connBytes+streamBytes+openedBytes {
		t.Errorf("%d bytes charged: what looks inside is not among them", g.used)
	}
}

// wrongSecrets returns a key log with the last digit of each secret changed.
func wrongSecrets(keys []byte) []byte {
	wrong := bytes.TrimRight(bytes.Clone(keys), "\n")
	for i, c := range wrong {
		if i+1 < len(wrong) && wrong[i+1] != '\n' {
			continue
		}
		if wrong[i] = '0'; c == '0' {
			wrong[i] = '1'
		}
	}
	return wrong
}

// Without the right secrets all that is in clear comes out as ever, nothing
// else does, and the reason is counted.
func TestWrongSecrets(t *testing.T) {
	other := cleartext.NewKeyLog(0)
	other.Add(recordHTTP(tls.VersionTLS12, "h2").keys)
	for _, k := range secretKinds {
		s := recordHTTP(k.version, k.protocol)
		packets := s.packets(700)
		clear, _, g := run(Config{}, packets)
		if g.Stats().GivenUp != [NumReasons]uint64{} {
			t.Errorf("%s: given up %v", k.name, g.Stats().GivenUp)
		}
		broken := cleartext.NewKeyLog(0)
		broken.Add(wrongSecrets(s.keys))
		for _, c := range []struct {
			name string
			keys *cleartext.KeyLog
			why  Reason
		}{{"none", cleartext.NewKeyLog(0), NumReasons}, {"of others", other, ReasonNoSecrets}, {"wrong", broken, ReasonUnopened}} {
			if c.keys == other && k.version == tls.VersionTLS12 && k.protocol == "h2" {
				continue
			}
			events, _, g := run(Config{Secrets: c.keys}, packets)
			diff(t, values(events), values(clear))
			if c.why != NumReasons && g.Stats().GivenUp[c.why] != 1 {
				t.Errorf("%s, secrets %s: given up %v", k.name, c.name, g.Stats().GivenUp)
			}
			if g.used != 0 {
				t.Errorf("%s, secrets %s: %d bytes held", k.name, c.name, g.used)
			}
		}
	}
}

// A cipher suite that is not opened is a reason of its own.
func TestUnsupportedSuite(t *testing.T) {
	s := makeSecret(&tls.Config{
		MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
	})
	events, _, g := run(Config{Secrets: s.log(t)}, s.packets(1400))
	if len(valuesOf(events, ja4.TypeJA4H)) != 0 || len(valuesOf(events, ja4.TypeJA4X)) != 1 || g.Stats().GivenUp[ReasonUnsupported] != 1 {
		t.Errorf("events %s, given up %v", kinds(events), g.Stats().GivenUp)
	}
}

// A missing segment ends what is seen inside, not what is in clear.
func TestHoleInside(t *testing.T) {
	s := recordHTTP(tls.VersionTLS13, "http/1.1")
	packets := s.packets(1400)
	all, _, _ := run(Config{Secrets: s.log(t)}, packets)
	var first uint64 // packet of the first request
	for i := range all {
		if all[i].Type == ja4.TypeJA4H {
			first = all[i].PacketNum
			break
		}
	}
	g := New(Config{Secrets: s.log(t)})
	var out Result
	var events []Event
	for i := range packets {
		if i == int(first)+2 {
			continue
		}
		g.Packet(&packets[i], &out)
		events = append(events, out.Events...)
	}
	got := valuesOf(events, ja4.TypeJA4H)
	if len(got) == 0 || len(got) == len(s.want) {
		t.Fatalf("%d requests, the lost packet is not in the middle", len(got))
	}
	// Enough behind the hole to step over it.
	p := packets[first-1]
	p.Payload = bytes.Repeat([]byte{1}, 1400)
	p.PayloadLength = len(p.Payload)
	p.Seq = packets[len(packets)-1].Ack + 1<<20
	for range maxHeldBytes/1400 + 1 {
		g.Packet(&p, &out)
		checkEngine(t, g)
		p.Seq += 1400
	}
	if s := g.Stats(); s.GivenUp[ReasonUnopened] != 1 || s.Bytes != 0 {
		t.Errorf("given up %v, %d bytes held", s.GivenUp, s.Bytes)
	}
}

// Secrets that come late are waited for, for as long as Config says.
func TestLateSecrets(t *testing.T) {
	for _, k := range secretKinds {
		s := recordHTTP(k.version, k.protocol)
		packets := s.packets(1400)
		last := len(packets) - 1
		for _, wait := range []time.Duration{0, time.Hour} {
			keys := cleartext.NewKeyLog(0)
			keys.Add(recordHTTP(k.version^tls.VersionTLS12^tls.VersionTLS13, k.protocol).keys) // others
			g := New(Config{Secrets: keys, SecretsWait: wait})
			var out Result
			var events []Event
			for i := range packets {
				if i == last {
					keys.Add(s.keys)
				}
				g.Packet(&packets[i], &out)
				events = append(events, out.Events...)
				checkEngine(t, g)
				if i < last && (len(valuesOf(events, ja4.TypeJA4H)) > 0) {
					t.Fatalf("%s: a request before the secrets", k.name)
				}
			}
			want := s.want
			if wait == 0 {
				want = nil
			}
			diff(t, valuesOf(events, ja4.TypeJA4H), want)
			if n := g.Stats().GivenUp[ReasonNoSecrets]; (n == 0) != (wait > 0) {
				t.Errorf("%s, wait %v: %d without secrets", k.name, wait, n)
			}
		}
		// They never come.
		g := New(Config{Secrets: cleartext.NewKeyLog(0), SecretsWait: time.Second})
		var out Result
		for _, p := range packets {
			g.Packet(&p, &out)
		}
		if k.version == tls.VersionTLS13 && g.used == 0 {
			t.Errorf("%s: holds nothing while it waits", k.name)
		}
		p := packets[last]
		p.Time += int64(time.Second)
		p.Seq += uint32(len(p.Payload))
		g.Packet(&p, &out)
		if s := g.Stats(); s.Bytes != 0 || s.GivenUp[ReasonNoSecrets] != 1 {
			t.Errorf("%s: %d bytes held after the wait, given up %v", k.name, s.Bytes, s.GivenUp)
		}
	}
}

// However a network cuts, doubles, repeats and swaps segments, the same
// requests and certificates come out.
func TestSegmentsInsideDoNotMatter(t *testing.T) {
	for _, k := range secretKinds {
		t.Run(k.name, func(t *testing.T) {
			s := recordHTTP(k.version, k.protocol)
			keys := s.log(t)
			packets := s.packets(1400)
			events, _, _ := run(Config{Secrets: keys}, packets)
			want := byType(events)
			rapid.Check(t, func(t *rapid.T) {
				seed := rapid.Uint64().Draw(t, "seed")
				events, _, g := run(Config{Secrets: keys}, mangle(mathrand.New(mathrand.NewPCG(seed, 0)), packets))
				if got := byType(events); got != want {
					t.Fatalf("got\n%s\nwant\n%s", got, want)
				}
				if n := g.Stats().GivenUp; n != [NumReasons]uint64{} {
					t.Fatalf("given up %v", n)
				}
			})
		})
	}
}

// What is inside counts against MaxBytes.
func TestInsideIsBounded(t *testing.T) {
	s := recordHTTP(tls.VersionTLS13, "h2")
	for _, maxBytes := range []int64{connBytes, 8 << 10, 16 << 10, 40 << 10} {
		g := New(Config{Secrets: s.log(t), SecretsWait: time.Hour, MaxBytes: maxBytes})
		var out Result
		for _, p := range s.packets(300) {
			g.Packet(&p, &out)
			checkEngine(t, g)
		}
	}
}

// Secrets of others change nothing about the reference captures.
func TestSecretsOfOthersChangeNothing(t *testing.T) {
	paths, _ := filepath.Glob("../../../shared/oracle/captures/*")
	if len(paths) == 0 {
		t.Skip("no reference captures beside the project")
	}
	keys := recordHTTP(tls.VersionTLS13, "h2").log(t)
	for _, path := range paths {
		packets := decoded(t, path)
		without, _, _ := run(Config{}, packets)
		for _, wait := range []time.Duration{0, time.Second} {
			with, _, g := run(Config{Secrets: keys, SecretsWait: wait}, packets)
			if got, want := fmt.Sprint(with), fmt.Sprint(without); got != want {
				t.Errorf("%s, wait %v: got\n%s\nwant\n%s", filepath.Base(path), wait, got, want)
			}
			if g.used != 0 {
				t.Errorf("%s: %d bytes held", path, g.used)
			}
		}
	}
}

// A connection that carries no HTTP inside is left alone.
func TestOtherProtocolInside(t *testing.T) {
	var keys bytes.Buffer
	var mu sync.Mutex
	var flights []flight
	a, b := loopback()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	check(err)
	sv := tls.Server(recorder{b, server, &mu, &flights}, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	go io.Copy(io.Discard, sv)
	cl := tls.Client(recorder{a, client, &mu, &flights}, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &keys})
	for range 3 {
		_, err = cl.Write([]byte("a001 LOGIN somebody secret\r\n"))
		check(err)
	}
	a.Close()
	b.Close()
	mu.Lock()
	defer mu.Unlock()
	s := secret{flights: flights, keys: keys.Bytes()}
	events, _, g := run(Config{Secrets: s.log(t)}, s.packets(1400))
	if got := kinds(events); strings.Contains(got, "ja4h") || strings.Count(got, "ja4x") != 1 {
		t.Errorf("events %s", got)
	}
	if n := g.Stats().GivenUp[ReasonUnrecognised]; n != 1 {
		t.Errorf("unrecognised %d times, want once", n)
	}
	g = New(Config{Secrets: s.log(t)})
	var out Result
	for _, p := range s.packets(1400) {
		g.Packet(&p, &out)
	}
	if g.used != 0 {
		t.Errorf("%d bytes held", g.used)
	}
}

// Every reason has a name of its own.
func TestReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumReasons {
		if name := r.String(); cmp.Compare(name, "") == 0 || seen[name] || name == "unknown" {
			t.Errorf("reason %d is called %q", r, name)
		} else {
			seen[name] = true
		}
	}
	if NumReasons.String() != "unknown" {
		t.Error("what is no reason has a name")
	}
}
