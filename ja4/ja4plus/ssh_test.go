package ja4plus

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/ja4"
)

func TestIsSSH(t *testing.T) {
	for payload, want := range map[string]bool{
		"SSH-2.0-OpenSSH_9.6\r\n": true, "SSH-": true, "SSH": false, "": false, "ssh-2.0": false, "xSSH-2.0": false,
	} {
		if got := IsSSH([]byte(payload)); got != want {
			t.Errorf("IsSSH(%q) = %v, want %v", payload, got, want)
		}
	}
}

// A window is full with the given number of packets that carry payload, both
// directions together; then all counts begin anew.
func TestSSHWindow(t *testing.T) {
	w := NewSSHWindow(4, BareACKs{Client: 1})
	type call struct {
		client  bool
		flags   uint8
		payload int
		want    string
	}
	for i, c := range []call{
		{true, 0x18, 21, ""},
		{false, 0x18, 41, ""},
		{true, 0x10, 0, ""},  // bare ACK
		{false, 0x10, 0, ""}, // bare ACK
		{false, 0x10, 0, ""}, // bare ACK
		{true, 0x11, 0, ""},  // FIN: no bare ACK
		{true, 0x90, 0, ""},  // CWR: not exactly ACK
		{true, 0x14, 0, ""},  // RST
		{false, 0x10, 36, ""},
		{false, 0x10, 41, "c21s41_c1s3_c2s2"},
		{true, 0x18, 36, ""},
		{true, 0x18, 36, ""},
		{true, 0x18, 36, ""},
		{true, 0x18, 100, "c36s0_c4s0_c0s0"},
		{false, 0x10, 0, ""},
	} {
		e, ok := w.Packet(c.client, c.flags, c.payload)
		if e.Value != c.want || ok != (c.want != "") {
			t.Errorf("packet %d = %+v, %v; want %q", i, e, ok, c.want)
		}
	}
	if e, ok := w.Flush(); ok {
		t.Errorf("Flush without an SSH packet = %+v", e)
	}
	w.Packet(false, 0x18, 76)
	if e, ok := w.Flush(); !ok || e != (ja4.Event{Type: ja4.TypeJA4SSH, Value: "c0s76_c0s1_c0s1"}) {
		t.Errorf("Flush = %+v, %v; want c0s76_c0s1_c0s1", e, ok)
	}
	if e, ok := w.Flush(); ok {
		t.Errorf("second Flush = %+v", e)
	}
}

// Of two lengths that are equally frequent the smaller one is the mode, in
// whichever order they came.
func TestSSHWindowTies(t *testing.T) {
	for _, lengths := range [][]int{{36, 52, 52, 36}, {52, 36, 36, 52}, {52, 36, 100}} {
		w := NewSSHWindow(0, BareACKs{})
		for _, n := range lengths {
			w.Packet(true, 0x18, n)
		}
		if e, _ := w.Flush(); !strings.HasPrefix(e.Value, "c36s0_") {
			t.Errorf("lengths %v give %s, want c36s0", lengths, e.Value)
		}
	}
}

// The window is 200 packets unless it is set, and has an upper bound.
func TestNewSSHWindow(t *testing.T) {
	for size, want := range map[int]int{0: 200, 1: 1, 10: 10, MaxSSHWindow: MaxSSHWindow, MaxSSHWindow + 1: MaxSSHWindow, -1: MaxSSHWindow} {
		w := NewSSHWindow(size, BareACKs{})
		n := 1
		for ; n < 2*MaxSSHWindow; n++ {
			if _, ok := w.Packet(n%2 == 0, 0x18, 36); ok {
				break
			}
		}
		if n != want {
			t.Errorf("NewSSHWindow(%d) is full after %d packets, want %d", size, n, want)
		}
	}
}

// The window against a slow, obvious count; memory stays within its bound.
func TestSSHWindowModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for round := range 60 {
		size := []int{DefaultSSHWindow, 30, MaxSSHWindow}[round%3]
		w := NewSSHWindow(size, BareACKs{})
		var counts [2]map[int]int
		var packets, acks [2]int
		reset := func() {
			counts = [2]map[int]int{{}, {}}
			packets, acks = [2]int{}, [2]int{}
		}
		mode := func(side int) (best int) {
			most := 0
			for n := range 1500 {
				if counts[side][n] > most {
					best, most = n, counts[side][n]
				}
			}
			return best
		}
		reset()
		spread := 1 + rng.IntN([]int{1499, 30, 3}[round/3%3])
		for range 5000 {
			side := rng.IntN(2)
			if rng.IntN(3) == 0 {
				acks[side]++
				w.Packet(side == 0, 0x10, 0)
				continue
			}
			n := 1 + rng.IntN(spread)
			counts[side][n]++
			packets[side]++
			e, ok := w.Packet(side == 0, 0x18, n)
			if full := packets[0]+packets[1] == size; full != ok {
				t.Fatalf("round %d: full %v, want %v", round, ok, full)
			}
			if ok {
				if want := fmt.Sprintf("c%ds%d_c%ds%d_c%ds%d", mode(0), mode(1), packets[0], packets[1], acks[0], acks[1]); e.Value != want {
					t.Fatalf("round %d: %s, want %s", round, e.Value, want)
				}
				reset()
			}
		}
		if held := w.Held(); size <= DefaultSSHWindow && held > 1024 {
			t.Errorf("%d bytes held, want at most 1 KiB", held)
		}
	}
}

// One length takes one entry, however often it comes.
func TestSSHWindowHoldsLengthsOnce(t *testing.T) {
	w := NewSSHWindow(0, BareACKs{})
	for range 199 {
		w.Packet(true, 0x18, 36)
	}
	if held := w.Held(); held > 2*sshBlock {
		t.Errorf("%d bytes held for one length", held)
	}
}

func TestSSHWindowSurvivesAbsurdLengths(t *testing.T) {
	w := NewSSHWindow(3, BareACKs{Client: 65535, Server: 65535})
	w.Packet(true, 0, 1<<40)
	w.Packet(true, 0, -5)
	if e, ok := w.Flush(); !ok || e.Value != "c65535s0_c1s0_c65535s65535" {
		t.Errorf("Flush = %+v, %v", e, ok)
	}
}

// A window holds next to nothing of the one before it, and nothing once it was
// flushed.
func TestSSHWindowLetsGo(t *testing.T) {
	w := NewSSHWindow(0, BareACKs{})
	for n := range 200 {
		w.Packet(true, 0x18, 100+n)
	}
	if held := w.Held(); held > sshBlock {
		t.Errorf("%d bytes held behind a full window, want at most %d", held, sshBlock)
	}
	if w.Packet(true, 0x18, 36); w.Held() != sshBlock {
		t.Errorf("%d bytes held for one length, want %d", w.Held(), sshBlock)
	}
	if w.Flush(); w.Held() != 0 {
		t.Errorf("%d bytes held behind a flush", w.Held())
	}
	w.Packet(true, 0x18, 36)
	if e, ok := w.Flush(); !ok || e.Value != "c36s0_c1s0_c0s0" {
		t.Errorf("Flush = %+v, %v", e, ok)
	}
}

// Bare ACKs are counted from the start of a connection and do not wrap.
func TestBareACKs(t *testing.T) {
	var a BareACKs
	a.Packet(true, 0x02, 0)
	a.Packet(false, 0x12, 0)
	a.Packet(true, 0x10, 0)
	a.Packet(true, 0x10, 5)
	a.Packet(true, 0x18, 0)
	a.Packet(false, 0x10, 0)
	if a != (BareACKs{1, 1}) {
		t.Errorf("%+v, want 1 and 1", a)
	}
	for range 1 << 17 {
		a.Packet(true, 0x10, 0)
		a.Packet(false, 0x10, 0)
	}
	if a != (BareACKs{65535, 65535}) {
		t.Errorf("%+v, want 65535 each", a)
	}
}

// Established sessions allocate nothing between two values.
func TestSSHWindowDoesNotAllocate(t *testing.T) {
	w := NewSSHWindow(MaxSSHWindow, BareACKs{})
	for i := range 10 {
		w.Packet(true, 0x18, 36+16*i)
	}
	i := 0
	if n := testing.AllocsPerRun(100, func() {
		w.Packet(true, 0x18, 36+16*(i%10))
		w.Packet(false, 0x10, 0)
		i++
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestSSHSession(t *testing.T) {
	tests := []struct {
		value       string
		want        string
		interactive bool
	}{
		{"c36s36_c55s75_c70s0", SSHSessionInteractive, true},
		{"c36s36_c55s75_c60s0", SSHSessionUnknown, true},
		{"c76s76_c71s59_c0s70", SSHSessionReverse, false},
		{"c76s76_c71s59_c0s60", SSHSessionUnknown, false},
		{"c112s1460_c0s179_c21s0", SSHSessionDownload, false},
		{"c112s1460_c13s187_c35s0", SSHSessionDownload, false},
		{"c0s1460_c0s200_c23s0", SSHSessionDownload, false},
		{"c112s1460_c20s180_c35s0", SSHSessionUnknown, false},
		{"c0s1460_c0s53_c6s0", SSHSessionUnknown, false},
		{"c1460s112_c187s13_c0s35", SSHSessionUpload, false},
		{"c112s1460_c52s148_c41s4", SSHSessionUnknown, false},
		{"c36s52_c42s76_c0s0", SSHSessionUnknown, false},
		{"c64s64_c90s110_c80s2", SSHSessionUnknown, true},
		{"c52s68_c90s110_c80s2", SSHSessionUnknown, true},
		{"c51s68_c90s110_c80s2", SSHSessionUnknown, false},
		{"c69s69_c90s110_c80s2", SSHSessionUnknown, false},
		{"c64s64_c90s110_c2s80", SSHSessionUnknown, false},
		{"c64s64_c90s110_c2s2", SSHSessionUnknown, false},
		{"c0s0_c90s110_c80s2", SSHSessionUnknown, false},
		{"", "", false},
		{"c36s36_c55s75", "", false},
		{"c36s36_c55s75_c70s0x", "", false},
		{"c36s36_c55s75_c70s", "", false},
		{"c36s36c55s75_c70s0", "", false},
		{"c-1s36_c55s75_c70s0", "", false},
		{"c99999999999s36_c55s75_c70s0", "", false},
		{"t13d1516h2_8daaf6152771_02713d6af862", "", false},
	}
	for _, tt := range tests {
		if got := SSHSessionType(tt.value); got != tt.want {
			t.Errorf("SSHSessionType(%s) = %q, want %q", tt.value, got, tt.want)
		}
		if got := SSHInteractive(tt.value); got != tt.interactive {
			t.Errorf("SSHInteractive(%s) = %v, want %v", tt.value, got, tt.interactive)
		}
	}
}

// Any text is answered, and what a window emits is always understood.
func FuzzSSHSession(f *testing.F) {
	f.Add("c36s36_c55s75_c70s0", true, 5)
	f.Fuzz(func(t *testing.T, value string, fromClient bool, payload int) {
		fuzzguard.Watch(t)
		SSHSessionType(value)
		SSHInteractive(value)
		w := NewSSHWindow(1, BareACKs{})
		if e, ok := w.Packet(fromClient, 0x18, payload); ok == (payload <= 0) || ok && SSHSessionType(e.Value) == "" {
			t.Errorf("Packet(%v, %d) = %+v, %v", fromClient, payload, e, ok)
		}
	})
}

// BenchmarkSSHWindow: one packet with payload among ten lengths.
func BenchmarkSSHWindow(b *testing.B) {
	w := NewSSHWindow(0, BareACKs{})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Packet(i&1 == 0, 0x18, 36+16*(i%10))
		i++
	}
}
