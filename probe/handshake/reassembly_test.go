package handshake

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/decode"
	"pgregory.net/rapid"
)

// measured are the types that depend on how segments are cut and timed.
var measured = []ja4.Type{ja4.TypeJA4L, ja4.TypeJA4LS, ja4.TypeJA4SSH}

// mangle does to the payload of TCP connections what networks do: segments
// are cut, doubled, sent again in other pieces and with other bytes where they
// had arrived before, and swapped within a flight.
func mangle(r *rand.Rand, packets []decode.Packet) []decode.Packet {
	var out []decode.Packet
	opened := map[key]bool{}
	for i := 0; i < len(packets); {
		p := &packets[i]
		var k key
		k.set(&p.Tuple)
		if p.Tuple.Protocol != flow.TCP || len(p.Payload) == 0 || p.TCPFlags&flow.SYN != 0 || p.PayloadLength != len(p.Payload) {
			opened[k] = opened[k] || p.TCPFlags&flow.SYN != 0
			out = append(out, *p)
			i++
			continue
		}
		// A flight: what comes next from this sender.
		var flight, late []decode.Packet
		for ; i < len(packets) && packets[i].Tuple == p.Tuple && packets[i].PayloadLength == len(packets[i].Payload) && len(packets[i].Payload) > 0; i++ {
			pieces := cut(r, packets[i])
			for _, piece := range pieces {
				flight = append(flight, piece)
				if r.IntN(4) == 0 {
					flight = append(flight, piece)
				}
				if r.IntN(4) == 0 {
					junk := piece
					junk.Payload = bytes.Repeat([]byte{'#'}, len(piece.Payload))
					late = append(late, cut(r, junk)...)
				}
			}
		}
		if opened[k] {
			r.Shuffle(len(flight), func(i, j int) { flight[i], flight[j] = flight[j], flight[i] })
		}
		out = append(append(out, flight...), late...)
	}
	return out
}

// cut cuts p in pieces, some of which overlap the piece before.
func cut(r *rand.Rand, p decode.Packet) []decode.Packet {
	var out []decode.Packet
	for from := 0; from < len(p.Payload); {
		to := len(p.Payload)
		if r.IntN(3) > 0 {
			to = from + 1 + r.IntN(to-from)
		}
		piece := p
		begin := from
		if r.IntN(3) == 0 {
			begin = r.IntN(from + 1)
		}
		piece.Seq += uint32(begin)
		piece.Payload = p.Payload[begin:to]
		piece.PayloadLength = to - begin
		if to < len(p.Payload) {
			piece.TCPFlags &^= flow.FIN
		}
		out = append(out, piece)
		from = to
	}
	return out
}

// However a network cuts, doubles, repeats and swaps segments, the same
// fingerprints come out.
func TestSegmentsDoNotMatter(t *testing.T) {
	connect := func(c *conversation) *conversation {
		return c.text(client, "CONNECT example.net:443 HTTP/1.1\r\nHost: example.net\r\n\r\n").text(server, "HTTP/1.1 200 OK\r\n\r\n")
	}
	for name, c := range map[string]*conversation{
		"TLS 1.2": newConversation().open().tls(tls.VersionTLS12, 1400).close(),
		"TLS 1.3": newConversation().open().tls(tls.VersionTLS13, 1400).close(),
		"CONNECT": connect(newConversation().open()).tls(tls.VersionTLS12, 1400).close(),
		"SMTP": newConversation().open().text(server, "220 mx\r\n").text(client, "STARTTLS\r\n").text(server, "220 go\r\n").
			tls(tls.VersionTLS12, 900).close(),
		"HTTP": newConversation().open().text(client, request).text(server, "HTTP/1.1 200 OK\r\n\r\n").
			text(client, "POST /a HTTP/1.1\r\nContent-Length: 3000\r\nCookie: b=1; a=2\r\n\r\n"+strings.Repeat("GET / HTTP/1.1\r\n", 188)[:3000]+request).close(),
	} {
		t.Run(name, func(t *testing.T) {
			events, _, _ := run(Config{}, c.packets)
			want := byType(events)
			rapid.Check(t, func(t *rapid.T) {
				seed := rapid.Uint64().Draw(t, "seed")
				packets := mangle(rand.New(rand.NewPCG(seed, 0)), c.packets)
				events, _, g := run(Config{}, packets)
				if got := byType(events); got != want {
					t.Fatalf("got\n%s\nwant\n%s", got, want)
				}
				if g.used != 0 {
					t.Fatalf("%d bytes are charged in the end", g.used)
				}
			})
		})
	}
}

// byType lists the values of each type in order, but for those measured.
func byType(events []Event) string {
	var lines [ja4.NumTypes][]string
	for i := range events {
		if e := &events[i]; !slices.Contains(measured, e.Type) {
			lines[e.Type] = append(lines[e.Type], fmt.Sprintf("%v %v %s %s", e.Type, e.Tuple, e.Value, e.Raw))
		}
	}
	return strings.Join(slices.Concat(lines[:]...), "\n")
}

// The same holds for the reference captures.
func TestSegmentsOfReferenceCaptures(t *testing.T) {
	paths, _ := filepath.Glob("../../../shared/oracle/captures/*")
	if len(paths) == 0 {
		t.Skip("no reference captures beside the project")
	}
	for _, path := range paths {
		packets := decoded(t, path)
		events, _, _ := run(Config{}, packets)
		want := byConnection(events)
		for seed := range uint64(20) {
			events, _, _ := run(Config{}, mangle(rand.New(rand.NewPCG(seed, 1)), packets))
			if got := byConnection(events); got != want {
				t.Errorf("%s, seed %d: got\n%s\nwant\n%s", path, seed, got, want)
				break
			}
		}
	}
}

// byConnection is byType for many connections: their order among each other
// does not count.
func byConnection(events []Event) string {
	slices.SortStableFunc(events, func(a, b Event) int {
		return strings.Compare(fmt.Sprint(a.Tuple), fmt.Sprint(b.Tuple))
	})
	return byType(events)
}

func decoded(t *testing.T, path string) []decode.Packet {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := decode.New(decode.Config{})
	var in capture.Packet
	var packets []decode.Packet
	for {
		if err := f.Next(&in); errors.Is(err, io.EOF) {
			return packets
		} else if err != nil {
			t.Fatal(err)
		}
		var p decode.Packet
		if d.Decode(&in, &p) == decode.Tracked {
			p.Payload = bytes.Clone(p.Payload)
			p.TCPOptions = bytes.Clone(p.TCPOptions)
			p.Held = slices.Clone(p.Held)
			packets = append(packets, p)
		}
	}
}

// Held segments never overlap, stay in order, and never cover what came
// before: against a map of bytes.
func TestHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const base = 0xffff_ff80
		s := stream{next: base}
		want := map[uint32]byte{}
		for range rapid.IntRange(0, 40).Draw(t, "segments") {
			seq := base + rapid.Uint32Range(1, 300).Draw(t, "offset")
			data := rapid.SliceOfN(rapid.Byte(), 1, 60).Draw(t, "data")
			for i, b := range data {
				if _, there := want[seq+uint32(i)]; !there {
					want[seq+uint32(i)] = b
				}
			}
			s.hold(seq, data, 0, 0)
		}
		n := 0
		for i, h := range s.held {
			if i > 0 && before(h.seq, s.held[i-1].seq+uint32(len(s.held[i-1].data))) {
				t.Fatalf("segment %d overlaps the one before", i)
			}
			for j, b := range h.data {
				if w, there := want[h.seq+uint32(j)]; !there || w != b {
					t.Fatalf("byte at %#x is %d, want %d (%v)", h.seq+uint32(j), b, w, there)
				}
				n++
			}
		}
		if n != len(want) || n != s.heldBytes {
			t.Fatalf("%d bytes held, %d said, want %d", n, s.heldBytes, len(want))
		}
	})
}

// An SSH connection says of each range whether any of it is new, as long as
// there are not more holes than it keeps.
func TestFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const base = 0xffff_ff80
		s := sshFlow{next: [2]uint32{1: base}, nextKnown: [2]bool{1: true}}
		holes := func() []struct{ from, to uint32 } {
			if s.more == nil {
				return nil
			}
			m := &s.more.missing[1]
			return m.ranges[:m.n]
		}
		seen := map[uint32]bool{}
		for i := range uint32(300) {
			seen[base-1-i] = true
		}
		for range rapid.IntRange(0, 60).Draw(t, "ranges") {
			// Near the front, so that there are few holes at a time.
			seq := s.next[1] - 40 + rapid.Uint32Range(0, 60).Draw(t, "offset")
			n := rapid.Uint32Range(1, 30).Draw(t, "bytes")
			if h := holes(); len(h) == len(missing{}.ranges) { // fill them
				for _, m := range h {
					for q := m.from; q != m.to; q++ {
						seen[q] = true
					}
				}
				s.more = nil
			}
			fresh := false
			for q := seq; q != seq+n; q++ {
				fresh = fresh || !seen[q]
				seen[q] = true
			}
			before0 := len(holes())
			if got := s.fresh(1, seq, n); got != fresh {
				t.Fatalf("range of %d at %#x is new: %v, want %v", n, seq, got, fresh)
			}
			// A range in the middle of a hole leaves only what is behind it.
			if len(holes()) <= before0 {
				for q := s.next[1] - 100; q != s.next[1]; q++ {
					hole := slices.ContainsFunc(holes(), func(m struct{ from, to uint32 }) bool {
						return !before(q, m.from) && before(q, m.to)
					})
					if !hole {
						seen[q] = true
					}
				}
			}
		}
		if s.more != nil && len(holes()) == 0 {
			t.Fatal("nothing is missing, and memory is held for it")
		}
	})
}
