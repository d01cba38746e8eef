//go:build e2e

package test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Files that lie about lengths are refused with the file and the byte, and cost
// no memory.
func TestHostileFilesCostNothing(t *testing.T) {
	pcap := func(snaplen, captured uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
		b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		b = binary.LittleEndian.AppendUint32(b, snaplen)
		b = binary.LittleEndian.AppendUint32(b, 1)
		b = append(b, make([]byte, 8)...)
		b = binary.LittleEndian.AppendUint32(b, captured)
		return binary.LittleEndian.AppendUint32(b, captured)
	}
	section := func(length uint32) []byte {
		b := binary.LittleEndian.AppendUint32(nil, 0x0a0d0d0a)
		b = binary.LittleEndian.AppendUint32(b, length)
		b = binary.LittleEndian.AppendUint32(b, 0x1a2b3c4d)
		return append(b, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255)
	}
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"2 GB packet.pcap":     {pcap(0x7fffffff, 0x7fffffff), "byte"},
		"4 GB snap.pcap":       {pcap(0xffffffff, 0xfffffff0), "byte"},
		"768 MB block.pcapng":  {section(768 << 20), "byte"},
		"odd block.pcapng":     {section(13), "byte"},
		"nothing.pcap":         {nil, "empty"},
		"not a capture.pcap":   {[]byte("GIF89a, and no capture at all"), "not a capture"},
		"cut in the header":    {pcap(65535, 100)[:20], "truncated"},
		"cut in the packet":    {pcap(65535, 100), "truncated"},
		"gzip of nothing.pcap": {[]byte{0x1f, 0x8b, 8, 0}, "gzip"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(file, c.data, 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := whorl(t, "fp", file)
			r := finish(t, cmd)
			if r.code != 1 && r.code != 6 {
				t.Errorf("exit code %d, want 1 or 6", r.code)
			}
			if !strings.Contains(r.err, name) || !strings.Contains(r.err, c.want) {
				t.Errorf("error %q: want the file and …%s…", r.err, c.want)
			}
			if strings.Contains(r.err, "goroutine ") {
				t.Errorf("a stack reached the user:\n%s", r.err)
			}
			if kib := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; kib > 256<<10 {
				t.Errorf("%d KiB resident, want at most 256 MiB", kib)
			}
		})
	}
}

// Every truncation of the small captures ends with an error that names file and
// byte, or with success at a packet boundary; never with a panic.
func TestTruncatedSample(t *testing.T) {
	whole, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "cut.pcap")
	for n := 24; n < 1200; n += 37 {
		if err := os.WriteFile(file, whole[:n], 0o644); err != nil {
			t.Fatal(err)
		}
		r := run(t, "fp", file)
		if r.code != 0 && r.code != 6 || r.code == 6 && !strings.Contains(r.err, "cut.pcap: truncated: packet") {
			t.Errorf("cut at %d: exit code %d: %s", n, r.code, r.err)
		}
	}
}
