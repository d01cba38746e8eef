package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var owner = Options{Probe: "probe", Network: "lab", Live: true, MaxBytes: MinMaxBytes}

func mustOpen(t testing.TB, dir string, o Options) (*Spool, []Range) {
	t.Helper()
	s, found, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, found
}

// kill drops the lock of s as the end of its process would, and nothing else.
func kill(t testing.TB, s *Spool) {
	t.Helper()
	s.closeOut()
	if err := s.lock.Close(); err != nil {
		t.Fatal(err)
	}
}

func batch(sequence uint64) Record {
	return Record{First: sequence, Last: sequence, Packets: sequence * 10, Bytes: sequence * 1000,
		Body: bytes.Repeat([]byte{byte(sequence)}, 100+int(sequence)%57)}
}

func mustAppend(t testing.TB, s *Spool, records ...Record) []Range {
	t.Helper()
	ranges, err := s.Append(records)
	if err != nil {
		t.Fatal(err)
	}
	return ranges
}

// contents reads everything that ranges hold, a few records at a time.
func contents(t testing.TB, s *Spool, ranges []Range) []Record {
	t.Helper()
	var all []Record
	for _, r := range ranges {
		if r.Lost() {
			all = append(all, Record{First: r.First, Last: r.Last, Packets: r.Packets, Bytes: r.Bytes, Reason: r.Reason})
			continue
		}
		for r.First <= r.Last {
			records, rest, err := s.Read(r, 300)
			if err != nil {
				t.Fatal(err)
			}
			if len(records) == 0 {
				t.Fatalf("nothing was read of %+v", r)
			}
			all, r = append(all, records...), rest
		}
	}
	return all
}

// show is a record in a line.
func show(r Record) string {
	return fmt.Sprintf("%d-%d %dp %dB %q %d", r.First, r.Last, r.Packets, r.Bytes, r.Reason, len(r.Body))
}

func same(t testing.TB, got, want []Record) {
	t.Helper()
	var g, w []string
	for _, r := range got {
		g = append(g, show(r))
	}
	for _, r := range want {
		w = append(w, show(r))
	}
	if strings.Join(g, "\n") != strings.Join(w, "\n") {
		t.Fatalf("got\n  %s\nwant\n  %s", strings.Join(g, "\n  "), strings.Join(w, "\n  "))
	}
	for i := range got {
		if !bytes.Equal(got[i].Body, want[i].Body) {
			t.Fatalf("the body of %s differs", g[i])
		}
	}
}

// What was appended is there after a crash, in order and to the byte, and the
// numbers that may have been used behind it are used by nobody again.
func TestAppendedSurvivesACrash(t *testing.T) {
	dir := t.TempDir()
	s, found := mustOpen(t, dir, owner)
	id, next := s.Session()
	if len(found) != 0 || next != 1 {
		t.Fatalf("a new spool holds %v and begins at %d", found, next)
	}
	var want []Record
	for n := uint64(1); n <= 40; n += 4 {
		group := []Record{batch(n), batch(n + 1), batch(n + 2), batch(n + 3)}
		mustAppend(t, s, group...)
		want = append(want, group...)
	}
	kill(t, s)

	s, found = mustOpen(t, dir, owner)
	again, next := s.Session()
	if again != id || next != minReserve+1 {
		t.Errorf("session %x from %d, want %x from %d", again, next, id, minReserve+1)
	}
	if s.Reserved() < next {
		t.Errorf("number %d is the next, and %d are reserved", next, s.Reserved())
	}
	want = append(want, Record{First: 41, Last: minReserve, Reason: ReasonCrash})
	same(t, contents(t, s, found), want)
	if len(s.Notes()) != 0 {
		t.Errorf("notes %q, want none", s.Notes())
	}
	kill(t, s)
}

// A clean end leaves no hole in the numbers, and an end with nothing to send
// leaves nothing at all.
func TestCleanEnd(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	id, _ := s.Session()
	mustAppend(t, s, batch(1), batch(2), batch(3))
	if err := s.Close(2, 5, []Lost{{First: 4, Last: 4, Packets: 9, Bytes: 99, Reason: "shutdown"}}); err != nil {
		t.Fatal(err)
	}
	s, found := mustOpen(t, dir, owner)
	if again, next := s.Session(); again != id || next != 5 {
		t.Errorf("session %x from %d, want %x from 5", again, next, id)
	}
	same(t, contents(t, s, found), []Record{batch(2), batch(3), {First: 4, Last: 4, Packets: 9, Bytes: 99, Reason: "shutdown"}})
	if err := s.Close(5, 5, nil); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != "lock" {
		t.Errorf("left behind: %v, %v; want the lock alone", left, err)
	}
	s, found = mustOpen(t, dir, Options{Probe: "another", Network: "x", MaxBytes: MinMaxBytes})
	if again, next := s.Session(); again == id || next != 1 || len(found) != 0 {
		t.Errorf("a spool that was emptied goes on with session %x at %d, %v", again, next, found)
	}
	kill(t, s)
}

// Cut anywhere, a segment gives the records before the cut, and the rest of the
// numbers is a Lost range.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	var ends []int64
	for n := uint64(1); n <= 5; n++ {
		mustAppend(t, s, batch(n))
		ends = append(ends, s.Size())
	}
	kill(t, s)
	name := s.name(1)
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	session, err := os.ReadFile(filepath.Join(dir, sessionFile))
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut += 23 {
		for _, garbage := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x00garbage"} {
			if err := errors.Join(os.WriteFile(name, append(whole[:cut:cut], garbage...), 0o600),
				os.WriteFile(filepath.Join(dir, sessionFile), session, 0o600)); err != nil {
				t.Fatal(err)
			}
			s, found := mustOpen(t, dir, owner)
			var want []Record
			n := uint64(0)
			for n < 5 && ends[n] <= int64(cut) {
				n++
				want = append(want, batch(n))
			}
			want = append(want, Record{First: n + 1, Last: minReserve, Reason: ReasonCrash})
			if len(want) < 6 && n < 5 && ends[n] <= int64(cut+len(garbage)) {
				kill(t, s)
				continue // the garbage takes the place of the end of a body: damaged, not torn
			}
			same(t, contents(t, s, found), want)
			torn := cut > segmentHeader && (n == 0 || ends[n-1] != int64(cut)) || garbage != "" && cut >= segmentHeader
			if notes := strings.Join(s.Notes(), "\n"); torn && !strings.Contains(notes, "cut at byte") {
				t.Errorf("cut at %d: notes %q", cut, notes)
			}
			// What is written now must be readable behind it.
			mustAppend(t, s, batch(100))
			kill(t, s)
			s, found = mustOpen(t, dir, owner)
			got := contents(t, s, found)
			if show(got[len(got)-2]) != show(batch(100)) {
				t.Fatalf("cut at %d: what was appended afterwards is read as %v", cut, got)
			}
			kill(t, s)
			if err := discard(s.name(2)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Damage in the middle costs what it hits: the packets of the record when only
// its body is hit, and its number whatever is hit. It is noted with file and byte.
func TestDamageInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		name   string
		offset int // into the third record
		want   Record
	}{
		{"body", recordHeader + 5, Record{First: 3, Last: 3, Packets: 30, Bytes: 3000, Reason: ReasonDamaged}},
		{"header", 14, Record{First: 3, Last: 3, Reason: ReasonCrash}},
		{"magic", 0, Record{First: 3, Last: 3, Reason: ReasonCrash}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := mustOpen(t, dir, owner)
			at := mustAppend(t, s, batch(1), batch(2), batch(3), batch(4))
			kill(t, s)
			p, err := os.ReadFile(s.name(1))
			if err != nil {
				t.Fatal(err)
			}
			p[int(at[2].offset)+c.offset] ^= 0x40
			if err := os.WriteFile(s.name(1), p, 0o600); err != nil {
				t.Fatal(err)
			}
			s, found := mustOpen(t, dir, owner)
			same(t, contents(t, s, found)[:4], []Record{batch(1), batch(2), c.want, batch(4)})
			notes := strings.Join(s.Notes(), "\n")
			if !strings.Contains(notes, s.name(1)) || !strings.Contains(notes, fmt.Sprint(at[2].offset)) {
				t.Errorf("notes %q, want the file and byte %d", notes, at[2].offset)
			}
			kill(t, s)
		})
	}
}

// What is damaged while the spool is open is noticed when it is read, and the
// sums stay exact.
func TestReadFindsDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(p []byte, third int) []byte
		want   []Record
	}{
		{"body", func(p []byte, third int) []byte { p[third+recordHeader] ^= 1; return p },
			[]Record{batch(1), batch(2), {First: 3, Last: 3, Packets: 30, Bytes: 3000, Reason: ReasonDamaged}, batch(4), batch(5)}},
		{"header", func(p []byte, third int) []byte { p[third+20] ^= 1; return p },
			[]Record{batch(1), batch(2), {First: 3, Last: 3, Packets: 30, Bytes: 3000, Reason: ReasonDamaged}, batch(4), batch(5)}},
		{"cut", func(p []byte, third int) []byte { return p[:third+9] },
			[]Record{batch(1), batch(2), {First: 3, Last: 5, Packets: 120, Bytes: 12000, Reason: ReasonDamaged}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := mustOpen(t, t.TempDir(), owner)
			at := mustAppend(t, s, batch(1), batch(2), batch(3), batch(4), batch(5))
			run := at[0]
			for _, r := range at[1:] {
				run, _ = Join(run, r)
			}
			p, err := os.ReadFile(s.name(1))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.name(1), c.damage(p, int(at[2].offset)), 0o600); err != nil {
				t.Fatal(err)
			}
			same(t, contents(t, s, []Range{run}), c.want)
			kill(t, s)
		})
	}
}

// A segment that is given up is remembered with what was in it, over a crash.
func TestDroppedSegmentsAreRemembered(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	n := uint64(1)
	for len(s.segments) < 4 {
		mustAppend(t, s, Record{First: n, Last: n, Packets: 7, Bytes: 70, Body: make([]byte, 8<<10)})
		if err := s.Reserve(n + 1); err != nil {
			t.Fatal(err)
		}
		n++
	}
	first, last, ok := s.Oldest(1) // the first holds what was sent
	if !ok || first == 1 {
		t.Fatalf("the oldest segment behind batch 1 is %d to %d, %v", first, last, ok)
	}
	end := uint64(0)
	for range 2 { // one behind the other: one range
		var from uint64
		if from, end, ok = s.Oldest(1); !ok {
			t.Fatal("no second segment to drop")
		}
		n := end - from + 1
		if err := s.Drop(from, []Lost{{First: from, Last: end, Packets: 7 * n, Bytes: 70 * n, Reason: "spool-full"}}, 1); err != nil {
			t.Fatal(err)
		}
	}
	last = end
	count := last - first + 1
	if err := s.Forget(2); err != nil {
		t.Fatal(err)
	}
	kill(t, s)
	s, found := mustOpen(t, dir, owner)
	lost := 0
	next := uint64(1)
	for _, r := range found {
		if r.First != next {
			t.Errorf("range %+v, want it to begin at %d", r, next)
		}
		next = r.Last + 1
		if r.Reason == "spool-full" {
			lost++
			if r.First != first || r.Last != last || r.Packets != 7*count {
				t.Errorf("lost %+v, want %d to %d with %d packets", r, first, last, 7*count)
			}
		}
	}
	if lost != 1 {
		t.Errorf("%d ranges lost in %v, want 1", lost, found)
	}
	kill(t, s)
}

// Acknowledged segments go, and the disk is free again.
func TestForgetFreesTheDisk(t *testing.T) {
	s, _ := mustOpen(t, t.TempDir(), owner)
	for n := uint64(1); n <= 40; n++ {
		mustAppend(t, s, Record{First: n, Last: n, Body: make([]byte, 8<<10)})
	}
	if s.Fits(1 << 20) {
		t.Error("1 MiB more fits into a spool of 1 MiB")
	}
	if err := s.Forget(41); err != nil {
		t.Fatal(err)
	}
	if s.Size() != 0 {
		t.Errorf("%d bytes after everything was acknowledged, want 0", s.Size())
	}
	mustAppend(t, s, batch(41))
	kill(t, s)
}

// A write that fails counts for nothing and can be made again; what it left on
// the disk is not taken for a batch.
func TestAppendCanBeTriedAgain(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	mustAppend(t, s, batch(1))
	s.out.Close() // the next write fails
	if _, err := s.Append([]Record{batch(2)}); err == nil {
		t.Fatal("a write to a closed file went well")
	}
	// Half of it may be there all the same.
	f, err := os.OpenFile(s.name(1), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	two := batch(2)
	if _, err := f.Write(appendRecord(nil, &two)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	mustAppend(t, s, batch(2), batch(3))
	kill(t, s)
	s, found := mustOpen(t, dir, owner)
	same(t, contents(t, s, found)[:3], []Record{batch(1), batch(2), batch(3)})
	kill(t, s)
}

// A spool that cannot be used says so with an error of its own, and is left as
// it is.
func TestRefusals(t *testing.T) {
	used := func(t *testing.T) (string, *Spool) {
		dir := t.TempDir()
		s, _ := mustOpen(t, dir, owner)
		mustAppend(t, s, batch(1))
		return dir, s
	}
	t.Run("in use", func(t *testing.T) {
		dir, s := used(t)
		_, _, err := Open(dir, owner)
		var inUse *InUseError
		if !errors.As(err, &inUse) || inUse.PID != os.Getpid() {
			t.Errorf("%v, want that process %d has it", err, os.Getpid())
		}
		kill(t, s)
	})
	t.Run("of another probe", func(t *testing.T) {
		dir, s := used(t)
		kill(t, s)
		for _, o := range []Options{{Probe: "other", Network: "lab", Live: true}, {Probe: "probe", Network: "other", Live: true}, {Probe: "probe", Network: "lab"}} {
			_, _, err := Open(dir, o)
			var wrong *OwnerError
			if !errors.As(err, &wrong) {
				t.Errorf("%+v: %v, want an OwnerError", o, err)
			}
		}
	})
	t.Run("another version of a segment", func(t *testing.T) {
		dir, s := used(t)
		kill(t, s)
		id, _ := s.Session()
		header := appendSegmentHeader(nil, id)
		header[8] = 9
		header = appendSum(header[:segmentHeader-4])
		if err := os.WriteFile(s.name(1), header, 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := Open(dir, owner)
		var version *VersionError
		if !errors.As(err, &version) || version.Got != 9 || version.File != s.name(1) {
			t.Errorf("%v, want version 9 of %s", err, s.name(1))
		}
	})
	t.Run("another version of the session", func(t *testing.T) {
		dir, s := used(t)
		kill(t, s)
		s.state.Version = 2
		if err := s.writeState(&s.state); err != nil {
			t.Fatal(err)
		}
		_, _, err := Open(dir, owner)
		var version *VersionError
		if !errors.As(err, &version) || version.Got != 2 {
			t.Errorf("%v, want version 2", err)
		}
	})
	for _, c := range []struct {
		name   string
		damage func(file string) error
	}{
		{"session damaged", func(f string) error { return os.WriteFile(f, []byte("{}\n00000000\n"), 0o600) }},
		{"session empty", func(f string) error { return os.WriteFile(f, nil, 0o600) }},
		{"session too large", func(f string) error { return os.WriteFile(f, make([]byte, maxSessionFile+1), 0o600) }},
		{"session missing", os.Remove},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, s := used(t)
			kill(t, s)
			if err := c.damage(filepath.Join(dir, sessionFile)); err != nil {
				t.Fatal(err)
			}
			_, _, err := Open(dir, owner)
			var damage *DamageError
			if !errors.As(err, &damage) || damage.File != filepath.Join(dir, sessionFile) {
				t.Errorf("%v, want that the session is damaged", err)
			}
			if _, err := os.Stat(s.name(1)); err != nil {
				t.Errorf("a refused spool was changed: %v", err)
			}
		})
	}
	t.Run("too small", func(t *testing.T) {
		if _, _, err := Open(t.TempDir(), Options{MaxBytes: MinMaxBytes - 1}); err == nil {
			t.Error("a spool of less than 1 MiB was made")
		}
	})
}

// Describe says whose spool it is, also while it is in use.
func TestDescribe(t *testing.T) {
	dir := t.TempDir()
	if _, err := Describe(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory is described: %v", err)
	}
	s, _ := mustOpen(t, dir, owner)
	if got, err := Describe(dir); err != nil || got != (Info{Probe: "probe", Network: "lab", Live: true}) {
		t.Errorf("%+v, %v", got, err)
	}
	kill(t, s)
}

// Numbers are reserved ahead: few for a quiet probe, more for a busy one, and
// always before they are used.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	writes, before := 0, s.Reserved()
	for n := uint64(1); n < 20_000; n++ {
		if err := s.Reserve(n); err != nil {
			t.Fatal(err)
		}
		if n > s.Reserved() {
			t.Fatalf("number %d is used, %d are reserved", n, s.Reserved())
		}
		if s.Reserved() != before {
			writes, before = writes+1, s.Reserved()
		}
	}
	if writes > 40 {
		t.Errorf("%d writes for 20,000 numbers in a moment, want a few", writes)
	}
	kill(t, s)
	st, err := readState(dir)
	if err != nil || st.Reserved != before {
		t.Errorf("on disk %d are reserved, %v; want %d", st.Reserved, err, before)
	}
}

// Under random appends, acknowledgements, losses and crashes what is found is
// what was appended and not acknowledged or dropped, in order and without holes.
func TestSpoolAgainstModel(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 3))
		dir := t.TempDir()
		s, _ := mustOpen(t, dir, owner)
		next, oldest := uint64(1), uint64(1)
		model := map[uint64]Record{} // by first
		for range 60 {
			switch rng.IntN(10) {
			case 0, 1, 2, 3, 4:
				var group []Record
				for range 1 + rng.IntN(6) {
					r := Record{First: next, Last: next, Packets: rng.Uint64N(100), Bytes: rng.Uint64N(1000), Body: make([]byte, 1+rng.IntN(20_000))}
					if rng.IntN(8) == 0 {
						r.Last, r.Body, r.Reason = next+rng.Uint64N(5), nil, "ring-full"
					}
					next = r.Last + 1
					group = append(group, r)
				}
				if err := s.Reserve(next); err != nil {
					t.Fatal(err)
				}
				mustAppend(t, s, group...)
				for _, r := range group {
					model[r.First] = r
				}
			case 5, 6:
				for oldest < next && rng.IntN(4) > 0 {
					oldest = model[oldest].Last + 1
				}
				if err := s.Forget(oldest); err != nil {
					t.Fatal(err)
				}
			case 7:
				if first, last, ok := s.Oldest(oldest); ok {
					all := Lost{First: first, Last: last, Reason: "spool-full"}
					for n := first; n <= last; {
						all.Packets, all.Bytes = all.Packets+model[n].Packets, all.Bytes+model[n].Bytes
						after := model[n].Last + 1
						delete(model, n)
						n = after
					}
					model[first] = Record{First: first, Last: last, Packets: all.Packets, Bytes: all.Bytes, Reason: "spool-full"}
					if err := s.Drop(first, []Lost{all}, next); err != nil {
						t.Fatal(err)
					}
				}
			default:
				kill(t, s)
				var found []Range
				s, found = mustOpen(t, dir, owner)
				if len(s.Notes()) > 0 {
					t.Fatalf("seed %d: notes %q", seed, s.Notes())
				}
				type sum struct{ packets, bytes uint64 }
				var got, want sum
				expect := uint64(0)
				for i, r := range contents(t, s, found) {
					if i > 0 && r.First != expect {
						t.Fatalf("seed %d: %s, want it to begin at %d", seed, show(r), expect)
					}
					expect = r.Last + 1
					if r.First < oldest {
						continue // in a segment with others, or of one that is gone
					}
					if m, ok := model[r.First]; ok && m.Body != nil && show(m) != show(r) {
						t.Fatalf("seed %d: found %s, want %s", seed, show(r), show(m))
					}
					got.packets, got.bytes = got.packets+r.Packets, got.bytes+r.Bytes
				}
				for n := oldest; n < next; n = model[n].Last + 1 {
					want.packets, want.bytes = want.packets+model[n].Packets, want.bytes+model[n].Bytes
				}
				if got != want {
					t.Fatalf("seed %d: found %v, want %v", seed, got, want)
				}
				// The numbers that may have been used are lost.
				_, after := s.Session()
				if after < next || expect != after && len(found) > 0 {
					t.Fatalf("seed %d: goes on at %d behind %d, %d were used", seed, after, expect, next)
				}
				if after > next {
					model[next] = Record{First: next, Last: after - 1, Reason: ReasonCrash}
				}
				next = after
			}
		}
		kill(t, s)
	}
}

func appendSum(p []byte) []byte { return append(p, sumOf(p)...) }

// aside returns the names of the damaged segments that are kept in dir.
func aside(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if isAside(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// damage changes a byte of a segment.
func damage(t testing.TB, name string, at int) {
	t.Helper()
	p, err := os.ReadFile(name)
	if err == nil {
		p[at] ^= 0x40
		err = os.WriteFile(name, p, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A damaged segment is kept beside when it is done with: at once when nothing of
// it can be read, else when the rest of it is acknowledged. It is said and counted,
// the newest four are kept, and a spool can begin beside them.
func TestDamagedSegmentsAreKeptAside(t *testing.T) {
	big := func(n uint64) Record {
		return Record{First: n, Last: n, Packets: 7, Bytes: 70, Body: bytes.Repeat([]byte{byte(n)}, minSegmentBytes)}
	}
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	const segments = 8
	for n := uint64(1); n <= segments; n++ {
		mustAppend(t, s, big(n))
	}
	if len(s.segments) != segments {
		t.Fatalf("%d segments, want %d", len(s.segments), segments)
	}
	kill(t, s)
	damage(t, s.name(2), 3)                            // its header: nothing of it can be read
	damage(t, s.name(3), segmentHeader+recordHeader+9) // the body of its record
	s, found := mustOpen(t, dir, owner)
	same(t, contents(t, s, found)[:4], []Record{big(1), {First: 2, Last: 2, Reason: ReasonCrash},
		{First: 3, Last: 3, Packets: 7, Bytes: 70, Reason: ReasonDamaged}, big(4)})
	if got := aside(t, dir); len(got) != 1 || got[0] != base(2)+asideSuffix || s.Aside() != 1 {
		t.Errorf("set aside at once: %q, counted %d; want segment 2", got, s.Aside())
	}
	notes := strings.Join(s.Notes(), "\n")
	for _, want := range []string{s.name(2) + ": byte", s.name(2) + asideSuffix, s.name(3) + ": damaged at byte"} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is missing in the notes %q", want, notes)
		}
	}
	// What is damaged while it is open is noticed when it is read.
	damage(t, s.name(4), segmentHeader+recordHeader+9)
	for _, r := range found {
		if r.First == 4 {
			same(t, contents(t, s, []Range{r}), []Record{{First: 4, Last: 4, Packets: 7, Bytes: 70, Reason: ReasonDamaged}})
		}
	}
	if err := s.Forget(6); err != nil {
		t.Fatal(err)
	}
	if got := aside(t, dir); len(got) != 3 || s.Aside() != 3 {
		t.Errorf("set aside when they were done with: %q, counted %d; want segments 2 to 4", got, s.Aside())
	}
	if notes := strings.Join(s.Notes(), "\n"); !strings.Contains(notes, s.name(3)+asideSuffix) || !strings.Contains(notes, s.name(4)+": damaged since") {
		t.Errorf("notes of segments 3 and 4: %q", notes)
	}
	if _, err := os.Stat(s.name(5)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("segment 5, which is whole, is kept: %v", err)
	}
	// Beyond four the oldest goes.
	kill(t, s)
	for id := uint64(6); id <= 8; id++ {
		damage(t, s.name(id), 3)
	}
	s, _ = mustOpen(t, dir, owner)
	if got := aside(t, dir); len(got) != maxAside || got[0] != base(4)+asideSuffix || got[3] != base(8)+asideSuffix {
		t.Errorf("kept are %q, want segments 4, 6, 7, 8", got)
	}
	// It ends, and another begins.
	_, next := s.Session()
	if err := s.Close(next, next, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := Describe(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a spool that was sent and left damaged segments: %v", err)
	}
	s, found = mustOpen(t, dir, owner)
	if len(found) != 0 || len(aside(t, dir)) != maxAside {
		t.Errorf("a new session holds %v beside %q", found, aside(t, dir))
	}
	// Its segments are newer than those of the last one, also by their names.
	mustAppend(t, s, big(next+1))
	newest := s.segments[0].id
	damage(t, s.name(newest), 3)
	kill(t, s)
	s, _ = mustOpen(t, dir, owner)
	if got := aside(t, dir); newest <= 8 || len(got) != maxAside || got[maxAside-1] != base(newest)+asideSuffix {
		t.Errorf("kept are %q, want segment %d, which is above 8, last", got, newest)
	}
	kill(t, s)
}

// A group counts only when the file system still takes changes behind its sync;
// until then nothing of it is stored, and the same can be appended later. So it is
// with the numbers that are reserved.
func TestSyncIsNotBelievedAlone(t *testing.T) {
	dir := t.TempDir()
	s, _ := mustOpen(t, dir, owner)
	mustAppend(t, s, batch(1))
	believe, readOnly := s.believe, errors.New("read-only file system")
	s.believe = func() error { return readOnly }
	if _, err := s.Append([]Record{batch(2)}); !errors.Is(err, readOnly) {
		t.Fatalf("a batch was taken that may be nowhere: %v", err)
	}
	before := s.Reserved()
	if err := s.Reserve(before); !errors.Is(err, readOnly) || s.Reserved() != before {
		t.Errorf("numbers up to %d were reserved where that may be nowhere: %v", s.Reserved(), err)
	}
	s.believe = believe
	mustAppend(t, s, batch(2), batch(3))
	kill(t, s)
	s, found := mustOpen(t, dir, owner)
	same(t, contents(t, s, found)[:3], []Record{batch(1), batch(2), batch(3)})
	kill(t, s)
}

// What a spool takes can be seen from outside: segments that wait and those that
// were set aside, and no other file.
func TestLookCountsSegments(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		base(1): 10, base(2): 5, base(3) + asideSuffix: 100, sessionFile: 7, "lock": 3, "letter": 1,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := Look(dir); err != nil || got != (Contents{Segments: 2, Bytes: 15, Aside: 1}) {
		t.Errorf("%+v, %v; want 2 segments of 15 bytes and one set aside", got, err)
	}
	if _, err := Look(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of no directory: %v", err)
	}
}
