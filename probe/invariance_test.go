package probe

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// everyType is all there is, the optional types too.
var everyType = ja4.AllTypes.With(ja4.TypeJA4O).With(ja4.TypeJA4HRO)

// values are the fingerprints of each connection, in order: type, value, raw
// form and server name.
type values map[string][]string

func valuesOf(t testing.TB, src capture.Source) values {
	t.Helper()
	v := values{}
	_, err := Fingerprints(t.Context(), src, Config{Types: everyType}, func(e *handshake.Event) error {
		id := fmt.Sprintf("%v %v:%d>%v:%d", e.Tuple.Protocol, e.Tuple.Src, e.Tuple.SrcPort, e.Tuple.Dst, e.Tuple.DstPort)
		v[id] = append(v[id], fmt.Sprintf("%v %s %s %s", e.Type, e.Value, e.Raw, e.ServerName))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// differs says where got is not want, "" when it is.
func (want values) differs(got values) string {
	var lines []string
	keys := slices.Sorted(maps.Keys(want))
	for id := range got {
		if want[id] == nil {
			keys = append(keys, id)
		}
	}
	for _, id := range keys {
		if !slices.Equal(got[id], want[id]) {
			lines = append(lines, fmt.Sprintf("%s\n  got  %s\n  want %s", id, strings.Join(got[id], "\n       "), strings.Join(want[id], "\n       ")))
		}
	}
	return strings.Join(lines, "\n")
}

// memory is a source of packets that stay where they are; a list would spend
// the time of these tests on copies.
type memory struct{ packets []capture.Packet }

func (m *memory) Next(p *capture.Packet) error {
	if len(m.packets) == 0 {
		return io.EOF
	}
	*p, m.packets = m.packets[0], m.packets[1:]
	return nil
}

func (m *memory) Close() error { return nil }

// sampleCapture is the capture that the project ships.
const sampleCapture = "../examples/sample/sample.pcap"

// largeCapture is the size in bytes from which a capture is left out in short
// runs.
const largeCapture = 64 << 10

// eachCapture runs f over the sample and, where they are, the reference
// captures.
func eachCapture(t *testing.T, f func(t *testing.T, packets []capture.Packet)) {
	paths, err := filepath.Glob(filepath.Join(oracleDir, "captures", "*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Logf("no reference captures in %s: the sample alone", oracleDir)
	}
	for _, path := range append(paths, sampleCapture) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if testing.Short() && path != sampleCapture && info.Size() >= largeCapture {
				t.Skipf("%d bytes", info.Size())
			}
			f(t, packetsOf(t, path))
		})
	}
}

// However packets are carried, in another link layer or in a tunnel, their
// fingerprints are the same: type, value, raw form and order in a connection.
func TestEncapsulationDoesNotMatter(t *testing.T) {
	carried := map[string]int{}
	eachCapture(t, func(t *testing.T, packets []capture.Packet) {
		want := valuesOf(t, &memory{packets: packets})
		for i := range encapsulations {
			e := &encapsulations[i]
			wrapped, n := e.apply(packets)
			carried[e.name] += n
			if diff := want.differs(valuesOf(t, &memory{packets: wrapped})); diff != "" {
				t.Errorf("%s:\n%s", e.name, diff)
			}
		}
	})
	for i := range encapsulations {
		if name := encapsulations[i].name; carried[name] < 100 {
			t.Errorf("%s carried %d packets: the test says nothing about it", name, carried[name])
		}
	}
}

// The tag that a kernel takes off a live packet does not matter either, nor
// that every tunnel is in a tunnel again.
func TestNestedEncapsulation(t *testing.T) {
	packets := packetsOf(t, sampleCapture)
	want := valuesOf(t, &memory{packets: packets})
	tagged := slices.Clone(packets)
	for i := range tagged {
		tagged[i].VLAN = 1 + 100
	}
	if diff := want.differs(valuesOf(t, &memory{packets: tagged})); diff != "" {
		t.Errorf("tag taken off:\n%s", diff)
	}
	for i := range encapsulations {
		inner := &encapsulations[i]
		once, _ := inner.apply(packets)
		for j := i % 4; j < len(encapsulations); j += 4 { // a quarter of the pairs, for time
			outer := &encapsulations[j]
			twice, _ := outer.apply(once)
			if diff := want.differs(valuesOf(t, &memory{packets: twice})); diff != "" {
				t.Fatalf("%s in %s:\n%s", inner.name, outer.name, diff)
			}
		}
	}
}

// A packet that comes in fragments has the fingerprints of the whole, also
// when the fragment with its ports comes last.
func TestFragmentationDoesNotMatter(t *testing.T) {
	cut := 0
	eachCapture(t, func(t *testing.T, packets []capture.Packet) {
		want := valuesOf(t, &memory{packets: packets})
		for _, backFirst := range []bool{false, true} {
			pieces, n := fragmented(packets, backFirst)
			cut += n
			if diff := want.differs(valuesOf(t, &memory{packets: pieces})); diff != "" {
				t.Errorf("back first %v:\n%s", backFirst, diff)
			}
		}
	})
	if cut < 50 {
		t.Errorf("%d packets were cut: the test says nothing", cut)
	}
}

// Whatever file packets are kept in, their fingerprints are the same. A format
// of microseconds is compared with times of microseconds.
func TestContainerDoesNotMatter(t *testing.T) {
	eachCapture(t, func(t *testing.T, packets []capture.Packet) {
		exact := valuesOf(t, &memory{packets: packets})
		coarse := slices.Clone(packets)
		for i := range coarse {
			coarse[i].Time -= coarse[i].Time % 1000
		}
		rounded := valuesOf(t, &memory{packets: coarse})
		for i := range containers {
			c := &containers[i]
			if c.slow && len(packets) > 1000 {
				continue
			}
			want := exact
			if c.format == capture.PCAP {
				want = rounded
			}
			content := packets
			if c.format != capture.PCAPNG { // one link type for all
				content = oneLink(packets)
			}
			src, _ := c.reread(t, content)
			if diff := want.differs(valuesOf(t, src)); diff != "" {
				t.Errorf("%s:\n%s", c.name, diff)
			}
		}
	})
}

// oneLink makes Ethernet of packets when they have several link types.
func oneLink(packets []capture.Packet) []capture.Packet {
	if !slices.ContainsFunc(packets, func(p capture.Packet) bool { return p.LinkType != packets[0].LinkType }) {
		return packets
	}
	e := &encapsulations[0]
	out, _ := e.apply(packets)
	return slices.DeleteFunc(out, func(p capture.Packet) bool { return p.LinkType != e.link })
}

// A file in another container is still read whole: a test of the test, since
// an empty file has no fingerprints that differ.
func TestContainersHoldEveryPacket(t *testing.T) {
	packets := packetsOf(t, sampleCapture)
	for i := range containers {
		c := &containers[i]
		src, file := c.reread(t, packets)
		var p capture.Packet
		for n := range packets {
			if err := src.Next(&p); err != nil {
				t.Fatalf("%s: packet %d: %v", c.name, n+1, err)
			}
			if string(p.Data) != string(packets[n].Data) || p.Time/1000 != packets[n].Time/1000 || p.LinkType != packets[n].LinkType {
				t.Fatalf("%s: packet %d differs", c.name, n+1)
			}
		}
		if big := strings.Contains(c.name, "big-endian"); big && (file[0] == 0xd4 || file[0] == 0x4d) {
			t.Errorf("%s begins with %x", c.name, file[:4])
		}
	}
}

// A hello cut in two at any byte, in either order of the halves, and one cut
// into single bytes, has the fingerprint of the whole.
func TestHelloSplitAtEveryByte(t *testing.T) {
	hello := sampleHello(t)
	segments := func(cuts ...[]byte) *memory {
		packets := []capture.Packet{raw(0, frame(1, true, flow.SYN, 999, ""))}
		for i, b := range cuts {
			offset := len(hello) - len(b)
			packets = append(packets, raw(time.Duration(i+1)*time.Millisecond, frame(1, true, flow.ACK, 1000+uint32(offset), string(b))))
		}
		return &memory{packets: packets}
	}
	want := valuesOf(t, segments(hello))
	if fp := strings.Join(slices.Concat(slices.Collect(maps.Values(want))...), "\n"); !strings.Contains(fp, "ja4 t13") {
		t.Fatalf("the whole hello gives %q", fp)
	}
	for at := 1; at < len(hello); at++ {
		// The first segment is cut off at the split; the second goes to the end.
		front := raw(time.Millisecond, frame(1, true, flow.ACK, 1000, string(hello[:at])))
		back := segments(hello[at:]).packets
		for name, packets := range map[string][]capture.Packet{
			"in order":   {back[0], front, back[1]},
			"back first": {back[0], back[1], front},
		} {
			if diff := want.differs(valuesOf(t, &memory{packets: packets})); diff != "" {
				t.Fatalf("split at byte %d, %s:\n%s", at, name, diff)
			}
		}
	}
	single := segments().packets
	for i := range hello {
		single = append(single, raw(time.Duration(i+1)*time.Millisecond, frame(1, true, flow.ACK, 1000+uint32(i), string(hello[i:i+1]))))
	}
	if diff := want.differs(valuesOf(t, &memory{packets: single})); diff != "" {
		t.Fatalf("in single bytes:\n%s", diff)
	}
}

// sampleHello is the first TLS record of the sample that holds a client hello
// of TLS 1.3.
func sampleHello(t testing.TB) []byte {
	t.Helper()
	for _, p := range packetsOf(t, sampleCapture) {
		b := string(p.Data)
		at := strings.Index(b, "\x16\x03\x01")
		if at < 0 || len(b) < at+9 || b[at+5] != 1 {
			continue
		}
		if n := 5 + int(b[at+3])<<8 + int(b[at+4]); len(b) >= at+n {
			return []byte(b[at : at+n])
		}
	}
	t.Fatalf("no client hello in %s", sampleCapture)
	return nil
}
