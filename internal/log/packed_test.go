package log

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/whorl-net/whorl/flow"
)

// withBatches gives those of records that are batches a Batch and much Data.
func withBatches(rnd *rand.Rand, records []Record) {
	for i := range records {
		r := &records[i]
		if r.Kind != KindBatch {
			continue
		}
		r.Batch = new(flow.Batch)
		r.Data = make([]byte, rnd.IntN(40<<10))
		for k := range r.Data {
			r.Data[k] = byte(rnd.IntN(1 + i%256))
		}
	}
}

// Records that are compressed by themselves come back as they were, those between
// them too, and nothing of the caller's memory is kept.
func TestPackedRecordsComeBack(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	var e groupEncoder
	l := &Stored{next: 1}
	for _, n := range []int{1, 2, 50, 300} {
		records := someRecords(rnd, 17, n)
		withBatches(rnd, records)
		want := make([]Record, n)
		for i := range records {
			want[i] = records[i]
			want[i].Data = bytes.Clone(records[i].Data)
		}
		lent := make([][]byte, n)
		for i := range records {
			if records[i].Batch != nil {
				lent[i] = records[i].Data
			}
		}
		l.pack(records)
		for _, p := range lent {
			clear(p)
		}
		stored := bodyBytes(records)
		group, raw := e.encode(records)
		if int64(len(group)) > stored+groupHeader+10 {
			t.Errorf("group of %d bytes, announced with %d", len(group), stored)
		}
		info, err := readGroupInfo(group)
		if err != nil || info.count != n || info.raw != raw || int64(raw) > rawBytes(want)+1000 {
			t.Fatalf("header of %d records: %+v, %v", n, info, err)
		}
		got, err := decodeGroup(group, nil)
		if err != nil {
			t.Fatal(err)
		}
		if i := firstDifference(want, got); i >= 0 {
			t.Errorf("record %d of %d and %d differs", i, len(want), len(got))
		}
		l.next = records[n-1].Position + 1 // nothing of them is in memory
		l.unpackLocked(records)
	}
}

// A group that says its records are smaller or larger than they are is refused.
func TestPackedSizesAreChecked(t *testing.T) {
	var e groupEncoder
	l := &Stored{next: 1}
	records := []Record{{Position: 1, LogTime: 5, Kind: KindBatch, Batch: new(flow.Batch), Data: make([]byte, 30000)}}
	l.pack(records)
	good, raw := e.encode(records)
	for _, claimed := range []int{raw - 1, raw + 1, 100, maxRaw, maxRaw + 1} {
		p := bytes.Clone(good)
		binary.LittleEndian.PutUint32(p[28:], uint32(claimed))
		binary.LittleEndian.PutUint32(p[32:], groupSum(p))
		if _, err := decodeGroup(p, nil); err == nil {
			t.Errorf("a body of %d bytes passed for %d", raw, claimed)
		}
	}
}

// What a group is taken for is no less than what it has, however many sessions
// are in it: a group beyond maxRaw could be written and not be read.
func TestRawBytesBoundAGroup(t *testing.T) {
	data := bytes.Repeat([]byte("abcdefgh"), 1000)
	for _, n := range []int{1, 2, 500} {
		records := make([]Record, n)
		for i := range records {
			records[i] = Record{Position: Position(i + 1), Kind: KindBatch, LogTime: math.MaxInt64, Data: data, Batch: &flow.Batch{},
				Session: Session{Probe: fmt.Sprintf("probe-%04d", i), Network: "default", ID: [16]byte{byte(i), byte(i >> 8)}}}
		}
		bound := rawBytes(records)
		var l Stored
		l.pack(records)
		var e groupEncoder
		if _, raw := e.encode(records); int64(raw) > bound {
			t.Errorf("%d sessions: %d bytes, taken for %d", n, raw, bound)
		}
	}
}
