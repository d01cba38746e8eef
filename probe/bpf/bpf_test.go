package bpf_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	xbpf "golang.org/x/net/bpf"

	"github.com/whorl-net/whorl/internal/fuzzguard"
	"github.com/whorl-net/whorl/probe/bpf"
	"github.com/whorl-net/whorl/probe/capture"
)

// filters are sentences that both we and tcpdump compile.
var filters = []string{
	"ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "not tcp", "vlan", "vlan 7", "vlan and tcp", "vlan 7 and vlan 9 and udp port 53",
	"host 10.0.0.1", "src host 10.0.0.1", "dst host 10.0.0.2", "host 2001:db8::1", "src host 2001:db8::1", "dst host 2001:db8::2",
	"net 10.0.0.0/8", "src net 10.0.0.0/30", "dst net 10.0.0.0/24", "net 2001:db8::/32", "src net 2001:db8::/125", "dst net 2001:db8::/64",
	"port 53", "src port 53", "dst port 443", "tcp port 443", "udp src port 53", "udp dst port 53", "portrange 1-1024", "tcp portrange 50-60",
	"udp src portrange 50-53", "dst portrange 443-443",
	"tcp port 443 and not host 10.0.0.1", "not (tcp or udp)", "tcp or udp and port 53", "tcp and port 53 or icmp",
	"src net 10.0.0.0/30 and (port 53 or dst port 443)", "not (vlan and tcp)", "tcp or (vlan and udp)", "vlan and (ip6 or host 10.0.0.2)",
	"(src host 10.0.0.1 and dst host 10.0.0.2) or (src host 2001:db8::1 and udp)", "! arp && (ip || ip6)",
}

var links = map[capture.LinkType]string{
	capture.Ethernet: "EN10MB", capture.Raw: "RAW", capture.Null: "NULL", capture.LinuxSLL: "LINUX_SLL", capture.SLL2: "LINUX_SLL2",
}

// packet builds a frame whose header fields come from a small set, so that
// filters match often enough; everything else is random.
func packet(r *rand.Rand, link capture.LinkType) []byte {
	pick := func(v ...int) int { return v[r.IntN(len(v))] }
	var b []byte
	u16 := func(v int) { b = binary.BigEndian.AppendUint16(b, uint16(v)) }
	proto := pick(0x0800, 0x0800, 0x86dd, 0x86dd, 0x0806, 0x8035, 0x88cc)
	switch link {
	case capture.Ethernet:
		b = append(b, make([]byte, 12)...)
		for range pick(0, 0, 1, 2) {
			u16(pick(0x8100, 0x88a8, 0x9100))
			u16(pick(7, 9, 0x2007))
		}
		u16(proto)
	case capture.LinuxSLL:
		b = append(b, make([]byte, 14)...)
		u16(proto)
	case capture.SLL2:
		u16(proto)
		b = append(b, make([]byte, 18)...)
	case capture.Null:
		// tcpdump without a file knows only this system's AF_INET6.
		family := uint32(pick(2, 10, 7))
		proto = map[uint32]int{2: 0x0800, 10: 0x86dd}[family]
		b = binary.LittleEndian.AppendUint32(b, family)
	}
	ports := func() { u16(pick(53, 443, 1024, 1025, 51, 5353)); u16(pick(53, 443, 80, 60)) }
	switch proto {
	case 0x0800:
		ihl := pick(5, 5, 6)
		b = append(b, byte(0x40|ihl), 0)
		u16(60)
		u16(1)
		u16(pick(0, 0x2000, 0x4000, 100))
		b = append(b, 64, byte(pick(1, 6, 17, 132, 47)), 0, 0, 10, 0, byte(pick(0, 1)), byte(pick(1, 2, 7)), 10, 0, 0, byte(pick(1, 2, 9)))
		b = append(b, make([]byte, (ihl-5)*4)...)
		ports()
	case 0x86dd:
		b = append(b, 0x60, 0, 0, 0, 0, 20, byte(pick(6, 17, 44, 58, 132, 0)), 64)
		for range 2 {
			b = append(b, 0x20, 0x01, 0x0d, byte(pick(0xb8, 0xb8, 0xb9)), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(pick(1, 2, 9)))
		}
		if r.IntN(3) == 0 {
			b = append(b, byte(pick(6, 17, 58)), 0, 0, 0)
		}
		ports()
	default:
		b = append(b, 0, 1, 8, 0, 6, 4, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, byte(pick(1, 2)), 0, 0, 0, 0, 0, 0, 10, 0, 0, byte(pick(1, 2)))
	}
	for range 24 {
		b = append(b, byte(r.Uint32()))
	}
	if r.IntN(10) == 0 {
		b = b[:r.IntN(len(b))]
	}
	return b
}

func machine(t *testing.T, prog []xbpf.Instruction) *xbpf.VM {
	t.Helper()
	vm, err := xbpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// Every filter means to us what it means to tcpdump, packet by packet, on
// every link type both know.
func TestMeansWhatTcpdumpMeans(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("tcpdump is not installed: no reference to compare with")
	}
	for link, name := range links {
		for _, filter := range filters {
			if link != capture.Ethernet && strings.Contains(filter, "vlan") {
				continue // tcpdump refuses most of these
			}
			if link == capture.Raw && strings.Contains(filter, "arp") {
				continue
			}
			out, err := exec.Command(tcpdump, "-y", name, "-ddd", filter).Output()
			if err != nil {
				// Some builds of tcpdump open an interface first; -y needs none with -r.
				t.Skipf("tcpdump -y %s -ddd %q: %v", name, filter, err)
			}
			want, err := bpf.Parse(strings.NewReader(string(out)))
			if err != nil {
				t.Fatalf("tcpdump -y %s -ddd %q: %v", name, filter, err)
			}
			got, err := bpf.Compile(filter, link, false)
			if err != nil {
				t.Fatalf("%q on %s: %v", filter, name, err)
			}
			reference, ours := machine(t, want), machine(t, got)
			r := rand.New(rand.NewPCG(1, uint64(link)))
			matched := 0
			for range 8000 {
				p := packet(r, link)
				w, _ := reference.Run(p)
				g, _ := ours.Run(p)
				if (w > 0) != (g > 0) {
					t.Fatalf("%q on %s: %x: got %v, want %v", filter, name, p, g > 0, w > 0)
				}
				if g > 0 {
					matched++
				}
			}
			if matched == 0 && link == capture.Ethernet {
				t.Errorf("%q on %s matched none of the packets: the comparison shows nothing", filter, name)
			}
		}
	}
}

// What is not known is refused with its column; nothing is guessed.
func TestRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range []struct {
		filter  string
		column  int
		problem string
	}{
		{"tcp and less 100", 9, `"less" is not supported`},
		{"ip proto 6", 4, `"proto" is not supported`},
		{"tcp[13] = 2", 1, `"tcp[13]" is not supported`},
		{"host example.org", 6, "not an IP address"},
		{"net 10.0.0.1/8", 5, "did you mean 10.0.0.0/8"},
		{"port http", 6, "not a port number"},
		{"port 70000", 6, "not a port number"},
		{"portrange 9-2", 11, "not a range"},
		{"tcp udp", 5, `unexpected "udp"`},
		{"tcp and", 8, "the filter ends"},
		{"(tcp", 5, "the filter ends"},
		{"tcp)", 4, `has no "("`},
		{"vlan 5000", 6, "not 0 to 4095"},
		{"src tcp", 5, "unexpected"},
		{"tcp src host 10.0.0.1", 9, `want "port"`},
		{"ip host 10.0.0.1", 4, `unexpected "host"`},
		{"not", 4, "the filter ends"},
		{"b.pcap", 1, `"b.pcap" is not supported`},
	} {
		_, err := bpf.Compile(c.filter, capture.Ethernet, false)
		var e *bpf.Error
		if !errors.As(err, &e) {
			t.Errorf("%q: %v, want a *bpf.Error", c.filter, err)
			continue
		}
		if e.Column != c.column || !strings.Contains(e.Problem, c.problem) {
			t.Errorf("%q: column %d: %s; want column %d: …%s…", c.filter, e.Column, e.Problem, c.column, c.problem)
		}
	}
}

// A VLAN tag is looked for where there can be one only.
func TestVLANNeedsEthernet(t *testing.T) {
	_, err := bpf.Compile("tcp and not vlan 7", capture.Null, false)
	var e *bpf.Error
	if !errors.As(err, &e) || e.Column != 13 {
		t.Fatalf("vlan on null: %v, want a *bpf.Error at the word", err)
	}
}

// An empty filter accepts everything; a filter too large for the kernel is
// refused, and one beyond the reach of short jumps still works.
func TestSize(t *testing.T) {
	if prog, err := bpf.Compile("  ", capture.Ethernet, false); err != nil || prog != nil {
		t.Errorf("empty filter: %v, %v; want no program", prog, err)
	}
	many := func(n int) string {
		var w []string
		for i := range n {
			w = append(w, fmt.Sprintf("tcp port %d", 1000+i))
		}
		return strings.Join(w, " or ")
	}
	prog, err := bpf.Compile(many(60), capture.Ethernet, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(prog) < 600 {
		t.Fatalf("%d instructions: too few to need long jumps", len(prog))
	}
	p := append(make([]byte, 12), 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	p = append(binary.BigEndian.AppendUint16(p, 5), 0, 0) // source port 5, destination below
	vm := machine(t, prog)
	for port, want := range map[uint16]bool{1000: true, 1059: true, 1060: false} {
		binary.BigEndian.PutUint16(p[36:], port)
		if n, err := vm.Run(p); err != nil || (n > 0) != want {
			t.Errorf("port %d: %v, %v; want %v", port, n > 0, err, want)
		}
	}
	if _, err := bpf.Compile(many(600), capture.Ethernet, false); err == nil || !strings.Contains(err.Error(), "the kernel takes 4096") {
		t.Errorf("600 ports: %v, want a refusal", err)
	}
}

// A program from outside that is malformed is refused with its line.
func TestParseProgram(t *testing.T) {
	if prog, err := bpf.Parse(strings.NewReader("2\n40 0 0 12\n6 0 0 262144\n")); err != nil || len(prog) != 2 {
		t.Errorf("two instructions: %v, %v", prog, err)
	}
	for _, c := range []struct{ in, want string }{
		{"", "line 1: no number"},
		{"x\n", "line 1"},
		{"-3\n", "line 1"},
		{"99999\n", "line 1"},
		{"2\n40 0 0 12\n", "after line 2: 1 of the 2"},
		{"1\n40 0 0 12\n6 0 0 1\n", "line 3: more than"},
		{"1\n40 0 0\n", "line 2"},
		{"1\n65535 0 0 0\n", "instruction 1 is none"},
	} {
		if _, err := bpf.Parse(strings.NewReader(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want …%s…", c.in, err, c.want)
		}
	}
}

// A filter follows the link types of a file that mixes them.
func TestFilterFollowsLinkType(t *testing.T) {
	f, err := bpf.NewFilter("icmp")
	if err != nil {
		t.Fatal(err)
	}
	ip := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 0, 0, 0}
	eth := append(append(make([]byte, 12), 8, 0), ip...)
	for _, c := range []struct {
		link capture.LinkType
		data []byte
		want bool
	}{{capture.Ethernet, eth, true}, {capture.Raw, ip, true}, {capture.Raw, eth, false}, {capture.Ethernet, eth, true}, {9999, eth, false}} {
		if got := f.Match(&capture.Packet{Data: c.data, LinkType: c.link}); got != c.want {
			t.Errorf("link type %d: %v, want %v", c.link, got, c.want)
		}
	}
	if f.Err() == nil {
		t.Error("link type 9999 left no error")
	}
	var none *bpf.Filter
	if !none.Match(&capture.Packet{}) {
		t.Error("no filter refuses a packet")
	}
}

// Whatever is typed either compiles to a program the machine accepts, or is
// refused with a column inside the text or just behind it.
func FuzzCompile(f *testing.F) {
	for _, s := range filters {
		f.Add(s)
	}
	f.Add("((((tcp")
	f.Fuzz(func(t *testing.T, s string) {
		fuzzguard.Watch(t)
		for _, live := range []bool{false, true} {
			prog, err := bpf.Compile(s, capture.Ethernet, live)
			if err != nil {
				var e *bpf.Error
				if !errors.As(err, &e) || e.Column < 1 || (len(s) < 1000 && e.Column > len(s)+1) {
					t.Fatalf("%q: %v", s, err)
				}
				continue
			}
			if prog == nil {
				continue
			}
			if _, err := xbpf.Assemble(prog); err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			if !live {
				if _, err := xbpf.NewVM(prog); err != nil {
					t.Fatalf("%q: %v", s, err)
				}
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("2\n40 0 0 12\n6 0 0 262144\n")
	f.Fuzz(func(t *testing.T, s string) {
		fuzzguard.Watch(t)
		prog, err := bpf.Parse(strings.NewReader(s))
		if err == nil && len(prog) == 0 {
			t.Fatalf("%q: no program and no error", s)
		}
	})
}
