package selftest

import (
	_ "embed" // the vectors are part of the binary
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/whorl-net/whorl/ja4"
)

// The vectors, those of the BSD method apart from the others. Each file is a
// list of objects: name, source, ssh_window (0: the default), packets as
// "microseconds hex", and want: by type, [value, raw] or [value] in order.
var (
	//go:embed vectors/ja4.json
	fileJA4 []byte
	//go:embed vectors/ja4plus.json
	fileJA4Plus []byte
)

// Vector is packets and what must come out of them.
type Vector struct {
	// Name is unique, Source says in words where packets and values are from.
	Name, Source string
	// SSHWindow is the packets of a JA4SSH window; 0 is the default.
	SSHWindow int `json:"ssh_window"`
	// Packets are in order of capture.
	Packets []Packet
	// Want holds, by type, all fingerprints of that type in order. Types that
	// are not in it are not looked at.
	Want map[ja4.Type][]Fingerprint
}

// Packet is an IP packet and when it was captured.
type Packet struct {
	At time.Duration // since the Unix epoch
	IP []byte
}

// Fingerprint is a value and its raw form, empty when it has none.
type Fingerprint struct{ Value, Raw string }

// Vectors returns all embedded vectors. An error is a mistake in them.
func Vectors() ([]Vector, error) {
	var all []Vector
	for _, file := range [][]byte{fileJA4, fileJA4Plus} {
		var some []struct {
			Vector
			Want map[string][]Fingerprint // by the name of a type
		}
		if err := json.Unmarshal(file, &some); err != nil {
			return nil, fmt.Errorf("read the embedded vectors: %w", err)
		}
		for _, s := range some {
			v := s.Vector
			v.Want = make(map[ja4.Type][]Fingerprint, len(s.Want))
			for name, want := range s.Want {
				t, err := ja4.ParseType(name)
				if err != nil {
					return nil, fmt.Errorf("vector %q: %w", v.Name, err)
				}
				v.Want[t] = want
			}
			all = append(all, v)
		}
	}
	return all, nil
}

// UnmarshalText reads "microseconds hex".
func (p *Packet) UnmarshalText(text []byte) error {
	at, data, _ := strings.Cut(string(text), " ")
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return fmt.Errorf("time of a packet: %w", err)
	}
	p.At = time.Duration(micros) * time.Microsecond
	if p.IP, err = hex.DecodeString(data); err != nil {
		return fmt.Errorf("packet at %v: %w", p.At, err)
	}
	return nil
}

// UnmarshalJSON reads [value] or [value, raw].
func (f *Fingerprint) UnmarshalJSON(b []byte) error {
	var parts []string
	if err := json.Unmarshal(b, &parts); err != nil {
		return err
	}
	if len(parts) < 1 || len(parts) > 2 {
		return fmt.Errorf("fingerprint of %d parts: want a value, or value and raw form", len(parts))
	}
	*f = Fingerprint{Value: parts[0]}
	if len(parts) == 2 {
		f.Raw = parts[1]
	}
	return nil
}
