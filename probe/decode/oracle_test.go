package decode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/probe/capture"
)

// oracleDir holds captures with what must come out of them. It is no part of
// the repository.
const oracleDir = "../../../shared/oracle"

type oracle struct {
	name        string
	Packets     uint64 `json:"packets"`
	WireBytes   uint64 `json:"wire_bytes"`
	Totals      *bool  `json:"per_connection_totals"`
	Connections []struct {
		Transport string `json:"transport"`
		SrcIP     string `json:"src_ip"`
		SrcPort   uint16 `json:"src_port"`
		DstIP     string `json:"dst_ip"`
		DstPort   uint16 `json:"dst_port"`
		Packets   uint64 `json:"packets"`
		WireBytes uint64 `json:"wire_bytes"`
	} `json:"connections"`
}

func (o *oracle) capture(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(oracleDir, "captures", o.name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func oracles(t *testing.T) (all []oracle) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(oracleDir, "expected", "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("no reference captures beside the project")
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		o := oracle{name: strings.TrimSuffix(filepath.Base(file), ".json")}
		if err := json.Unmarshal(b, &o); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, o)
	}
	return all
}

type sums struct{ packets, bytes uint64 }

// connections decodes a whole capture and sums up every connection, held
// fragments included.
func connections(t *testing.T, d *Decoder, data []byte) (map[flow.Key]sums, error) {
	t.Helper()
	all := make(map[flow.Key]sums)
	f, err := capture.Read("test", bytes.NewReader(data))
	if err != nil {
		return all, err
	}
	var in capture.Packet
	var out Packet
	for {
		if err := f.Next(&in); err != nil {
			return all, err
		}
		if d.Decode(&in, &out) != Tracked {
			continue
		}
		key, _ := out.Tuple.Key()
		s := all[key]
		s.packets++
		s.bytes += uint64(out.WireLength)
		for _, h := range out.Held {
			s.packets++
			s.bytes += uint64(h.WireLength)
		}
		all[key] = s
	}
}

// Connections, packets and wire bytes are those of the reference.
func TestOracleConnections(t *testing.T) {
	for _, o := range oracles(t) {
		t.Run(o.name, func(t *testing.T) {
			d := New(Config{})
			all, err := connections(t, d, o.capture(t))
			if err != io.EOF {
				t.Fatal(err)
			}
			got := make(map[string]sums)
			for key, s := range all {
				if key.Protocol == flow.TCP || key.Protocol == flow.UDP {
					got[key.String()] = s
				}
			}
			want := make(map[string]sums)
			for _, c := range o.Connections {
				protocol, err := flow.ParseProtocol(c.Transport)
				if err != nil {
					t.Fatal(err)
				}
				tuple := flow.Tuple{
					Src: flow.AddrFrom(netip.MustParseAddr(c.SrcIP)), SrcPort: c.SrcPort,
					Dst: flow.AddrFrom(netip.MustParseAddr(c.DstIP)), DstPort: c.DstPort, Protocol: protocol,
				}
				key, _ := tuple.Key()
				want[key.String()] = sums{c.Packets, c.WireBytes}
			}
			if o.Totals != nil && !*o.Totals {
				if len(got) != len(want) {
					t.Errorf("%d connections, want %d", len(got), len(want))
				}
			} else if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
				t.Errorf("connections\n%s\nwant\n%s", g, w)
			}
			stats := d.Stats()
			if stats.Packets != o.Packets || stats.Bytes != o.WireBytes {
				t.Errorf("%d packets, %d bytes; want %d, %d", stats.Packets, stats.Bytes, o.Packets, o.WireBytes)
			}
			if stats.Undecodable() != 0 || stats.FragmentsWaiting != 0 {
				t.Errorf("not all was decoded: %+v", stats)
			}
			checkSum(t, stats)
		})
	}
}

// No capture with flipped bits, and none cut short anywhere, makes the reader or
// the decoder panic or lose count.
func TestOracleMutations(t *testing.T) {
	for _, o := range oracles(t) {
		t.Run(o.name, func(t *testing.T) {
			whole := o.capture(t)
			flips := 200
			if testing.Short() {
				flips = 20
			}
			seed := uint64(len(whole))
			random := rand.New(rand.NewPCG(seed, 1))
			for i := range flips {
				data := bytes.Clone(whole)
				for range 1 + random.IntN(8) {
					bit := random.IntN(len(data) * 8)
					data[bit/8] ^= 1 << (bit % 8)
				}
				d := New(Config{})
				if _, err := connections(t, d, data); err == nil {
					t.Fatalf("flip %d, seed %d: the reader did not end", i, seed)
				}
				checkSum(t, d.Stats())
			}
			if len(whole) >= 4<<10 {
				return
			}
			for n := range whole {
				d := New(Config{})
				_, err := connections(t, d, whole[:n])
				switch {
				case err == io.EOF, errors.Is(err, capture.ErrTruncated):
				case n < 4 && errors.Is(err, capture.ErrNotCapture):
				default:
					t.Fatalf("cut at %d: %v", n, err)
				}
				checkSum(t, d.Stats())
			}
		})
	}
}

// checkSum fails unless every packet is counted exactly once and none made the
// decoder panic.
func checkSum(t *testing.T, s Stats) {
	t.Helper()
	sum := s.FragmentsIncomplete + s.FragmentsWaiting
	for _, n := range s.Verdicts {
		sum += n
	}
	if sum != s.Packets || s.Verdicts[Held] != 0 || s.Verdicts[Fault] != 0 {
		t.Fatalf("%d packets, but the counters add up to %d: %+v", s.Packets, sum, s)
	}
}
