package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe/capture"
)

// keyLine is a line of a key log for connection n.
func keyLine(n int) string {
	return fmt.Sprintf("CLIENT_RANDOM %064x %s\n", n, strings.Repeat("ab", 48))
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A file of secrets is read as it grows: lines that were cut short when they
// were met, a file that is made anew, one that is gone for a while.
func TestKeyFileGrows(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keys")
	first := keyLine(1) + keyLine(2)
	writeFile(t, name, first+keyLine(3)[:99])
	keys := cleartext.NewKeyLog(0)
	f, err := OpenKeyFile(name, keys)
	if err != nil {
		t.Fatal(err)
	}
	f.OnError = func(err error) { t.Error(err) }
	want := func(n int) {
		t.Helper()
		if got := keys.Connections(); got != n {
			t.Errorf("secrets of %d connections, want %d", got, n)
		}
	}
	want(3) // the third's is cut short, and will be put right
	if f.offset != int64(len(first)) {
		t.Errorf("stands at %d, want at the line that is not complete, %d", f.offset, len(first))
	}
	writeFile(t, name, first+keyLine(3)+strings.Repeat("x", 200<<10)+"\n"+keyLine(4))
	f.refresh()
	want(4)
	f.refresh()
	writeFile(t, name, keyLine(5))
	f.refresh()
	want(5)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	f.refresh()
	writeFile(t, name, keyLine(6))
	f.refresh()
	want(6)
}

// A file that cannot be read is an error at the start, and told once later.
func TestKeyFileErrors(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "keys")
	if _, err := OpenKeyFile(name, cleartext.NewKeyLog(0)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := OpenKeyFile(dir, cleartext.NewKeyLog(0)); err == nil {
		t.Error("a directory was read")
	}
	writeFile(t, name, keyLine(1))
	f, err := OpenKeyFile(name, cleartext.NewKeyLog(0))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	f.OnError = func(error) { told++ }
	f.name = filepath.Join(name, "below a file")
	for range 3 {
		f.refresh()
	}
	if told != 1 {
		t.Errorf("told %d times, want once", told)
	}
}

// A live probe reads new secrets within a second or so, whether there are
// packets or not; one that reads files does not.
func TestLiveProbeFollowsItsKeyFile(t *testing.T) {
	for _, live := range []bool{true, false} {
		name := filepath.Join(t.TempDir(), "keys")
		writeFile(t, name, keyLine(1))
		synctest.Test(t, func(t *testing.T) {
			keys := cleartext.NewKeyLog(0)
			f, err := OpenKeyFile(name, keys)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			src := &list{live: true}
			p, err := New(Config{Live: live, Secrets: keys, KeyFile: f}, &collector{}, src)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- p.Run(ctx) }()
			time.Sleep(3 * time.Second)
			writeFile(t, name, keyLine(1)+keyLine(2))
			time.Sleep(keyFileEvery + 2*poll)
			want := 1
			if live {
				want = 2
			}
			if got := keys.Connections(); got != want {
				t.Errorf("live %t: secrets of %d connections, want %d", live, got, want)
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// Of the secrets in a capture file those of TLS are taken.
func TestTakeSecrets(t *testing.T) {
	name := filepath.Join(t.TempDir(), "capture")
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := capture.NewWriter(out, capture.PCAPNG, capture.Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	for kind, text := range map[uint32]string{capture.SecretsTLSKeyLog: keyLine(1), capture.SecretsTLSKeyLog + 1: keyLine(2)} {
		if err := w.WriteSecrets(kind, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := capture.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	keys := cleartext.NewKeyLog(0)
	TakeSecrets(f, keys)
	f.Next(new(capture.Packet))
	if got := keys.Connections(); got != 1 {
		t.Errorf("secrets of %d connections, want 1", got)
	}
}
