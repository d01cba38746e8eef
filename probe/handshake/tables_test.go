package handshake

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/ja4plus"
)

// A tableStore gives back what was put into it, for as long as it was not
// removed, and is empty in the end.
func TestTableStore(t *testing.T) {
	var s tableStore
	r := rand.New(rand.NewPCG(7, 7))
	kept := map[uint32][]byte{}
	check := func() {
		t.Helper()
		for ref, want := range kept {
			if got := s.at(ref); !bytes.Equal(got, want) || s.bytes(ref) < int64(len(want)) {
				t.Fatalf("table %#x is %q of %d bytes, want %q", ref, got, s.bytes(ref), want)
			}
		}
		if s.live() != len(kept) {
			t.Fatalf("%d tables, want %d", s.live(), len(kept))
		}
	}
	for range 3000 {
		b := make([]byte, 1+r.IntN(300))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		ref := s.put(bytes.Clone(b))
		if _, there := kept[ref]; there || ref == 0 {
			t.Fatalf("number %#x is given twice", ref)
		}
		kept[ref] = b
		if len(kept) > 200 {
			for ref := range kept {
				s.remove(ref)
				delete(kept, ref)
				if r.IntN(3) > 0 {
					break
				}
			}
		}
	}
	check()
	for ref := range kept {
		// Who appends to a table must not write into the next one.
		_ = append(s.at(ref), "xxxxxxxxxxxxxxxx"...)
	}
	check()
	for ref := range kept {
		s.remove(ref)
		delete(kept, ref)
	}
	check()
	if ref := s.put(nil); ref != 0 || s.at(0) != nil || s.bytes(0) != 0 {
		t.Errorf("an empty table has the number %#x", ref)
	}
	s.remove(0)
}

// Connections of HTTP/2 that rest between their packets, many at once, yield
// what their bytes yield in one go, and nothing of them is left in the end.
func TestHTTP2Rests(t *testing.T) {
	const flows, requests = 40, 25
	type state struct {
		c    *conversation
		want []string
		at   int
	}
	r := rand.New(rand.NewPCG(5, 9))
	all := make([]state, flows)
	for n := range all {
		s := &all[n]
		s.c = overHTTP2(requests, func(i int) []string {
			fields := []string{":method " + []string{"GET", "POST"}[r.IntN(2)], ":scheme http", fmt.Sprintf(":path /%d/%d", n, i), fmt.Sprintf(":authority host%d.example", n%7)}
			for range r.IntN(3) {
				fields = append(fields, fmt.Sprintf("x-%d %s", r.IntN(9), strings.Repeat("v", r.IntN(200))))
			}
			for range r.IntN(4) {
				fields = append(fields, fmt.Sprintf("cookie c%d=%s", r.IntN(4), strings.Repeat("w", r.IntN(9)*r.IntN(9))))
			}
			return append(fields, "accept-language "+[]string{"de", "en-GB,en", "fr"}[r.IntN(3)])
		})
		var stream ja4plus.HTTPStream
		for i := range s.c.packets {
			p := &s.c.packets[i]
			if p.Tuple == s.c.tuple(client) {
				stream.Write(p.Payload, func(e ja4.Event) { s.want = append(s.want, e.Raw+" "+e.ServerName) })
			}
			tuple := p.Tuple
			if tuple.Src == s.c.client.Src {
				tuple.Src[15] = byte(n)
			} else {
				tuple.Dst[15] = byte(n)
			}
			p.Tuple = tuple
		}
		if len(s.want) != requests {
			t.Fatalf("%d requests, want %d", len(s.want), requests)
		}
	}
	g := New(Config{})
	var out Result
	for left, tables := flows, 0; left > 0; {
		s := &all[r.IntN(flows)]
		if s.at == len(s.c.packets) {
			continue
		}
		p := s.c.packets[s.at]
		p.Time = int64(s.at) * 1e6
		g.Packet(&p, &out)
		for _, e := range out.Events {
			if e.Type != ja4.TypeJA4H {
				continue
			}
			if got := e.Raw + " " + e.ServerName; got != s.want[0] {
				t.Fatalf("got %q\nwant %q", got, s.want[0])
			}
			s.want = s.want[1:]
		}
		if s.at++; s.at == len(s.c.packets) {
			left--
			if len(s.want) > 0 {
				t.Errorf("%d requests are missing", len(s.want))
			}
		}
		if tables = max(tables, g.tables.live()); left == 0 && tables < flows {
			t.Errorf("at most %d header tables at once, want %d", tables, flows)
		}
	}
	checkEngine(t, g)
	if g.conns.live != 0 || g.quiets.live != flows {
		t.Errorf("%d connections at work, %d at rest", g.conns.live, g.quiets.live)
	}
	// Another SYN on each begins anew and leaves no table behind, be it at rest
	// or within the header of a frame.
	for n := range all {
		if n%2 == 0 {
			c := all[n].c
			p := c.packets[len(c.packets)-1]
			p.Seq, p.Payload, p.PayloadLength = c.seq[client], []byte{0, 0}, 2
			if g.Packet(&p, &out); g.conns.live != 1 {
				t.Fatalf("%d connections at work, want 1", g.conns.live)
			}
		}
		p := all[n].c.packets[0]
		p.Seq += 99999
		g.Packet(&p, &out)
	}
	if g.tables.live() != 0 {
		t.Errorf("%d header tables are left", g.tables.live())
	}
	checkEngine(t, g)
}

// A client that fills a large header table and then gives it up leaves no more
// memory behind than it is charged for.
func TestShrunkHeaderTableIsLetGo(t *testing.T) {
	var in, block bytes.Buffer
	frame := func(kind, flags byte, stream uint32, p []byte) {
		in.Write([]byte{byte(len(p) >> 16), byte(len(p) >> 8), byte(len(p)), kind, flags})
		in.Write(binary.BigEndian.AppendUint32(nil, stream))
		in.Write(p)
	}
	in.WriteString("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	frame(4, 0, 0, nil)
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSizeLimit(65536)
	e.SetMaxDynamicTableSize(65536)
	for i, n := range []int{31000, 31000, 3080, 260} {
		if n == 260 {
			e.SetMaxDynamicTableSize(700)
		}
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: "cookie", Value: strings.Repeat(string(rune('a'+i)), n)},
		} {
			if err := e.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		frame(1, 4, uint32(2*i+1), block.Bytes())
		block.Reset()
	}
	g := New(Config{})
	before := heap()
	var out Result
	const flows = 300
	for i := range flows {
		c := newConversation()
		c.client.Src = flow.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		c.open().say(client, in.Bytes(), 1400)
		for k := range c.packets {
			g.Packet(&c.packets[k], &out)
		}
	}
	grown := heap() - before
	if g.quiets.live != flows || g.tables.live() != flows {
		t.Fatalf("%d of %d connections rest, %d with a table", g.quiets.live, flows, g.tables.live())
	}
	if grown > 2*g.used+1<<20 {
		t.Errorf("%d flows take %d bytes and are charged %d", flows, grown, g.used)
	}
	runtime.KeepAlive(g)
}
