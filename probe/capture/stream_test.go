package capture_test

import (
	"errors"
	"io"
	"os"
	"testing"

	"github.com/whorl-net/whorl/probe/capture"
)

// A slow pipe lends what is there, is idle in between, and ends with the file.
func TestStreamOfASlowPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	out, err := capture.NewWriter(w, capture.PCAP, capture.Ethernet)
	if err != nil {
		t.Fatal(err)
	}
	write := func(b byte) {
		t.Helper()
		if err := out.Write(&capture.Packet{Data: []byte{b, b, b}, Time: int64(b) * 1000, WireLength: 3, LinkType: capture.Ethernet}); err != nil {
			t.Fatal(err)
		}
	}
	file, err := capture.Read("pipe", r)
	if err != nil {
		t.Fatal(err)
	}
	s := capture.NewStream(file)
	defer s.Close()
	var p capture.Packet
	next := func() error {
		for range 20 { // idle at most two seconds: the machine may be busy
			if err := s.Next(&p); !errors.Is(err, capture.ErrIdle) {
				return err
			}
		}
		return capture.ErrIdle
	}
	for _, b := range []byte{1, 2} {
		write(b)
		if err := next(); err != nil || len(p.Data) != 3 || p.Data[0] != b || p.Time != int64(b)*1000 {
			t.Fatalf("packet %d: %+v, %v", b, p, err)
		}
	}
	if err := s.Next(&p); !errors.Is(err, capture.ErrIdle) {
		t.Fatalf("a silent pipe: %v, want ErrIdle", err)
	}
	for b := byte(3); b < 103; b++ {
		write(b)
	}
	if err := next(); err != nil || p.Data[0] != 3 { // what was written in one go comes in one go
		t.Fatalf("packet 3: %+v, %v", p, err)
	}
	for b := byte(4); b < 103; b++ {
		if err := next(); err != nil || p.Data[0] != b {
			t.Fatalf("packet %d: %+v, %v", b, p, err)
		}
	}
	write(103)
	w.Close()
	if err := next(); err != nil || p.Data[0] != 103 {
		t.Fatalf("the last packet: %+v, %v", p, err)
	}
	for range 2 {
		if err := next(); err != io.EOF {
			t.Fatalf("behind the end: %v, want io.EOF", err)
		}
	}
}

// A stream lends exactly what its file would.
func TestStreamEqualsFile(t *testing.T) {
	const sample = "../../examples/sample/sample.pcap"
	direct, err := capture.Open(sample)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	again, err := capture.Open(sample)
	if err != nil {
		t.Fatal(err)
	}
	s := capture.NewStream(again)
	defer s.Close()
	var a, b capture.Packet
	for n := 0; ; n++ {
		errA, errB := direct.Next(&a), s.Next(&b)
		for errors.Is(errB, capture.ErrIdle) {
			errB = s.Next(&b)
		}
		if errA != errB || errA == nil && (string(a.Data) != string(b.Data) || a.Time != b.Time || a.WireLength != b.WireLength || a.LinkType != b.LinkType) {
			t.Fatalf("packet %d: %v and %v, %+v and %+v", n, errA, errB, a, b)
		}
		if errA != nil {
			if n != 190 {
				t.Errorf("%d packets, want 190", n)
			}
			return
		}
	}
}

// Close ends a reader that waits, and later calls say so.
func TestStreamClose(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := capture.NewWriter(w, capture.PCAP, capture.Ethernet); err != nil {
		t.Fatal(err)
	}
	file, err := capture.Read("pipe", r)
	if err != nil {
		t.Fatal(err)
	}
	s := capture.NewStream(file)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var p capture.Packet
	if err := s.Next(&p); err == nil || errors.Is(err, capture.ErrIdle) {
		t.Errorf("after Close: %v, want an error", err)
	}
}
