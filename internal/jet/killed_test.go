package jet

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	// childEnv makes the test binary a writer: it appends messages to the stream
	// in the folder named and prints the number of each that was acknowledged.
	childEnv = "WHORL_JET_CHILD"
	// childNoSync, when set too, leaves out the syncs.
	childNoSync = "WHORL_JET_NOSYNC"
	// childSize is the size of a message: a hundred of them are two files.
	childSize = 128 << 10
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		appendForEver(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func appendForEver(dir string) {
	s, err := Start(Config{Dir: dir, NoSync: os.Getenv(childNoSync) != ""})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx := context.Background()
	st, err := s.Open(ctx, StreamConfig{Name: "test", MaxBytes: 1 << 30, Share: 1})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for {
		number, err := st.Append(ctx, message(st.last+1, childSize))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(number)
	}
}

// writeUntil runs a writer until it has had that many messages acknowledged, cuts
// it off and returns the number of the last one it told of.
func writeUntil(t *testing.T, dir string, acknowledged int, noSync bool, cut func(*os.Process)) (last uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	if noSync {
		cmd.Env = append(cmd.Env, childNoSync+"=1")
	}
	cmd.Stderr = os.Stderr
	if testing.Verbose() {
		cmd.Stderr = nil // what the cut leads to
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer killed.Stop()
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if last, err = strconv.ParseUint(lines.Text(), 10, 64); err != nil {
			t.Fatal(err)
		}
		if n == acknowledged {
			cut(cmd.Process)
		}
	}
	_ = cmd.Wait() // it was killed
	if last < uint64(acknowledged) {
		t.Fatalf("only %d messages were acknowledged before the cut, want %d: the run does not count", last, acknowledged)
	}
	return last
}

// Whatever was acknowledged is there after kill -9, and at most one message more.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		last := writeUntil(t, dir, 100, false, func(p *os.Process) { p.Kill() })
		s := start(t, dir)
		st := open(t, s, StreamConfig{MaxBytes: 1 << 30})
		if st.last != last && st.last != last+1 {
			t.Fatalf("%d messages were acknowledged, %d are there", last, st.last)
		}
		all(t, st, st.last, childSize)
		s.Stop()
	}
}

// message is what a test appends at number.
func message(number uint64, size int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "%08d", number), size/8)
}

// insist appends message number until it is taken, for a while.
func insist(t *testing.T, s *Stream, number uint64, size int) {
	t.Helper()
	var err error
	var got uint64
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got, err = s.Append(t.Context(), message(number, size)); err == nil {
			if got != number {
				t.Fatalf("message %d got number %d", number, got)
			}
			return
		}
	}
	t.Fatalf("message %d: %v", number, err)
}

// all checks that the stream holds the messages 1 to last and nothing else.
func all(t *testing.T, s *Stream, last uint64, size int) {
	t.Helper()
	for n := uint64(1); n <= last; n++ {
		m, err := s.Read(t.Context(), n)
		if err != nil || m.Number != n || !bytes.Equal(m.Data, message(n, size)) {
			t.Fatalf("message %d: number %d, %d bytes, %v", n, m.Number, len(m.Data), err)
		}
	}
	if m, err := s.Read(t.Context(), last+1); err == nil {
		t.Fatalf("message %d of %d was stored", m.Number, last)
	}
}
