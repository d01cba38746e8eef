package novelty

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/analyst/state"
	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/tracker"
)

func uid(n int) (u tracker.UID) {
	u[10], u[11], u[12] = byte(n>>16), byte(n>>8), byte(n)
	return u
}

func sight(network string, t ja4.Type, value string, conn int, at int64) *Sight {
	return &Sight{Network: network, Probe: "p", Event: &tracker.Event{Type: t, Value: value, UID: uid(conn), Time: at}}
}

// saw prepares a sight and takes note of it.
func (m *Memory) saw(s *Sight) bool { return m.Prepare(s) && m.Saw(s) }

func newMemory(entries int) *Memory {
	return New(Config{NewTypes: DefaultTypes, MaxEntries: entries, MaxBytes: 1 << 20})
}

// A first sight makes its connection new when its type counts and nobody is
// learning; measurements are not remembered at all.
func TestSaw(t *testing.T) {
	m := newMemory(100)
	for i, tt := range []struct {
		s    *Sight
		want bool
	}{
		{sight("lab", ja4.TypeJA4, "a", 1, 10), true},
		{sight("lab", ja4.TypeJA4, "a", 2, 20), false},
		{sight("other", ja4.TypeJA4, "a", 3, 30), true},
		{sight("lab", ja4.TypeJA4X, "a", 4, 40), true},
		{sight("lab", ja4.TypeJA4S, "a", 4, 40), false}, // does not count
		{sight("lab", ja4.TypeJA4L, "100_64", 4, 40), false},
		{sight("lab", ja4.TypeJA4SSH, "c36s36_c1s1_c1s1", 4, 40), false},
		{&Sight{Network: "lab", Event: &tracker.Event{Type: ja4.TypeJA4, Value: "learned", UID: uid(5), Time: 50}, Learning: true}, false},
		{sight("lab", ja4.TypeJA4, "learned", 6, 60), false},
		{sight("lab", ja4.TypeJA4H, "ge11cn05enus_aaaa_bbbb_cccc", 7, 70), true},
		{sight("lab", ja4.TypeJA4H, "ge11cn05enus_aaaa_dddd_eeee", 8, 80), false}, // other cookies
		{sight("lab", ja4.TypeJA4, "a", 2, 5), false},                             // a late packet
	} {
		if got := m.saw(tt.s); got != tt.want {
			t.Errorf("sight %d: new is %v, want %v", i, got, tt.want)
		}
	}
	page, next := m.Page(0, 100, func(f *Fingerprint) bool { return f.Network == "lab" })
	var got []string
	for _, f := range page {
		got = append(got, fmt.Sprintf("%v %s %d %d %d %v", f.Type, f.Value, f.FirstSeen, f.LastSeen, f.Connections, f.Learned))
	}
	want := []string{"ja4 a 5 20 2 false", "ja4x a 40 40 1 false", "ja4s a 40 40 1 false", "ja4 learned 50 60 2 true", "ja4h ge11cn05enus_aaaa 70 80 2 false"}
	if !slices.Equal(got, want) || next != 0 {
		t.Errorf("remembered are %q, want %q", got, want)
	}
}

// What is remembered of a value.
func TestRemembered(t *testing.T) {
	for _, tt := range []struct {
		typ         ja4.Type
		value, want string
		ok          bool
	}{
		{ja4.TypeJA4, "t13_a_b", "t13_a_b", true},
		{ja4.TypeJA4H, "ge11_a_b_c", "ge11_a", true},
		{ja4.TypeJA4H, "ge11", "ge11", true},
		{ja4.TypeJA4TS, "1024_2_1460_00_1-2-4-R6", "1024_2_1460_00", true},
		{ja4.TypeJA4TS, "1024_2_1460_00", "1024_2_1460_00", true},
		{ja4.TypeJA4LS, "100_64", "100_64", false},
		{ja4.TypeJA4O, "t13_a_b", "t13_a_b", false},
		{0, "", "", false},
	} {
		if got, ok := Remembered(tt.typ, tt.value); got != tt.want || ok != tt.ok {
			t.Errorf("Remembered(%v, %q) = %q, %v", tt.typ, tt.value, got, ok)
		}
	}
}

// When there is no room the least recently seen leaves, what one connection
// showed first; and what has left is new again.
func TestRoom(t *testing.T) {
	m := newMemory(10)
	for i := range 3 { // shown by two connections each
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint("common", i), i, 0))
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint("common", i), 100+i, 0))
	}
	for i := range 1000 {
		if !m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint("invented", i), 200+i, 0)) {
			t.Fatal("an invention is not new")
		}
		if m.Len() > 10 {
			t.Fatalf("%d entries", m.Len())
		}
	}
	for i := range 3 {
		if m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint("common", i), i, 0)) {
			t.Errorf("inventions have pushed out what is common")
		}
	}
	if m.saw(sight("lab", ja4.TypeJA4, "invented999", 1, 0)) || !m.saw(sight("lab", ja4.TypeJA4, "invented0", 1, 0)) {
		t.Error("not the least recently seen has left")
	}
	if m.Dropped() != 994 { // 3 + 1000 + 1 came, 10 are there
		t.Errorf("%d have left, want 994", m.Dropped())
	}
	m.Configure(Config{NewTypes: DefaultTypes, MaxEntries: 2, MaxBytes: 1 << 20})
	if m.Len() != 2 {
		t.Errorf("%d are left of a smaller memory, want 2", m.Len())
	}
}

// Bytes are bounded, too: what many connections show cannot fill the memory for
// ever either.
func TestBytes(t *testing.T) {
	m := New(Config{NewTypes: DefaultTypes, MaxEntries: 1 << 20, MaxBytes: 64 << 10})
	for i := range 5000 {
		v := fmt.Sprint(i, strings.Repeat("x", i%250))
		m.saw(sight("lab", ja4.TypeJA4, v, i, 0))
		m.saw(sight("lab", ja4.TypeJA4, v, i+1, 0))
		if m.Bytes() > 64<<10 || m.shares > 32<<10 {
			t.Fatalf("%d bytes, %d of them shared", m.Bytes(), m.shares)
		}
	}
	if m.Len() < 64 {
		t.Errorf("only %d entries are left", m.Len())
	}
}

// Pages together have each fingerprint that is there during the walk once, in
// the order of first sight, whatever comes and goes meanwhile.
func TestPages(t *testing.T) {
	m := newMemory(5000)
	for i := range 3000 {
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint(i), i, int64(i)))
	}
	seen := map[string]int{}
	var after uint64
	for pages := 0; ; pages++ {
		page, next := m.Page(after, 70, func(f *Fingerprint) bool { return !strings.HasSuffix(f.Value, "7") })
		for i, f := range page {
			seen[f.Value]++
			if i > 0 && page[i-1].FirstSeen > f.FirstSeen {
				t.Fatal("the order is not that of first sight")
			}
		}
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint("late", pages), pages, 99_999))
		m.Forget(func(f *Fingerprint) bool { return f.Value == fmt.Sprint(3*pages) }, false)
		if next == 0 {
			break
		}
		after = next
	}
	for i := range 3000 {
		v := fmt.Sprint(i)
		want := 1
		if strings.HasSuffix(v, "7") {
			want = 0
		}
		if seen[v] > want || seen[v] < want && i%3 != 0 {
			t.Fatalf("%s was seen %d times, want %d", v, seen[v], want)
		}
	}
}

// Forget counts without confirmation, forgets with it, and what was forgotten is
// new again.
func TestForget(t *testing.T) {
	m := newMemory(100)
	for i := range 10 {
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint(i), i, 0))
	}
	odd := func(f *Fingerprint) bool { return f.Value[0]%2 == 1 }
	if n := m.Forget(odd, true); n != 5 || m.Len() != 10 {
		t.Errorf("a dry run forgot: %d, %d left", n, m.Len())
	}
	if n := m.Forget(odd, false); n != 5 || m.Len() != 5 || m.Dropped() != 0 {
		t.Errorf("%d forgotten, %d left", n, m.Len())
	}
	if !m.saw(sight("lab", ja4.TypeJA4, "1", 99, 0)) || m.saw(sight("lab", ja4.TypeJA4, "2", 99, 0)) {
		t.Error("what was forgotten is not new, or something else is")
	}
	if m.Forget(nil, false) != 6 || m.Len() != 0 || m.Bytes() != 0 || m.shares != 0 {
		t.Errorf("%d bytes are left", m.Bytes())
	}
}

// slow is the obvious memory, for few entries.
type slow struct {
	max     int
	entries []*slowEntry // least recently seen first
}

type slowEntry struct {
	value  string
	conns  int
	last   tracker.UID
	shared bool
}

func (m *slow) saw(value string, u tracker.UID) bool {
	for i, e := range m.entries {
		if e.value == value {
			if e.last != u {
				e.conns++
				e.last = u
			}
			e.shared = e.conns > 1
			m.entries = append(slices.Delete(m.entries, i, i+1), e)
			return false
		}
	}
	for len(m.entries) >= m.max {
		i := max(0, slices.IndexFunc(m.entries, func(e *slowEntry) bool { return !e.shared }))
		m.entries = slices.Delete(m.entries, i, i+1)
	}
	m.entries = append(m.entries, &slowEntry{value: value, conns: 1, last: u})
	return true
}

// The memory agrees with the obvious one, also when it is saved and restored in
// the middle.
func TestModel(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		m, s := newMemory(20), &slow{max: 20}
		for i := range 3000 {
			value, conn := fmt.Sprint(int(r.ExpFloat64()*15)), r.IntN(50)
			got := m.saw(sight("lab", ja4.TypeJA4, value, conn, int64(i)))
			if want := s.saw(value, uid(conn)); got != want {
				t.Fatalf("seed %d, step %d: %s is new: %v, want %v", seed, i, value, got, want)
			}
			if r.IntN(300) == 0 {
				var w, again state.Writer
				m.Save(&w)
				m = newMemory(20)
				rd := state.NewReader(w.B)
				if err := m.Restore(rd, func(s string) string { return s }); err != nil || rd.End() != nil {
					t.Fatal(err, rd.End())
				}
				if m.Save(&again); !bytes.Equal(w.B, again.B) {
					t.Fatalf("seed %d, step %d: the restored memory saves other bytes", seed, i)
				}
			}
		}
	}
}

// A state with more than there is room for is cut to the limits.
func TestRestoreIntoLess(t *testing.T) {
	m := newMemory(100)
	for i := range 100 {
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint(i), i, 0))
	}
	var w state.Writer
	m.Save(&w)
	small := newMemory(10)
	if err := small.Restore(state.NewReader(w.B), func(s string) string { return s }); err != nil || small.Len() != 10 || small.Dropped() != 90 {
		t.Errorf("%d entries, %d left, %v", small.Len(), small.Dropped(), err)
	}
	if small.saw(sight("lab", ja4.TypeJA4, "99", 1, 0)) || !small.saw(sight("lab", ja4.TypeJA4, "1", 1, 0)) {
		t.Error("not the newest ten are left")
	}
}

// Whatever the bytes are, Restore ends with a memory or an error.
func FuzzRestore(f *testing.F) {
	m := newMemory(100)
	for i := range 60 {
		m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint(i%40), i, int64(i)))
	}
	var w state.Writer
	m.Save(&w)
	f.Add(w.B)
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzguard.Watch(t)
		m := newMemory(50)
		err := m.Restore(state.NewReader(data), func(s string) string { return s })
		if err != nil {
			if !errors.Is(err, state.ErrDamaged) {
				t.Errorf("error %v is not ErrDamaged", err)
			}
			return
		}
		for i := range 100 {
			m.saw(sight("lab", ja4.TypeJA4, fmt.Sprint(i), i, int64(i)))
		}
		m.Page(0, 10, nil)
		if m.Len() > 50 {
			t.Errorf("%d entries", m.Len())
		}
	})
}

// Seeing what is known costs no allocation.
func TestSawDoesNotAllocate(t *testing.T) {
	m := newMemory(100)
	s := sight("lab", ja4.TypeJA4H, "ge11cn05enus_aaaa_bbbb_cccc", 1, 0)
	m.saw(s)
	if n := testing.AllocsPerRun(1000, func() { m.saw(s) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkSaw: values that are known, and inventions in a full memory.
func BenchmarkSaw(b *testing.B) {
	m := New(Config{NewTypes: DefaultTypes, MaxEntries: 1 << 17, MaxBytes: 64 << 20})
	values := make([]string, 1<<18)
	for i := range values {
		values[i] = fmt.Sprintf("t13d1516h2_%012x_02713d6af862", i)
	}
	s := sight("lab", ja4.TypeJA4, "", 1, 0)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			s.Event.Value, s.Event.UID = values[i%1000], uid(i)
			m.saw(s)
		}
	})
	b.Run("invented", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			s.Event.Value, s.Event.UID = values[i%len(values)], uid(i)
			m.saw(s)
		}
	})
}
