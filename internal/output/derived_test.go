package output

import (
	"encoding/csv"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// The columns of the CSV of a connection can be named, each, and say the same.
func TestColumnsOfTheCSVAreFields(t *testing.T) {
	c := connection()
	c.Anomalies = append(c.Anomalies, &whorlv1.Anomaly{Rule: "port-scan"})
	kind := Connections(Clock{})
	for _, column := range kind.CSV {
		sel, err := kind.Schema.Select([]string{column.Name})
		if err != nil {
			t.Errorf("%s: %v", column.Name, err)
			continue
		}
		if column.Name == "anomalies" || column.Name == "table_matches" || column.Name == "network" {
			continue // whole objects, in the one place; left out when default, in the other
		}
		got, err := csv.NewReader(strings.NewReader(shown(t, kind, Options{Format: CSV, Select: sel}, c))).ReadAll()
		want := [][]string{{column.Name}, {column.Cell(c)}}
		if want[1][0] == "" {
			want = want[:1] // a reader skips the empty line
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("--fields %s: %q, %v; want %q", column.Name, got, err, want)
		}
	}
	if sel, _ := kind.Schema.Select([]string{"id", "ja4", "anomaly_rules", "ja4.x"}); sel != nil {
		t.Error("ja4.x was taken for a field")
	}
}

// A derived field is shown where it is named, of an eviction too, and nowhere
// else; what it is made of is asked for.
func TestDerivedFields(t *testing.T) {
	c := connection()
	kind := Connections(Clock{})
	if all := shown(t, kind, Options{Format: JSONL}, c); strings.Contains(all, `"ja4":"`) {
		t.Errorf("%s: a derived field that nobody named", all)
	}
	sel, err := kind.Schema.Select([]string{"ja4", "id", "ja4h"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := shown(t, kind, Options{Format: JSONL, Select: sel}, c), `{"id":"`+c.GetId()+`","ja4":"b"}`+"\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if top := strings.Join(sel.Top(), ","); top != "fingerprints,id" {
		t.Errorf("asks for %s, want fingerprints,id", top)
	}
	events := Events(Clock{})
	if sel, err = events.Schema.Select([]string{"connection.ja4t"}); err != nil {
		t.Fatal(err)
	}
	e := Event{Eviction: &whorlv1.Eviction{Connection: c}}
	if got, want := shown(t, events, Options{Format: JSONL, Select: sel}, e), `{"connection":{"ja4t":"64240_2-4-8-1-3_1460_7"}}`+"\n"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// NETWORK is in a table as soon as there is one to tell from the default, under
// another header; in a compact line it is the last.
func TestNetworkColumn(t *testing.T) {
	here, lab := connection(), proto.CloneOf(connection())
	lab.Network = "lab"
	kind := Connections(Clock{})
	if got := shown(t, kind, Options{Format: Table, Hold: 9}, here); strings.Contains(got, "NETWORK") {
		t.Errorf("%s: a column for the default network alone", got)
	}
	lines := strings.Split(shown(t, kind, Options{Format: Table, Hold: 9}, here, lab), "\n")
	if !strings.HasPrefix(lines[0], "LAST SEEN  NETWORK  SRC ") || !strings.Contains(lines[2], "  lab      10.0.0.5:") || len(lines) != 4 {
		t.Errorf("%s: want one header with NETWORK", strings.Join(lines, "\n"))
	}
	lines = strings.Split(shown(t, kind, Options{Format: Table}, here, lab, here), "\n")
	if len(lines) != 6 || strings.Contains(lines[0], "NETWORK") || !strings.HasPrefix(lines[2], "LAST SEEN  NETWORK  SRC ") {
		t.Errorf("%s: want a second header, when the first of another network comes", strings.Join(lines, "\n"))
	}
	lines = strings.Split(shown(t, kind, Options{Format: Table, NoHeader: true}, here, lab), "\n")
	if len(lines) != 3 {
		t.Errorf("%s: want no header at all", strings.Join(lines, "\n"))
	}
	lines = strings.Split(shown(t, kind, Options{Format: Compact}, here, lab), "\n")
	if !strings.HasSuffix(lines[0], "  -") || !strings.HasSuffix(lines[1], "  lab") {
		t.Errorf("%s: want the network at the end", strings.Join(lines, "\n"))
	}
}
