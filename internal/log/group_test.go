package log

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

// someRecords makes n records from position first on, of every kind and with and
// without sessions and data.
func someRecords(rnd *rand.Rand, first Position, n int) []Record {
	sessions := []Session{
		{}, {Probe: "edge", Network: "lab", ID: [16]byte{1, 15: 2}, Live: true},
		{Probe: "edge", Network: "lab", ID: [16]byte{2}}, {Network: "default"},
	}
	at := int64(1_700_000_000_000_000_000)
	records := make([]Record, n)
	for i := range records {
		at += rnd.Int64N(1e9)
		records[i] = Record{
			Position: first + Position(i), LogTime: at, Kind: Kind(1 + rnd.IntN(int(KindForget))), Session: sessions[rnd.IntN(len(sessions))],
		}
		if size := rnd.IntN(2000); size > 500 {
			data := make([]byte, size)
			for k := range data {
				data[k] = byte(rnd.IntN(1 + i%256))
			}
			records[i].Data = data
		}
	}
	return records
}

// firstDifference returns the first record in which a and b differ, -1 for none.
func firstDifference(a, b []Record) int {
	for i := range max(len(a), len(b)) {
		if i >= len(a) || i >= len(b) {
			return i
		}
		r, s := &a[i], &b[i]
		if r.Position != s.Position || r.LogTime != s.LogTime || r.Kind != s.Kind || r.Session != s.Session || !bytes.Equal(r.Data, s.Data) {
			return i
		}
	}
	return -1
}

// A group says what went into it, whether it can be compressed or not.
func TestGroupRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var e groupEncoder
	for _, n := range []int{1, 2, 300, 1} {
		want := someRecords(rnd, 17, n)
		group, raw := e.encode(want)
		info, err := readGroupInfo(group)
		if err != nil || info.first != 17 || info.count != n || info.raw != raw || info.logTime != want[n-1].LogTime {
			t.Fatalf("header of %d records: %+v, %v", n, info, err)
		}
		got, err := decodeGroup(group, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i := firstDifference(want, got); i >= 0 {
			t.Errorf("record %d of %d and %d differs", i, len(want), len(got))
		}
	}
}

// Whatever bit of a group flips, and wherever it is cut, it is refused.
func TestDamagedGroupIsRefused(t *testing.T) {
	var e groupEncoder
	good, _ := e.encode(someRecords(rand.New(rand.NewPCG(3, 4)), 5, 4))
	good = bytes.Clone(good)
	for bit := range 8 * len(good) {
		p := bytes.Clone(good)
		p[bit/8] ^= 1 << (bit % 8)
		if _, err := decodeGroup(p, nil); err == nil {
			t.Fatalf("bit %d: no error", bit)
		}
	}
	for n := range good {
		if _, err := decodeGroup(good[:n], nil); !errors.Is(err, errGroup) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	newer := bytes.Clone(good)
	newer[4]++
	binary.LittleEndian.PutUint32(newer[32:], groupSum(newer))
	if _, err := decodeGroup(newer, nil); err == nil || errors.Is(err, errGroup) {
		t.Errorf("a newer version: %v, want an error that it is one, not damage", err)
	}
}

// decodeGroup takes any bytes, and what it accepts is encoded to the same records
// again. The checksum is made right, so that the rest is looked at.
func FuzzDecodeGroup(f *testing.F) {
	var e groupEncoder
	rnd := rand.New(rand.NewPCG(5, 6))
	for _, n := range []int{1, 3, 20} {
		records := someRecords(rnd, 1, n)
		group, _ := e.encode(records)
		f.Add(bytes.Clone(group))
		withBatches(rnd, records)
		new(Stored).pack(records)
		group, _ = e.encode(records)
		f.Add(bytes.Clone(group))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		fuzzguard.Watch(t)
		if len(p) >= groupHeader {
			p = bytes.Clone(p)
			binary.LittleEndian.PutUint32(p[32:], groupSum(p))
		}
		records, err := decodeGroup(p, nil)
		if err != nil {
			return
		}
		var e groupEncoder
		again, _ := e.encode(records)
		back, err := decodeGroup(again, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i := firstDifference(records, back); i >= 0 {
			t.Fatalf("record %d of %d and %d differs", i, len(records), len(back))
		}
	})
}

// An index finds each record where it is, also when it is too full to know exactly,
// and forgets what is trimmed.
func TestIndex(t *testing.T) {
	var x index
	const n = 3*maxPlaces + 11
	for i := range uint64(n) {
		x.add(place{first: Position(2*i + 1), last: Position(2*i + 2), from: i + 1, to: i + 1, bytes: 10})
	}
	if len(x.places) > maxPlaces || x.bytes != 10*n || x.newest != n {
		t.Fatalf("%d places, %d bytes, newest %d", len(x.places), x.bytes, x.newest)
	}
	for p := Position(1); p <= 2*n; p += 97 {
		number := (uint64(p) + 1) / 2
		if got, ok := x.find(p); !ok || got.from > number || got.to < number || got.first > p || got.last < p {
			t.Fatalf("record %d: %+v, %v", p, got, ok)
		}
	}
	if _, ok := x.find(2*n + 1); ok {
		t.Error("found what is not there")
	}
	if !x.trim(n) || x.trim(n) || x.gone > n/2 || x.oldest(0) > n+1 {
		t.Errorf("after a trim up to %d: messages up to %d are gone, the oldest record is %d", n, x.gone, x.oldest(0))
	}
	if x.trim(2 * n); x.bytes != 0 || x.gone != n || x.oldest(7) != 7 {
		t.Errorf("all trimmed: %+v", x)
	}
}

func BenchmarkEncodeGroup(b *testing.B) {
	var e groupEncoder
	records := someRecords(rand.New(rand.NewPCG(1, 1)), 1, 256)
	b.ReportAllocs()
	_, raw := e.encode(records)
	b.SetBytes(int64(raw))
	for b.Loop() {
		e.encode(records)
	}
}
