package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// AppendBatch writes the bytes of the generated encoder for what it says, which
// is all of the batch, and DecodeBatch reads what the generated decoder reads,
// from this form and the plain one, whatever was in the batch before.
func TestBatchIsTheGeneratedCode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	got := new(flow.Batch)
	for i := range 300 {
		b := randomBatch(r, r.IntN(300), i%2 == 0)
		plain := mustMarshal(messageOf(b))
		p := AppendBatch([]byte("x"), b)
		if want := remarshal(p[1:]); !bytes.Equal(p[1:], want) {
			t.Fatalf("batch %d: encoded as\n%x\nwant\n%x", i, p[1:], want)
		}
		if err := CheckBatch(b); err != nil {
			t.Fatalf("batch %d: check: %v", i, err)
		}
		for _, p := range [][]byte{plain, p[1:]} {
			if err := DecodeBatch(p, got); err != nil {
				t.Fatalf("batch %d: %v", i, err)
			}
			if want := inWireOrder(b); !equalBatches(want, got) {
				t.Fatalf("batch %d (-want +got):\n%s", i, cmp.Diff(want, got, cmpopts.EquateEmpty()))
			}
		}
	}
}

// A batch of the largest size, and one whose lengths need four bytes, survive.
func TestBatchOfMaximalSize(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	b := new(flow.Batch)
	for range flow.MaxBatchRows {
		i := b.AddFlow(flow.Tuple{Src: flow.Addr{15: 1}, Dst: flow.Addr{15: 2}, SrcPort: uint16(r.Uint32())})
		b.AddPacket(i, true, r.Int64N(1<<61), r.Uint32(), uint8(r.Uint32()))
		b.RunPackets = append(b.RunPackets, r.Uint32()|1<<31)
		b.RunSpan = append(b.RunSpan, uint64(r.Int64N(1<<61)))
	}
	for range flow.MaxBatchFingerprints {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Event: ja4.Event{Type: ja4.TypeJA4H,
			Value: strings.Repeat("v", flow.MaxValueLen), Raw: strings.Repeat("r", flow.MaxRawLen/64)}})
	}
	p := AppendBatch(nil, b)
	if want := remarshal(p); !bytes.Equal(p, want) {
		t.Fatalf("%d bytes differ from the generated %d", len(p), len(want))
	}
	got := new(flow.Batch)
	if err := DecodeBatch(p, got); err != nil {
		t.Fatal(err)
	}
	if !equalBatches(b, got) {
		t.Fatal("decoded another batch than was encoded")
	}
}

// Text that is not UTF-8 is mended on the way out: one odd byte in a cookie must
// not cost a whole batch.
func TestAppendBatchMendsText(t *testing.T) {
	b := &flow.Batch{Fingerprints: []flow.Fingerprint{{Event: ja4.Event{Type: ja4.TypeJA4H, Value: "ge11\xff", Raw: "a\x80b"}}}}
	b.AddFlow(flow.Tuple{})
	got := new(flow.Batch)
	if err := DecodeBatch(AppendBatch(nil, b), got); err != nil {
		t.Fatal(err)
	}
	if f := got.Fingerprints[0]; f.Value != "ge11\uFFFD" || f.Raw != "a\uFFFDb" {
		t.Errorf("got %q and %q", f.Value, f.Raw)
	}
}

// Every rule of a batch has an error that names the field and the row.
func TestDecodeBatchRefuses(t *testing.T) {
	rows := func(n int) *flow.Batch {
		b := new(flow.Batch)
		for range 5 {
			b.AddFlow(flow.Tuple{Src: flow.AddrFrom4([4]byte{10, 0, 0, 1}), Dst: flow.AddrFrom4([4]byte{10, 0, 0, 2})})
		}
		for range n {
			b.AddPacket(4, false, 1e18, 60, 0)
		}
		return b
	}
	fp := func(f flow.Fingerprint) *flow.Batch {
		b := rows(2)
		b.Fingerprints = []flow.Fingerprint{{Flow: 4, Row: 2, Event: ja4.Event{Type: 1, Value: "v"}}, f}
		return b
	}
	change := func(b *flow.Batch, f func(b *flow.Batch)) *flow.Batch { f(b); return b }
	for _, tc := range []struct {
		want string
		b    *flow.Batch
	}{
		{"packets.flow[17]: refers to flow 9 of 5", change(rows(20), func(b *flow.Batch) { b.Flow[17] = 9<<1 | 1 })},
		{"packets.flow[0]: refers to flow 5 of 5", change(rows(20), func(b *flow.Batch) { b.Flow[0] = 5 << 1 })},
		{"packets.time_delta_ns: has 2 rows where packets.flow has 3", change(rows(3), func(b *flow.Batch) { b.Time = b.Time[:2] })},
		{"packets.wire_length: has 4 rows where packets.flow has 3", change(rows(3), func(b *flow.Batch) { b.WireLength = append(b.WireLength, 1) })},
		{"packets.tcp_flags: has 1 rows where packets.flow has 3", change(rows(3), func(b *flow.Batch) { b.TCPFlags = b.TCPFlags[:1] })},
		{"packets.run_packets: has 1 rows where packets.flow has 3", change(rows(3), func(b *flow.Batch) { b.RunPackets = []uint32{1} })},
		{"packets.run_span_ns: has 0 rows where packets.run_packets has 3", change(rows(3), func(b *flow.Batch) { b.RunPackets = []uint32{1, 1, 1} })},
		{"packets.run_packets[1]: is 0", change(rows(2), func(b *flow.Batch) { b.RunPackets, b.RunSpan = []uint32{1, 0}, []uint64{0, 0} })},
		{"packets.run_span_ns[1]: leaves the years 1970 to 2116", change(rows(2), func(b *flow.Batch) { b.RunPackets, b.RunSpan = []uint32{1, 1}, []uint64{0, 1 << 62} })},
		{"packets.time_delta_ns[1]: leaves the years 1970 to 2116", change(rows(2), func(b *flow.Batch) { b.Time[1] = -1 })},
		{"packets.time_delta_ns[1]: leaves the years 1970 to 2116", change(rows(2), func(b *flow.Batch) { b.Time[1] = flow.MaxTime + 1 })},
		{"packets.run_span_ns[1]: leaves the years 1970 to 2116", change(rows(2), func(b *flow.Batch) { b.RunPackets, b.RunSpan = []uint32{1, 1}, []uint64{0, flow.MaxTime - 1e18 + 1} })},
		{"watermark: is not a time from 1970 to 2116", change(rows(1), func(b *flow.Batch) { b.Watermark = -1 })},
		{"fingerprints[1].flow: refers to flow 5 of 5", fp(flow.Fingerprint{Flow: 5, Event: ja4.Event{Type: 1, Value: "v"}})},
		{"fingerprints[1].row: refers to row 3 of 2", fp(flow.Fingerprint{Flow: 4, Row: 3, Event: ja4.Event{Type: 1, Value: "v"}})},
		{"fingerprints[1].row: is a row of flow 4, not of flow 3", fp(flow.Fingerprint{Flow: 3, Row: 1, Event: ja4.Event{Type: 1, Value: "v"}})},
		{"fingerprints[1].type: 14 is not a fingerprint type", fp(flow.Fingerprint{Event: ja4.Event{Type: 14, Value: "v"}})},
		{"fingerprints[1].value: is empty", fp(flow.Fingerprint{Event: ja4.Event{Type: 1}})},
		{"fingerprints[1].value: has 256 bytes, at most 255", fp(flow.Fingerprint{Event: ja4.Event{Type: 1, Value: strings.Repeat("v", 256)}})},
		{"fingerprints[1].raw: has 8193 bytes, at most 8192", fp(flow.Fingerprint{Event: ja4.Event{Type: 1, Value: "v", Raw: strings.Repeat("v", 8193)}})},
		{"fingerprints[1].server_name: has 256 bytes, at most 255", fp(flow.Fingerprint{Event: ja4.Event{Type: 1, Value: "v", ServerName: strings.Repeat("v", 256)}})},
		{"lost: stands beside 2 rows and 0 fingerprints", change(rows(2), func(b *flow.Batch) { b.Lost = &flow.Lost{FirstSequence: 1, LastSequence: 1} })},
		{"lost.first_sequence: is 0", &flow.Batch{Lost: &flow.Lost{LastSequence: 1}}},
		{"lost.last_sequence: 4 is before first_sequence 5", &flow.Batch{Lost: &flow.Lost{FirstSequence: 5, LastSequence: 4}}},
		{"lost: 1125899906842625 packets and 0 bytes are more than 1125899906842624", &flow.Batch{Lost: &flow.Lost{FirstSequence: 5, LastSequence: 5, Packets: 1<<50 + 1}}},
		{"lost.reason: has 65 bytes, at most 64", &flow.Batch{Lost: &flow.Lost{FirstSequence: 5, LastSequence: 5, Reason: strings.Repeat("r", 65)}}},
	} {
		t.Run(tc.want, func(t *testing.T) {
			for name, err := range map[string]error{
				"decode": DecodeBatch(AppendBatch(nil, tc.b), new(flow.Batch)), "check": CheckBatch(tc.b),
			} {
				var bad *MalformedError
				if !errors.As(err, &bad) || err.Error() != tc.want {
					t.Errorf("%s: got %v, want a MalformedError: %s", name, err, tc.want)
				}
			}
		})
	}
}

// What cannot be said with a Batch in memory is refused on the wire.
func TestDecodeBatchRefusesBytes(t *testing.T) {
	packed := func(num protowire.Number, p ...byte) []byte { return appendString(nil, uint64(num), p) }
	packets := func(p ...byte) []byte { return packed(5, p...) }
	for _, tc := range []struct {
		want string
		p    []byte
	}{
		{"batch: is not valid protobuf", []byte{0x0a}},
		{"batch: is not valid protobuf", []byte{0x08, 0x80}},
		{"batch: is not valid protobuf", []byte{0x07, 0x00}},
		{"batch: is not valid protobuf", []byte("\x80\xe2\xcf\xaa\x30\x30")},
		{"ipv4_flows: has 12 bytes, not a multiple of 13", packed(3, make([]byte, 12)...)},
		{"ipv6_flows: has 36 bytes, not a multiple of 37", packed(4, make([]byte, 36)...)},
		{"ipv4_flows: makes 65537 flows, at most 65536", packed(3, make([]byte, 65537*13)...)},
		{"base_time: is not valid protobuf", packed(2, 0x08)},
		{"base_time: is not a time from 1970 to 2116", packed(2, append([]byte{0x10}, protowire.AppendVarint(nil, 1e9)...)...)},
		{"packets: is not valid protobuf", packets(0xff)},
		{"packets.flow: is not valid protobuf", packets(packed(1, 0x80)...)},
		{"packets.flow: is not valid protobuf", packets(packed(1, bytes.Repeat([]byte{0xff}, 10)...)...)},
		{"packets.flow: is not valid protobuf", packets(packed(1, append(bytes.Repeat([]byte{0xff}, 10), 1)...)...)},
		{"packets.flow: has more than 65536 rows", packets(packed(1, make([]byte, 65537)...)...)},
		{"packets.flow: has more than 65536 rows", bytes.Repeat(packets(packed(1, make([]byte, 40000)...)...), 2)},
		{"packets.time_delta_ns: has more than 65536 rows", bytes.Repeat(packets(packed(2, make([]byte, 40000)...)...), 2)},
		{"packets.wire_length: has more than 65536 rows", append(packets(packed(3, make([]byte, 65536)...)...), packets(3<<3, 1)...)},
		{"packets.time_delta_ns: has more than 65536 rows", packets(packed(2, make([]byte, 65537)...)...)},
		{"packets.tcp_flags: has 65537 rows where packets.flow has 0", packets(packed(4, make([]byte, 100000)...)...)},
		{"packets.shape: stands beside wire_length or tcp_flags", packets(slices.Concat(packed(7, 0), packed(8, 60), packed(3, 60))...)},
		{"packets.shape: stands beside wire_length or tcp_flags", packets(slices.Concat(packed(4, 0), packed(7, 0), packed(8, 60))...)},
		{"packets.shape[1]: refers to shape 1 of 1", packets(slices.Concat(packed(7, 0, 1), packed(8, 60))...)},
		{"packets.shape_flags: has 2 shapes where packets.shape_length has 1", packets(slices.Concat(packed(7, 0), packed(8, 60), packed(9, 0, 0))...)},
		{"packets.shape: has more than 65536 rows", packets(packed(7, make([]byte, 65537)...)...)},
		{"packets.shape_length: has more than 65536 rows", packets(packed(8, make([]byte, 65537)...)...)},
		{"fingerprints[1].like: refers to element 1, want an earlier one", append(packed(6, 0x18, 1, 0x22, 1, 'v'), packed(6, 0x38, 2)...)},
		{"fingerprints[1].like: stands beside type, value or raw", append(packed(6, 0x18, 1, 0x22, 1, 'v'), packed(6, 0x18, 1, 0x38, 1)...)},
		{"fingerprints[0]: is not valid protobuf", packed(6, 0x0a)},
		{"fingerprints[0].value: is not valid UTF-8", packed(6, 0x18, 1, 0x22, 1, 0xff)},
		{"lost.reason: is not valid UTF-8", packed(8, 0x2a, 1, 0xff)},
		{"fingerprints: has more than 16384 elements", bytes.Repeat(packed(6, 0x18, 1, 0x22, 1, 'v'), 16385)},
	} {
		t.Run(tc.want, func(t *testing.T) {
			if err := DecodeBatch(tc.p, new(flow.Batch)); err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// The rules of protobuf hold where they are odd: unpacked columns, columns in
// parts, repeated and merged messages, unknown fields, any order.
func TestDecodeBatchTakesEveryForm(t *testing.T) {
	flowsOf := appendString(nil, 3, make([]byte, 26))
	row := func(ref, delta, length, flags byte) []byte {
		p := []byte{1 << 3, ref}                // unpacked
		p = append(p, 2<<3|2, 1, delta)         // packed
		p = append(p, 3<<3, length)             // unpacked
		p = append(p, 15<<3, 7, 1<<3|5)         // unknown; a known number with another type
		p = append(p, 1, 2, 3, 4)               // … and its four bytes
		return append(p, 4<<3|2, 2, 0x10, 0x02) // the last flags count
	}
	p := appendString(nil, 5, row(2, 6, 60, 0))
	p = append(p, appendString(nil, 5, row(1, 1, 61, 0))...)
	p = append(p, 1<<3, 5, 1<<3, 6) // the last sequence counts
	p = append(p, flowsOf...)
	p = append(p, 2<<3|2, 2, 1<<3, 9, 2<<3|2, 2, 2<<3, 8) // base time in two parts

	want, err := batchOf(p)
	if err != nil {
		t.Fatal(err)
	}
	got := new(flow.Batch)
	if err := DecodeBatch(p, got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || got.Rows() != 2 || got.Time[1] != 9_000_000_010 {
		t.Errorf("%d rows, times %v (-want +got):\n%s", got.Rows(), got.Time, diff)
	}
}

// Rows of few shapes take one byte for length and flags, and a fingerprint that
// was there before takes none for its text.
func TestBatchSaysTwiceNothing(t *testing.T) {
	const rows, prints = 1000, 100
	b := new(flow.Batch)
	b.AddFlow(flow.Tuple{Src: flow.AddrFrom4([4]byte{10, 0, 0, 1}), Dst: flow.AddrFrom4([4]byte{10, 0, 0, 2})})
	for i := range rows {
		b.AddPacket(0, i%2 == 0, 1e18+int64(i), 1514-uint32(i%30), flow.ACK)
	}
	text := strings.Repeat("0123456789abcdef", 10)
	for range prints {
		b.Fingerprints = append(b.Fingerprints, flow.Fingerprint{Event: ja4.Event{Type: ja4.TypeJA4, Value: text, Raw: text}})
	}
	p := AppendBatch(nil, b)
	// Reference, time and shape take a byte each, a fingerprint one for each of
	// like, its tag and those of the message.
	if most := 3*rows + 4*prints + 800; len(p) > most {
		t.Errorf("%d bytes, want at most %d", len(p), most)
	}
	got := new(flow.Batch)
	if err := DecodeBatch(p, got); err != nil || !equalBatches(b, got) {
		t.Errorf("decoded another batch than was encoded: %v", err)
	}
}

// Without flags all are 0, with shapes as without.
func TestDecodeBatchWithoutFlags(t *testing.T) {
	for name, columns := range map[string][]byte{
		"plain":  appendString(nil, 3, []byte{60, 61}),
		"shapes": append(appendString(nil, 7, []byte{1, 0}), appendString(nil, 8, []byte{61, 60})...),
	} {
		p := appendString(nil, 3, make([]byte, 13))
		p = append(p, appendString(nil, 5, append([]byte{1<<3 | 2, 2, 0, 0, 2<<3 | 2, 2, 0, 0}, columns...))...)
		got := &flow.Batch{TCPFlags: []byte{9, 9}}
		if err := DecodeBatch(p, got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(got.WireLength, []uint32{60, 61}) || !slices.Equal(got.TCPFlags, []byte{0, 0}) {
			t.Errorf("%s: lengths %v, flags %v", name, got.WireLength, got.TCPFlags)
		}
	}
}

func FuzzDecodeBatch(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 8 {
		f.Add(AppendBatch(nil, randomBatch(r, i*3, i%2 == 0)))
	}
	f.Add(AppendBatch(nil, &flow.Batch{Sequence: 9, Lost: &flow.Lost{FirstSequence: 1, LastSequence: 9, Reason: "shutdown"}}))
	f.Add([]byte("\x80\xe2\xcf\xaa\x30\x30")) // a field number that is too large
	got := new(flow.Batch)
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzguard.Watch(t)
		want, wantErr := batchOf(p)
		err := DecodeBatch(p, got)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("got error %v, the reference %v", err, wantErr)
		}
		if err != nil {
			if bad := new(MalformedError); !errors.As(err, &bad) || bad.Field == "" {
				t.Fatalf("error %v names no field", err)
			}
			return
		}
		if !equalBatches(want, got) {
			t.Fatalf("(-want +got):\n%s", cmp.Diff(want, got, cmpopts.EquateEmpty()))
		}
		if err := CheckBatch(got); err != nil {
			t.Fatalf("decoded a batch that CheckBatch refuses: %v", err)
		}
		again := new(flow.Batch)
		if err := DecodeBatch(AppendBatch(nil, got), again); err != nil {
			t.Fatalf("encoded again: %v", err)
		}
		if want := inWireOrder(got); !equalBatches(want, again) {
			t.Fatalf("encoded again (-want +got):\n%s", cmp.Diff(want, again, cmpopts.EquateEmpty()))
		}
	})
}

// Neither way allocates once the memory is there.
func TestBatchDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget")
	}
	r := rand.New(rand.NewPCG(7, 8))
	for _, sorted := range []bool{true, false} {
		b := randomBatch(r, 4000, sorted)
		b.Fingerprints = nil
		p := AppendBatch(nil, b)
		buf := make([]byte, 0, 4*len(p))
		got := new(flow.Batch)
		if n := testing.AllocsPerRun(20, func() { buf = AppendBatch(buf[:0], b) }); n > 0 {
			t.Errorf("sorted %v: AppendBatch: %v allocations", sorted, n)
		}
		if n := testing.AllocsPerRun(20, func() {
			if err := DecodeBatch(p, got); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("sorted %v: DecodeBatch: %v allocations", sorted, n)
		}
	}
}

// Bytes that promise much and hold little make no large batch.
func TestDecodeBatchAllocatesWithinItsLimits(t *testing.T) {
	p := appendString(nil, 5, append([]byte{1<<3 | 2}, protowire.AppendVarint(nil, 1<<40)...))
	b := new(flow.Batch)
	if err := DecodeBatch(p, b); err == nil || cap(b.Flow) > 0 {
		t.Errorf("error %v, capacity %d", err, cap(b.Flow))
	}
}

// Every width of a varint, at the end of its column and before it.
func TestVarintsOfEveryWidth(t *testing.T) {
	var values []uint64
	for bit := range 64 {
		values = append(values, 1<<bit-1, 1<<bit, 1<<bit|0x55)
	}
	values = append(values, 1<<64-1)
	for n := range values {
		want := append(values[n:len(values):len(values)], values[:n]...)
		var plain []byte
		for _, v := range want {
			plain = protowire.AppendVarint(plain, v)
		}
		p := appendPacked(nil, 6, want)
		if want := appendString(nil, 6, plain); !bytes.Equal(p, want) {
			t.Fatalf("from %d: encoded as\n%x, want\n%x", n, p, want)
		}
		got, problem := appendColumn([]uint64(nil), plain)
		if problem != columnFine || !slices.Equal(got, want) {
			t.Fatalf("from %d: decoded as %x, want %x", n, got, want)
		}
	}
}

// Times before 1970 have nanoseconds above the second too.
func TestTimestampsAreTheGeneratedCode(t *testing.T) {
	for _, ns := range []int64{0, 1, -1, 1e9, -1e9, 1e9 - 1, -1e9 - 1, testTime, -testTime, 1<<63 - 1, -1 << 63} {
		want := appendString(nil, 9, mustMarshal(timestampOf(ns)))
		if len(want) == 0 {
			want = []byte{9<<3 | 2, 0}
		}
		if got := appendTime(nil, 9, ns); !bytes.Equal(got, want) {
			t.Errorf("%d: got %x, want %x", ns, got, want)
		}
		if got, ok := unixTime(want[2:]); !ok || got != ns {
			t.Errorf("%d: read as %d", ns, got)
		}
	}
}

func TestSplitIngest(t *testing.T) {
	b := &flow.Batch{Sequence: 77}
	encoded := AppendBatch(nil, b)
	framed := append(AppendIngestHeader(nil, len(encoded)), encoded...)
	hello := mustMarshal(&whorlv1.IngestRequest{Message: &whorlv1.IngestRequest_Hello{Hello: &whorlv1.Hello{ProbeId: "p"}}})
	for _, tc := range []struct {
		name  string
		p     []byte
		batch []byte
		hello bool
		bad   bool
	}{
		{name: "a batch", p: framed, batch: encoded},
		{name: "an empty batch", p: []byte{0x12, 0}, batch: []byte{}},
		{name: "a batch behind a hello", p: append(bytes.Clone(hello), framed...), batch: encoded},
		{name: "a batch in two parts", p: append([]byte{0x12, 2, 1 << 3, 5}, framed...), batch: encoded},
		{name: "a hello", p: hello, hello: true},
		{name: "a hello behind a batch", p: append(bytes.Clone(framed), hello...), hello: true},
		{name: "nothing"},
		{name: "a cut batch", p: framed[:len(framed)-1], bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			batch, other, err := SplitIngest(tc.p)
			if (err != nil) != tc.bad || !bytes.Equal(batch, tc.batch) || (batch != nil) != (tc.batch != nil) {
				t.Fatalf("got batch %x, error %v", batch, err)
			}
			if err == nil && batch == nil && (other.GetHello() != nil) != tc.hello {
				t.Errorf("got %v", other)
			}
		})
	}
}

func BenchmarkBatch(b *testing.B) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, rows := range []int{1000, 4000} {
		batch := randomBatch(r, rows, true)
		batch.RunPackets, batch.RunSpan = nil, nil
		batch.Fingerprints = batch.Fingerprints[:rows/100]
		p := AppendBatch(nil, batch)
		buf := make([]byte, 0, 4*len(p))
		perRow := func(b *testing.B) {
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(rows), "ns/row")
			b.ReportMetric(float64(len(p))/float64(rows), "B/row")
		}
		b.Run(fmt.Sprintf("append/rows=%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendBatch(buf[:0], batch)
			}
			perRow(b)
		})
		b.Run(fmt.Sprintf("decode/rows=%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			got := new(flow.Batch)
			for b.Loop() {
				if err := DecodeBatch(p, got); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
		b.Run(fmt.Sprintf("generated/rows=%d", rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := batchOf(p); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
	}
}
