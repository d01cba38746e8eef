//go:build e2e

package clients

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write NAME.want from tshark's dissection")

// event is one fingerprint, as it was demanded or printed.
type event struct {
	src, dst         netip.AddrPort
	kind, value, raw string
}

func (e event) String() string {
	return strings.TrimRight(fmt.Sprintf("%v %v %s %s %s", e.src, e.dst, e.kind, e.value, e.raw), " ")
}

// command is the whorl binary under test: WHORL_BIN, or built once into scratch.
var command = sync.OnceValues(func() (string, error) {
	if b := os.Getenv("WHORL_BIN"); b != "" {
		return b, nil
	}
	b := filepath.Join(scratch, "whorl")
	if out, err := exec.Command("go", "build", "-o", b, "../../cmd/whorl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build whorl: %w\n%s", err, out)
	}
	return b, nil
})

// scratch is a folder that lasts as long as the tests.
var scratch string

func TestMain(m *testing.M) {
	flag.Parse()
	var err error
	if scratch, err = os.MkdirTemp("", "whorl-clients"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// whorl runs whorl fp and returns what it printed, in its order.
func whorl(t testing.TB, args ...string) []event {
	t.Helper()
	b, err := command()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(b, append([]string{"fp", "-o", "jsonl"}, args...)...)
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("whorl fp %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	}
	var events []event
	for line := range bytes.Lines(out.Bytes()) {
		var row struct {
			SrcIP   netip.Addr `json:"src_ip"`
			SrcPort uint16     `json:"src_port"`
			DstIP   netip.Addr `json:"dst_ip"`
			DstPort uint16     `json:"dst_port"`
			Type    string     `json:"type"`
			Value   string     `json:"value"`
			Raw     string     `json:"raw"`
		}
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatalf("whorl fp printed %q: %v", line, err)
		}
		events = append(events, event{netip.AddrPortFrom(row.SrcIP, row.SrcPort), netip.AddrPortFrom(row.DstIP, row.DstPort), row.Type, row.Value, row.Raw})
	}
	return events
}

// demanded works out what a recording demands, from tshark's dissection alone.
func demanded(t testing.TB, file, keys string) (events []event) {
	t.Helper()
	var order []*conversation
	known := map[[2]netip.AddrPort]*conversation{}
	frames := dissect(t, file, keys)
	for i := range frames {
		f := &frames[i]
		// A message of DHCP stands for itself, under its own addresses.
		if d := dhcpEvents(t, f); d != nil {
			for _, e := range d {
				e.src, e.dst = f.src, f.dst
				events = append(events, e)
			}
			continue
		}
		c := cmp.Or(known[[2]netip.AddrPort{f.src, f.dst}], known[[2]netip.AddrPort{f.dst, f.src}])
		if c == nil {
			c = &conversation{client: f.src, server: f.dst, tcp: f.tcp}
			known[[2]netip.AddrPort{f.src, f.dst}] = c
			order = append(order, c)
		}
		if f.tcp {
			c.packet(t, f)
		} else {
			c.quic(f)
		}
		c.events = append(c.events, tlsEvents(t, f)...)
		c.events = append(c.events, httpEvents(t, f)...)
	}
	for _, c := range order {
		c.finish()
		for _, e := range c.events {
			e.src, e.dst = c.client, c.server
			events = append(events, e)
		}
	}
	return events
}

// sorted puts events into the order of NAME.want: by addresses and type; those
// of one type stay in the order of time.
func sorted(events []event) []event {
	slices.SortStableFunc(events, func(a, b event) int {
		return cmp.Or(a.src.Compare(b.src), a.dst.Compare(b.dst), cmp.Compare(a.kind, b.kind))
	})
	return events
}

func lines(events []event) string {
	var b strings.Builder
	for _, e := range sorted(events) {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}

// differ reports lines that are in one of two texts only.
func differ(t *testing.T, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	var b strings.Builder
	for _, l := range w {
		if !slices.Contains(g, l) {
			fmt.Fprintf(&b, "\n  missing    %s", l)
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			fmt.Fprintf(&b, "\n  unexpected %s", l)
		}
	}
	if b.Len() == 0 {
		fmt.Fprintf(&b, "\n  in another order or number:\n%s\n  want:\n%s", got, want)
	}
	t.Errorf("%s:%s", what, b.String())
}

// recordings lists the captures of recordings/, or of $WHORL_RECORDINGS, where
// record.sh may have put fresh ones.
func recordings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(cmp.Or(os.Getenv("WHORL_RECORDINGS"), "recordings"), "*.pcap"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recordings: %v", err)
	}
	return files
}

// with returns the name of a file beside a recording, or "" if it is not there.
func with(file, suffix string) string {
	name := strings.TrimSuffix(file, ".pcap") + suffix
	if _, err := os.Stat(name); err != nil {
		return ""
	}
	return name
}

// A variant is a way to look at a recording: as it is, or with its secrets.
type variant struct{ name, want string }

var variants = []variant{{"as it is", ".want"}, {"with secrets", ".keys.want"}}

// each runs check for each recording in each variant it has.
func each(t *testing.T, check func(t *testing.T, file, keys, want string)) {
	for _, v := range variants {
		for _, f := range recordings(t) {
			keys := ""
			if v.want == ".keys.want" {
				if keys = with(f, ".keys"); keys == "" {
					continue
				}
			}
			name := strings.TrimSuffix(f, ".pcap")
			t.Run(filepath.Base(name)+" "+v.name, func(t *testing.T) { check(t, f, keys, name+v.want) })
		}
	}
}

// What is demanded of Whorl follows from tshark's dissection, field by field.
func TestWantFollowsFromTshark(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed: NAME.want is taken as it is")
	}
	each(t, func(t *testing.T, file, keys, name string) {
		t.Parallel() // tshark takes its time to start
		want := lines(demanded(t, file, keys))
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			return
		}
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("%v: -update writes it", err)
		}
		differ(t, name, string(committed), want)
	})
}

// whorl fp prints, of each real program, the fingerprints that the wire demands
// and no others; with the secrets of a client also those inside its TLS.
func TestRealClients(t *testing.T) {
	b, err := command()
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.Command(b, "fp", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	opens := bytes.Contains(help, []byte("--keylog"))
	each(t, func(t *testing.T, file, keys, name string) {
		args := []string{file}
		if keys != "" {
			if !opens {
				t.Skip("whorl fp has no --keylog")
			}
			args = append(args, "--keylog", keys)
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatalf("%v: TestWantFollowsFromTshark -update writes it", err)
		}
		differ(t, file, lines(whorl(t, args...)), string(want))
	})
}

// Each kind of client is among the recordings, and each type among what they
// demand: a recording that went missing is not a test that passed.
func TestRecordingsShowEveryType(t *testing.T) {
	seen := map[string]int{}
	for _, f := range recordings(t) {
		want, err := os.Open(strings.TrimSuffix(f, ".pcap") + ".want")
		if err != nil {
			t.Fatal(err)
		}
		for sc := bufio.NewScanner(want); sc.Scan(); {
			fields := strings.Fields(sc.Text())
			seen[fields[2]]++
			if fields[2] == "ja4" {
				seen[fields[3][:3]]++ // transport and version
			}
		}
		want.Close()
	}
	for _, kind := range []string{"ja4", "ja4s", "ja4h", "ja4x", "ja4l", "ja4ls", "ja4t", "ja4ts", "ja4ssh", "ja4d", "ja4d6", "t10", "t12", "t13", "q13", "dd2", "dd3"} {
		if seen[kind] == 0 {
			t.Errorf("no recording demands %s", kind)
		}
	}
	t.Logf("%v", seen)
}

// The recordings hold the traffic of their two namespaces and nothing else:
// every address is one of documentation, of a link, or of no one yet.
func TestRecordingsHoldTheirNamespacesAlone(t *testing.T) {
	var ours []netip.Prefix
	for _, p := range []string{"192.0.2.0/24", "0.0.0.0/32", "255.255.255.255/32", "2001:db8::/64", "fe80::/10", "ff02::1:2/128"} {
		ours = append(ours, netip.MustParsePrefix(p))
	}
	for _, file := range recordings(t) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		const header, record = 24, 16
		if len(b) < header || !bytes.Equal(b[:4], []byte{0xd4, 0xc3, 0xb2, 0xa1}) || b[20] != 1 {
			t.Errorf("%s: not a capture of Ethernet as tcpdump writes it", file)
			continue
		}
		for b = b[header:]; len(b) >= record; {
			n := int(binary.LittleEndian.Uint32(b[8:]))
			packet := b[record : record+n]
			b = b[record+n:]
			at, size := 26, 4 // IPv4: where its source is, how long an address is
			if packet[12] == 0x86 && packet[13] == 0xdd {
				at, size = 22, 16
			}
			for _, raw := range [][]byte{packet[at : at+size], packet[at+size : at+2*size]} {
				addr, _ := netip.AddrFromSlice(raw)
				if !slices.ContainsFunc(ours, func(p netip.Prefix) bool { return p.Contains(addr) }) {
					t.Errorf("%s: an address of somebody else: %v", file, addr)
				}
			}
		}
	}
}
