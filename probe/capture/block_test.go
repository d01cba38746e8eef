package capture

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
)

// told is all that a file says, in order: packets with their bytes, secrets,
// the error in the end and the counters.
func told(t testing.TB, data []byte, next func(f *File) ([]Packet, error)) (all []string) {
	t.Helper()
	f, err := Read("test", bytes.NewReader(data))
	if err != nil {
		return []string{err.Error()}
	}
	f.OnSecrets = func(kind uint32, data []byte) { all = append(all, fmt.Sprintf("secrets %d %q", kind, data)) }
	for {
		ps, err := next(f)
		for _, p := range ps {
			all = append(all, fmt.Sprintf("%+v", p))
		}
		if err != nil {
			return append(all, fmt.Sprintf("%v %+v", err, f.Stats()))
		}
		if len(all) > 1<<20 {
			t.Skip("a bomb")
		}
	}
}

func oneByOne(f *File) ([]Packet, error) {
	ps := make([]Packet, 1)
	if err := f.Next(&ps[0]); err != nil {
		return nil, err
	}
	return ps, nil
}

// inBlocks returns a reader of blocks of up to most packets, now and then with a
// single packet between them.
func inBlocks(most int) func(f *File) ([]Packet, error) {
	r := rand.New(rand.NewPCG(uint64(most), 1))
	return func(f *File) ([]Packet, error) {
		if r.IntN(8) == 0 {
			return oneByOne(f)
		}
		ps := make([]Packet, 1+r.IntN(most))
		n, err := f.NextBlock(ps)
		if (n == 0) == (err == nil) {
			panic(fmt.Sprintf("%d packets and the error %v", n, err))
		}
		return ps[:n], err
	}
}

// Packets lent in blocks are those lent one by one, with the same error behind
// them, the same counters, and secrets at the same place among them.
func TestBlocksAreThePackets(t *testing.T) {
	files := fuzzSeeds(t)
	for _, format := range []Format{PCAP, PCAPNano, PCAPNG} {
		files = append(files, manyPackets(t, format, 1000, 100))
	}
	whole := files[len(files)-1]
	files = append(files, whole[:len(whole)-7], // cut
		slices.Concat(whole[:len(whole)/2/4*4], []byte{6, 0, 0, 0, 13, 0, 0, 0}, whole[len(whole)/2/4*4:]))
	two := new(builder).section(little).iface(1).iface(0)
	for i := range 100 {
		two.enhanced(uint32(i%2), uint64(i), 9, "abc")
		if i%10 == 9 {
			two.block(blockSecrets, SecretsTLSKeyLog, uint32(3), "key").block(77, "unknown.")
		}
	}
	files = append(files, two.Bytes(), two.enhanced(2, 1, 3, "abc").Bytes())
	odd := pcap(big, magicMicro, 1)
	for i := range 100 {
		odd.record(uint32(i), uint32(i), 3, uint32(i%7), "abc")
	}
	files = append(files, odd.Bytes())
	for i, file := range files {
		want := told(t, file, oneByOne)
		for _, most := range []int{1, 2, 32, 5000} {
			if got := told(t, file, inBlocks(most)); !slices.Equal(got, want) {
				t.Errorf("file %d in blocks of %d: %d lines instead of %d, the last\n%v\nwant\n%v", i, most, len(got), len(want), got[len(got)-1], want[len(want)-1])
			}
		}
	}
}

// A file in memory is lent in blocks that are as full as can be, a stream too.
func TestBlocksAreFull(t *testing.T) {
	data := manyPackets(t, PCAP, 1000, 20)
	f, err := Read("test", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	ps := make([]Packet, 32)
	if n, err := f.NextBlock(ps); n != 32 || err != nil {
		t.Errorf("a file lends %d packets, %v, want 32", n, err)
	}
	if f, err = Read("test", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	s := NewStream(f)
	defer s.Close()
	most, all := 0, 0
	for {
		n, err := s.NextBlock(ps)
		if err == ErrIdle {
			continue
		}
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		most, all = max(most, n), all+n
	}
	if most != 32 || all != 1000 {
		t.Errorf("a stream lends %d packets, %d at a time; want 1000, 32", all, most)
	}
}

// NextBlock does not wait for a second packet when there is one.
func TestBlockDoesNotWait(t *testing.T) {
	data := manyPackets(t, PCAPNG, 3, 20)
	r, w := io.Pipe()
	defer w.Close()
	go w.Write(data[:len(data)-4])
	f, err := Read("test", r)
	if err != nil {
		t.Fatal(err)
	}
	ps := make([]Packet, 32)
	if n, err := f.NextBlock(ps); n < 1 || n > 2 || err != nil {
		t.Errorf("%d packets, %v; want what has come", n, err)
	}
}
