package log_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/jet/jettest"
	"github.com/whorl-net/whorl/internal/log"
	"github.com/whorl-net/whorl/internal/log/logtest"
)

// open opens the log that messages hold.
func open(t testing.TB, messages log.Messages) *log.Stored {
	t.Helper()
	l, err := log.Open(context.Background(), messages, log.Config{GroupEvery: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// jetStream makes messages on a disk.
func jetStream(t testing.TB, dir string, maxBytes int64) log.Messages {
	t.Helper()
	server, err := jet.Start(jet.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	stream := log.Stream(maxBytes)
	stream.Share = 1
	messages, err := server.Open(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func TestStored(t *testing.T) {
	logtest.Run(t, func(t *testing.T, maxBytes int64) log.Log {
		return open(t, &jettest.Memory{MaxBytes: maxBytes})
	})
}

// On a disk, without the test that needs thousands of syncs.
func TestStoredInJetStream(t *testing.T) {
	logtest.Run(t, func(t *testing.T, maxBytes int64) log.Log {
		return open(t, jetStream(t, t.TempDir(), maxBytes))
	}, "Model")
}

// record makes one that carries n.
func record(n int) log.Record {
	return log.Record{
		LogTime: int64(n), Kind: log.KindBatch, Data: binary.BigEndian.AppendUint64(nil, uint64(n)),
		Session: log.Session{Probe: fmt.Sprint("edge", n%3), Network: "lab", Live: n%2 == 0},
	}
}

func number(r *log.Record) int { return int(binary.BigEndian.Uint64(r.Data)) }

// readAll returns the numbers of the records behind after, up to the newest.
func readAll(t testing.TB, l log.Log, after log.Position) (numbers []int) {
	t.Helper()
	r, err := l.Reader(after)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for after < l.Stats().Safe {
		records, err := r.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			if after++; records[i].Position != after {
				t.Fatalf("position %d where %d is next", records[i].Position, after)
			}
			numbers = append(numbers, number(&records[i]))
		}
	}
	return numbers
}

// However a process ends, whoever opens the log again finds what was safe, in
// order, and perhaps some of what was on its way; positions and log time go on.
func TestCrashesLoseNothingThatIsSafe(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		messages := &jettest.Memory{}
		l := open(t, messages)
		var submitted []int
		var safe, trimmed atomic.Int64
		next := 0
		rt.Repeat(map[string]func(*rapid.T){
			"submit": func(rt *rapid.T) {
				var records []log.Record
				for range rapid.IntRange(1, 5).Draw(rt, "records") {
					next++
					records = append(records, record(next))
					submitted = append(submitted, next)
				}
				last := int64(len(submitted))
				p, err := l.Submit(context.Background(), func(err error) {
					if err == nil && safe.Swap(last) > last {
						t.Error("told out of order")
					}
				}, records...)
				if err != nil || int64(p) != last {
					rt.Fatal(p, err)
				}
			},
			"wait": func(rt *rapid.T) {
				if len(submitted) == 0 {
					rt.Skip("nothing was submitted")
				}
				for l.Stats().Safe < log.Position(len(submitted)) {
					time.Sleep(10 * time.Microsecond)
				}
			},
			"trim": func(rt *rapid.T) {
				known := int64(l.Stats().Safe)
				n := max(rapid.Int64Range(0, known).Draw(rt, "up to"), trimmed.Load())
				if got := readAll(t, l, log.Position(n)); int64(len(got)) < known-n {
					rt.Fatalf("read %d of %d", len(got), known-n)
				}
				if err := l.Trim(log.Position(n)); err != nil {
					rt.Fatal(err)
				}
				trimmed.Store(n)
			},
			"crash": func(rt *rapid.T) {
				known := safe.Load()
				messages = messages.Copy()
				l.Close() // writes to the one before
				l = open(t, messages)
				s := l.Stats()
				if int64(s.Last) < known || int(s.Last) > len(submitted) || int64(s.First) > trimmed.Load()+1 {
					rt.Fatalf("%d were safe of %d, and %d trimmed: %+v", known, len(submitted), trimmed.Load(), s)
				}
				submitted = submitted[:s.Last]
				safe.Store(int64(s.Last))
				for i, n := range readAll(t, l, log.Position(trimmed.Load())) {
					if want := submitted[int(trimmed.Load())+i]; n != want {
						rt.Fatalf("record %d is %d, want %d", int(trimmed.Load())+i+1, n, want)
					}
				}
			},
		})
	})
}

// Whichever append of the store fails, and whether or not it is stored all the
// same, each record is in the log once, in order.
func TestFailedWritesAreRepeated(t *testing.T) {
	for _, fault := range []jettest.Fault{jettest.Refused, jettest.Ambiguous} {
		for fails := 1; fails <= 12; fails++ {
			messages := &jettest.Memory{Fault: func(n int) jettest.Fault {
				if n >= fails && n < fails+1+fails%2 { // once, or twice in a row
					return fault
				}
				return jettest.None
			}}
			l := open(t, messages)
			var want []int
			for n := 1; n <= 20; n++ {
				for {
					_, err := l.Append(t.Context(), record(n))
					if err == nil {
						break
					}
					if !errors.Is(err, log.ErrUnavailable) {
						t.Fatal(err)
					}
					time.Sleep(time.Millisecond)
				}
				want = append(want, n)
			}
			if s := l.Stats(); s.Err != nil || s.Failures == 0 && fails <= 20 {
				t.Errorf("append %d fails: %+v", fails, s)
			}
			l.Close()
			if got := readAll(t, open(t, messages.Copy()), 0); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("append %d fails: %v", fails, got)
			}
		}
	}
}

// While the store takes nothing Submit says so at once; what was submitted before
// is safe as soon as it takes something again.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		messages := &jettest.Memory{Fault: func(int) jettest.Fault {
			if down.Load() {
				return jettest.Refused
			}
			return jettest.None
		}}
		l := open(t, messages)
		down.Store(true)
		told := make(chan error, 1)
		if _, err := l.Submit(t.Context(), func(err error) { told <- err }, record(1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if len(told) > 0 {
			t.Fatal("a record that is not stored is said to be safe")
		}
		_, err := l.Submit(t.Context(), nil, record(2))
		if !errors.Is(err, log.ErrUnavailable) || !errors.Is(err, jettest.ErrFault) {
			t.Errorf("got %v, want ErrUnavailable and the reason", err)
		}
		if s := l.Stats(); s.Err == nil || s.Last != 1 || s.Safe != 0 || s.Failures < 30 || s.Failures > 100 {
			t.Errorf("%+v", s)
		}
		down.Store(false)
		time.Sleep(3 * time.Second)
		if err := <-told; err != nil {
			t.Error(err)
		}
		if _, err := l.Append(t.Context(), record(2)); err != nil {
			t.Error(err)
		}
		if s := l.Stats(); s.Err != nil || s.Safe != 2 {
			t.Errorf("%+v", s)
		}

		// A log that is closed during an outage does not wait for its end.
		down.Store(true)
		if _, err := l.Submit(t.Context(), func(err error) { told <- err }, record(3)); err != nil {
			t.Fatal(err)
		}
		r, err := l.Reader(2)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := r.Next(context.Background())
			ended <- err
		}()
		time.Sleep(10 * time.Second)
		began := time.Now()
		l.Close()
		if err := <-told; !errors.Is(err, log.ErrClosed) || time.Since(began) > time.Second {
			t.Errorf("after %v the record is said to be %v", time.Since(began), err)
		}
		if err := <-ended; !errors.Is(err, log.ErrClosed) {
			t.Errorf("the reader: %v", err)
		}
	})
}

// A pause is over at once, and a flood costs about eight groups a second, whatever
// it brings.
func TestGroupsAdapt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		messages := &slow{Memory: jettest.Memory{}, takes: 3 * time.Millisecond}
		l, err := log.Open(t.Context(), messages, log.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			r, err := l.Reader(0)
			if err != nil {
				t.Error(err)
				return
			}
			for {
				records, err := r.Next(context.Background())
				if err != nil {
					return
				}
				if err := l.Trim(records[len(records)-1].Position); err != nil {
					t.Error(err)
				}
			}
		}()
		for range 3 {
			time.Sleep(time.Minute)
			began := time.Now()
			if _, err := l.Append(t.Context(), record(1)); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(began); d != messages.takes {
				t.Errorf("after a pause an append takes %v, want %v", d, messages.takes)
			}
		}
		for _, perSecond := range []int{20, 1000} {
			before := messages.Appends()
			for range 10 * perSecond {
				if _, err := l.Submit(t.Context(), nil, record(1)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second / time.Duration(perSecond))
			}
			if n := messages.Appends() - before; n < 70 || n > 90 {
				t.Errorf("%d records a second: %d groups in 10 s, want about 80", perSecond, n)
			}
		}
		// More than a group holds does not wait for its turn.
		before := time.Now()
		big := log.Record{Kind: log.KindBatch, Data: make([]byte, 5<<20)}
		for range 20 {
			if _, err := l.Append(t.Context(), big); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(before); d > 20*messages.takes {
			t.Errorf("20 full groups take %v", d)
		}
	})
}

// slow is a store on a disk that takes its time.
type slow struct {
	jettest.Memory
	takes time.Duration
}

func (s *slow) Append(ctx context.Context, data []byte) (uint64, error) {
	time.Sleep(s.takes)
	return s.Memory.Append(ctx, data)
}

// Who waits is told before the reader hands the record out, with the batch and the
// note that came with it.
func TestSafeBeforeRead(t *testing.T) {
	l := open(t, &jettest.Memory{})
	r, err := l.Reader(0)
	if err != nil {
		t.Fatal(err)
	}
	var safe atomic.Int64
	const last = 2000
	go func() {
		for n := int64(1); n <= last; n++ {
			in := record(int(n))
			in.Batch, in.Note = &flow.Batch{Sequence: uint64(n)}, n
			if _, err := l.Submit(context.Background(), func(error) { safe.Store(n) }, in); err != nil {
				t.Error(err)
			}
		}
	}()
	for n := int64(1); n <= last; {
		records, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			if safe.Load() < n {
				t.Fatalf("record %d was read while %d were safe", n, safe.Load())
			}
			if got := &records[i]; got.Note != n || got.Batch == nil || got.Batch.Sequence != uint64(n) {
				t.Fatalf("record %d: note %v, batch %v", n, got.Note, got.Batch)
			}
			n++
		}
	}
}

// What is missing or damaged on the disk ends the reading with an error that says
// which records, never in silence; what is before it can be read.
func TestHolesAreFound(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(m *jettest.Memory)
		want   error
		says   string
	}{
		{"missing", func(m *jettest.Memory) { m.Damage(5, nil) }, log.ErrHole, "records 5 to 5 are missing"},
		{"several missing", func(m *jettest.Memory) { m.Damage(5, nil); m.Damage(6, nil) }, log.ErrHole, "records 5 to 6 are missing"},
		{"damaged", func(m *jettest.Memory) { m.Damage(5, func(p []byte) { p[len(p)-1] ^= 1 }) }, nil, "record 5: checksum"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			messages := &jettest.Memory{}
			l := open(t, messages)
			for n := 1; n <= 10; n++ {
				if _, err := l.Append(t.Context(), record(n)); err != nil {
					t.Fatal(err)
				}
			}
			l.Close()
			tc.damage(messages)
			l = open(t, messages)
			for _, after := range []int{0, 4} {
				r, err := l.Reader(log.Position(after))
				if err != nil {
					t.Fatal(err)
				}
				for n := after + 1; n < 5; n++ {
					if records, err := r.Next(t.Context()); err != nil || len(records) != 1 || number(&records[0]) != n {
						t.Fatal(n, records, err)
					}
				}
				for range 2 {
					if _, err := r.Next(t.Context()); err == nil || tc.want != nil && !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
						t.Errorf("after %d: got %v, want %q", after, err, tc.says)
					}
				}
				r.Close()
			}
			// Behind the hole the log goes on: whoever does not need what is missing
			// is not hindered.
			if got := readAll(t, l, 6); len(got) != 4 || got[0] != 7 {
				t.Errorf("behind the hole: %v", got)
			}
		})
	}

	messages := &jettest.Memory{}
	l := open(t, messages)
	for n := 1; n <= 3; n++ {
		if _, err := l.Append(t.Context(), record(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	messages.Damage(3, func(p []byte) { clear(p) })
	if _, err := log.Open(t.Context(), messages, log.Config{}); err == nil || !strings.Contains(err.Error(), "newest records") {
		t.Errorf("a damaged end: %v", err)
	}
}

// Trimming frees the disk, but for the newest message, from which the positions go
// on; a part of what an earlier process wrote is freed as well.
func TestTrimFreesTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		messages := &jettest.Memory{}
		l := open(t, messages)
		for n := 1; n <= 20; n++ {
			if _, err := l.Append(t.Context(), record(n)); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		l = open(t, messages)
		left := func() int {
			time.Sleep(5 * time.Second)
			s, err := messages.State(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return int(s.Messages)
		}
		readAll(t, l, 0)
		for _, tc := range []struct{ upTo, left int }{{5, 15}, {12, 8}, {20, 1}} {
			before := l.Stats().Bytes
			if err := l.Trim(log.Position(tc.upTo)); err != nil {
				t.Fatal(err)
			}
			if n := left(); n != tc.left {
				t.Errorf("trimmed up to %d: %d messages are left, want %d", tc.upTo, n, tc.left)
			}
			if s := l.Stats(); s.Bytes >= before || int(s.First) != tc.upTo+1 {
				t.Errorf("trimmed up to %d: %+v, %d bytes before", tc.upTo, s, before)
			}
		}
		l.Close()
		l = open(t, messages)
		if p, err := l.Append(t.Context(), record(21)); err != nil || p != 21 {
			t.Errorf("positions go on at %d, %v", p, err)
		}
	})
}

// A reader that starts far behind reads from the disk and arrives at what is in
// memory without a seam, while others append.
func TestReaderCatchesUp(t *testing.T) {
	messages := &jettest.Memory{}
	l := open(t, messages)
	const old, last = 500, 1500
	for n := 1; n <= old; n++ {
		if _, err := l.Submit(t.Context(), nil, record(n)); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	l = open(t, messages)
	r, err := l.Reader(100)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for n := old + 1; n <= last; n++ {
			if _, err := l.Submit(context.Background(), nil, record(n)); err != nil {
				t.Error(err)
			}
		}
	}()
	for n := 101; n <= last; {
		records, err := r.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			if number(&records[i]) != n || records[i].Position != log.Position(n) {
				t.Fatalf("record %d at %d, want %d", number(&records[i]), records[i].Position, n)
			}
			n++
		}
	}
}

// What waits to be read is bounded in memory, as what is on the disk is.
func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := log.Open(t.Context(), &jettest.Memory{}, log.Config{MemoryBytes: 4096, GroupEvery: time.Nanosecond})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n := 0
		for ; err == nil && n <= 4096/256; n++ {
			_, err = l.Submit(ctx, nil, record(n))
		}
		if !errors.Is(err, context.DeadlineExceeded) || n < 10 || n > 4096/256 {
			t.Fatalf("%d records were taken: %v", n, err)
		}
		if _, err := l.Submit(t.Context(), nil, log.Record{Kind: log.KindBatch, Data: bytes.Repeat([]byte{1}, 5000)}); !errors.Is(err, log.ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
		readAll(t, l, 0)
		if _, err := l.Append(t.Context(), record(n)); err != nil {
			t.Error(err)
		}
	})
}
