package jet

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// A bit that flips in a file of the engine never shows in a message: the message
// is passed over. After a crash, when the engine has to read its files again, more
// of them may be missing, and even the newest: what is in messages has to be
// numbered by whoever writes them.
func TestBitRot(t *testing.T) {
	const last, size = 10, 4096
	for _, victim := range []uint64{1, 5, last} {
		for _, crashed := range []bool{false, true} {
			dir := t.TempDir()
			srv := start(t, dir)
			s := open(t, srv, StreamConfig{})
			for n := range uint64(last) {
				insist(t, s, n+1, size)
			}
			srv.Stop()
			files, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "test", "msgs", "*"))
			if err != nil || len(files) < 2 {
				t.Fatal(files, err)
			}
			for _, file := range files {
				if filepath.Ext(file) != ".blk" {
					if crashed {
						os.Remove(file) // the index is written when the engine ends
					}
					continue
				}
				p, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				i := bytes.Index(p, message(victim, size))
				if i < 0 {
					t.Fatal("message not found in the file")
				}
				p[i+1000] ^= 1
				if err := os.WriteFile(file, p, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			srv = start(t, dir)
			s = open(t, srv, StreamConfig{})
			read := map[uint64]bool{}
			for n := range uint64(last) {
				m, err := s.Read(t.Context(), n+1)
				if errors.Is(err, ErrNone) {
					continue
				}
				if err != nil || !bytes.Equal(m.Data, message(m.Number, size)) {
					t.Fatalf("victim %d: message %d is not what was appended: %v", victim, m.Number, err)
				}
				read[m.Number] = true
			}
			if read[victim] {
				t.Errorf("victim %d was read", victim)
			}
			if !crashed && (len(read) != last-1 || s.last != last) {
				t.Errorf("victim %d: %d messages of %d are left, up to %d", victim, len(read), last, s.last)
			}
			insist(t, s, s.last+1, size)
			srv.Stop()
		}
	}
}
