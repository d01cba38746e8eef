package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const testEpoch = "0123456789ab"

var begun = time.Unix(1_700_000_000, 0)

func folder(t testing.TB, path string) *Folder {
	t.Helper()
	f, err := Open(path, testEpoch)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// someBlocks are a round: small and large blocks, some that can be packed.
func someBlocks(seed uint64) []Block {
	r := rand.New(rand.NewPCG(seed, 1))
	noise := make([]byte, 70_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	return []Block{
		{Kind: KindHead, Position: 10, Data: []byte("head")},
		{Kind: KindShard, Index: 0, Position: 11, Data: halfNoise(noise)},
		{Kind: KindShard, Index: 1, Position: 12, Data: noise},
		{Kind: KindShard, Index: 2, Position: 17, Data: nil},
		{Kind: KindAnalyst, Position: 20, Data: bytes.Repeat([]byte("fingerprint "), 5_000)},
	}
}

// halfNoise is what packs to about half: noise with a text after every byte.
func halfNoise(noise []byte) []byte {
	var out []byte
	for i := 0; i < len(noise); i += 64 {
		out = append(append(out, noise[i:i+min(64, len(noise)-i)]...), "-------- the same text each time -------------------------------"...)
	}
	return out
}

func write(t testing.TB, f *Folder, blocks []Block, s Summary) Summary {
	t.Helper()
	w, err := f.Begin(begun)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, b := range blocks {
		if err := w.Add(b); err != nil {
			t.Fatal(err)
		}
	}
	s, err = w.Commit(s)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var someSummary = Summary{Oldest: 10, Newest: 20, FeedSequence: 99, Connections: 3, Completed: time.Unix(1_700_000_001, 5)}

// A round gives back what was written, also after the folder was opened anew.
func TestRoundComesBack(t *testing.T) {
	path := t.TempDir()
	want := someBlocks(1)
	wrote := write(t, folder(t, path), want, someSummary)
	f := folder(t, path)
	if got := f.Rounds(); !slices.Equal(got, []uint64{1}) {
		t.Fatalf("rounds %v, want 1", got)
	}
	verified, err := f.Verify(1)
	if err != nil {
		t.Fatal(err)
	}
	var got []Block
	s, err := f.Load(1, func(b Block) error {
		b.Data = bytes.Clone(b.Data)
		got = append(got, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if s != verified || s != wrote || s.FeedSequence != 99 || s.Number != 1 || !s.Completed.Equal(someSummary.Completed) {
		t.Errorf("summary %+v, verified %+v, wrote %+v", s, verified, wrote)
	}
	if len(got) != len(want) {
		t.Fatalf("%d blocks, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i].Kind != want[i].Kind || got[i].Index != want[i].Index || got[i].Position != want[i].Position || !bytes.Equal(got[i].Data, want[i].Data) {
			t.Errorf("block %d differs: kind %d index %d position %d, %d bytes", i, got[i].Kind, got[i].Index, got[i].Position, len(got[i].Data))
		}
	}
	raw := int64(0)
	for _, b := range want {
		raw += int64(len(b.Data))
	}
	if s.Bytes >= raw*4/5 {
		t.Errorf("the round has %d bytes for %d: nothing was packed", s.Bytes, raw)
	}
}

// The newest two rounds are kept, and numbers go on rising.
func TestTwoRoundsAreKept(t *testing.T) {
	path := t.TempDir()
	for n := uint64(1); n <= 4; n++ {
		f := folder(t, path)
		if s := write(t, f, someBlocks(n), someSummary); s.Number != n {
			t.Errorf("round %d got number %d", n, s.Number)
		}
		want := []uint64{n, n - 1}
		if n == 1 {
			want = want[:1]
		}
		if got := f.Rounds(); !slices.Equal(got, want) {
			t.Errorf("rounds %v, want %v", got, want)
		}
		if got := folder(t, path).Rounds(); !slices.Equal(got, want) {
			t.Errorf("rounds on disk %v, want %v", got, want)
		}
	}
}

// A round that was not committed leaves nothing, whether it was given up or the
// process died.
func TestUnfinishedRoundLeavesNothing(t *testing.T) {
	path := t.TempDir()
	f := folder(t, path)
	w, err := f.Begin(begun)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(someBlocks(1)[0]); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	if w, err = f.Begin(begun); err != nil { // never ended: as after kill -9
		t.Fatal(err)
	}
	defer w.Abort()
	if got := folder(t, path).Rounds(); len(got) != 0 {
		t.Errorf("rounds %v, want none", got)
	}
	if entries, _ := os.ReadDir(path); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

// Whatever byte of a round changes, and wherever it is cut, it is refused, with
// the file and the place.
func TestDamageIsFound(t *testing.T) {
	path := t.TempDir()
	blocks := someBlocks(1)
	blocks[1].Data, blocks[2].Data, blocks[4].Data = blocks[1].Data[:300], blocks[2].Data[:100], bytes.Repeat([]byte("ab"), 3000)
	write(t, folder(t, path), blocks, someSummary)
	file := filepath.Join(path, "00000001.whorl")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := folder(t, path).Verify(1)
		if !errors.Is(err, ErrDamaged) {
			t.Fatalf("%s: %v", what, err)
		}
		if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "at byte") {
			t.Fatalf("%s: %q names no place", what, err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		check(fmt.Sprintf("byte %d changed", i), bad)
		check(fmt.Sprintf("cut at byte %d", i), good[:i])
	}
	check("longer", append(bytes.Clone(good), 0))
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := folder(t, path).Verify(1); err != nil {
		t.Errorf("the good round: %v", err)
	}
	if other, _ := Open(path, "ba9876543210"); other != nil {
		if _, err := other.Verify(1); !errors.Is(err, ErrDamaged) {
			t.Errorf("a round of another epoch: %v", err)
		}
	}
	os.Rename(file, filepath.Join(path, "00000002.whorl"))
	if _, err := folder(t, path).Verify(2); !errors.Is(err, ErrDamaged) {
		t.Errorf("a round under another name: %v", err)
	}
}

// A round that is set aside is not looked at again, its number is not used
// again, and it does not count among those that are kept.
func TestRoundSetAside(t *testing.T) {
	path := t.TempDir()
	f := folder(t, path)
	write(t, f, someBlocks(1), someSummary)
	write(t, f, someBlocks(2), someSummary)
	if err := f.SetAside(2); err != nil {
		t.Fatal(err)
	}
	f = folder(t, path)
	if got := f.Rounds(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("rounds %v, want 1", got)
	}
	if s := write(t, f, someBlocks(3), someSummary); s.Number != 3 {
		t.Errorf("the next round has number %d, want 3", s.Number)
	}
	if got := folder(t, path).Rounds(); !slices.Equal(got, []uint64{3, 1}) {
		t.Errorf("rounds %v, want 3 and 1", got)
	}
}

// The error of who takes the blocks comes back as it is.
func TestTakerEndsLoad(t *testing.T) {
	path := t.TempDir()
	f := folder(t, path)
	write(t, f, someBlocks(1), someSummary)
	mine := errors.New("mine")
	if _, err := f.Load(1, func(Block) error { return mine }); !errors.Is(err, mine) || errors.Is(err, ErrDamaged) {
		t.Errorf("load: %v", err)
	}
}

// What cannot be written fails, and the round before it stays.
func TestFailedRoundKeepsTheOneBefore(t *testing.T) {
	path := t.TempDir()
	f := folder(t, path)
	write(t, f, someBlocks(1), someSummary)
	w, err := f.Begin(begun)
	if err != nil {
		t.Fatal(err)
	}
	w.file.Close() // every write fails from now on
	for range 4 {
		w.Add(someBlocks(2)[2])
	}
	if _, err := w.Commit(someSummary); err == nil {
		t.Fatal("a round was committed without a file")
	}
	w.Abort()
	if got := folder(t, path).Rounds(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("rounds %v, want 1", got)
	}
	if err := w.Add(Block{Kind: 77}); err == nil {
		t.Error("a block of no kind was taken")
	}
}

// A reader never panics, and takes no more memory than the file can fill.
func FuzzRead(f *testing.F) {
	path := f.TempDir()
	small := []Block{{Kind: KindHead, Position: 1, Data: []byte("x")}, {Kind: KindShard, Position: 2, Data: bytes.Repeat([]byte("ab"), 4000)}}
	write(f, folder(f, path), small, Summary{Oldest: 1, Newest: 2})
	good, err := os.ReadFile(filepath.Join(path, "00000001.whorl"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksums are made to fit, so that what is behind them is reached.
		data = mend(bytes.Clone(data))
		r := &reader{in: bytes.NewReader(data), size: int64(len(data))}
		_, err := r.round(testEpoch, 1, func(h *blockHeader, stored []byte) error {
			if int(h.stored) != len(stored) {
				t.Errorf("%d bytes, want %d", len(stored), h.stored)
			}
			got, err := unpack(h, stored, nil)
			if err == nil && uint64(len(got)) != h.unpacked {
				t.Errorf("unpacked %d bytes, want %d", len(got), h.unpacked)
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("error %v", err)
		}
	})
}

// A round counts only when the file system still takes changes behind its syncs:
// until then there is none, the one before it stays, and the next has its number.
func TestSyncIsNotBelievedAlone(t *testing.T) {
	path := t.TempDir()
	f := folder(t, path)
	write(t, f, someBlocks(1), someSummary)
	believe, readOnly := f.believe, errors.New("read-only file system")
	f.believe = func() error { return readOnly }
	w, err := f.Begin(begun)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(someBlocks(2)[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(someSummary); !errors.Is(err, readOnly) {
		t.Fatalf("a round was committed that may be nowhere: %v", err)
	}
	w.Abort()
	if got := folder(t, path).Rounds(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("rounds %v, want 1", got)
	}
	f.believe = believe
	write(t, f, someBlocks(2), someSummary)
	if got := folder(t, path).Rounds(); !slices.Equal(got, []uint64{2, 1}) {
		t.Errorf("rounds %v, want 2, 1", got)
	}
}
