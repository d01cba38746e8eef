package probe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whorl-net/whorl/ja4"
	"github.com/whorl-net/whorl/ja4/cleartext"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/handshake"
)

// oracleDir holds reference captures and what must come out of them; it lies
// beside the project.
const oracleDir = "../../shared/oracle"

func captures(t testing.TB) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(oracleDir, "captures", "*"))
	if err != nil || len(paths) == 0 {
		t.Skipf("no reference captures in %s", oracleDir)
	}
	return paths
}

// fingerprintsOf returns what Fingerprints emits for a capture file.
func fingerprintsOf(t testing.TB, path string, cfg Config) ([]handshake.Event, Totals) {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if cfg.Secrets != nil {
		TakeSecrets(f, cfg.Secrets)
	}
	var events []handshake.Event
	totals, err := Fingerprints(context.Background(), f, cfg, func(e *handshake.Event) error {
		events = append(events, *e)
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return events, totals
}

// writeEvents writes events as compare.py reads them.
func writeEvents(w io.Writer, events []handshake.Event) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	for i := range events {
		e := &events[i]
		line := map[string]any{
			"time":   time.Unix(0, e.Time).UTC().Format("2006-01-02T15:04:05.000000000Z"),
			"src_ip": e.Tuple.Src.String(), "src_port": e.Tuple.SrcPort,
			"dst_ip": e.Tuple.Dst.String(), "dst_port": e.Tuple.DstPort,
			"protocol": e.Tuple.Protocol.String(), "type": e.Type.String(), "value": e.Value,
			"packet_num": e.PacketNum,
		}
		if e.Raw != "" {
			line["raw"] = e.Raw
		}
		if err := enc.Encode(line); err != nil {
			return err
		}
	}
	return b.Flush()
}

// Every value of the reference captures comes out, in order, and no other.
func TestReferenceCaptures(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 to run the comparison")
	}
	paths := captures(t)
	dir := t.TempDir()
	types := ja4.AllTypes.With(ja4.TypeJA4O)
	for _, path := range paths {
		events, _ := fingerprintsOf(t, path, Config{Types: types, Secrets: cleartext.NewKeyLog(0)})
		out, err := os.Create(filepath.Join(dir, filepath.Base(path)+".jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(writeEvents(out, events), out.Close()); err != nil {
			t.Fatal(err)
		}
	}
	for _, options := range []string{"", "--strict", "--all", "--raw", "--all --strict --raw", "--strict --secrets --all", "--strict --secrets --all --raw"} {
		t.Run(fmt.Sprintf("compare%s", strings.ReplaceAll(options, " ", "")), func(t *testing.T) {
			args := append([]string{filepath.Join(oracleDir, "compare.py")}, strings.Fields(options)...)
			args = append(args, "--all-captures", filepath.Join(oracleDir, "expected"), dir)
			out, err := exec.Command(python, args...).CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			t.Log(lines[len(lines)-1])
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
