package output

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

func detailText(t *testing.T, c *whorlv1.Connection) string {
	t.Helper()
	lines := ConnectionDetails(c, Clock{Zone: time.UTC})
	return shown(t, Details(), Options{Format: Table, NoHeader: true, Hold: len(lines)}, lines...)
}

// The lines about a connection say everything that tables and rules found, and
// of a long history the newest.
func TestConnectionDetails(t *testing.T) {
	c := connection()
	c.SshSessionType, c.SshSessionHint = "Unknown", "Interactive SSH Session"
	c.Anomalies = append(c.Anomalies, &whorlv1.Anomaly{Rule: "port-scan", Severity: whorlv1.Severity_SEVERITY_MEDIUM, Description: "20 ports",
		Evidence: []*whorlv1.Evidence{{Value: "10.0.0.5"}, {Type: "ja4", Value: "b"}}})
	c.TableMatches = []*whorlv1.TableMatch{{Entry: "e", Source: "s.yaml", IsBad: true, Confidence: 7}}
	h := &whorlv1.FingerprintHistory{TotalCount: 1500}
	for i := range 30 {
		h.Events = append(h.Events, &whorlv1.FingerprintEvent{Value: fmt.Sprintf("v%d", i), SeenAt: timestamppb.New(moment), PacketNum: 1})
	}
	c.Fingerprints["ja4ssh"] = h
	got := detailText(t, c)
	for _, want := range []string{
		"connection   tcp/10.0.0.5:51312-93.184.216.34:443\n",
		"last seen    2026-11-22 12:00:02.250000 +00:00, 1s later\n",
		"known bad    yes\n",
		"table        s.yaml/e: no application, confidence 7\n",
		"anomaly      high : odd\n             medium port-scan: 20 ports\n               10.0.0.5, ja4 b\n",
		"ja4          a  12:00:01, packet 4\n             b  12:00:01, packet 5\n",
		"ja4ssh       v20  12:00:01, packet 1\n",
		"             v29  12:00:01, packet 1\n             1,490 before these: -o json has those that are kept\n",
		"ssh session  Interactive SSH Session by the wider rule, Unknown by the published thresholds\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "v19 ") {
		t.Errorf("more than the newest values:\n%s", got)
	}
}

// Of what is not known there is no line, and an empty connection is no reason to
// fall over.
func TestDetailsOfLittle(t *testing.T) {
	got := detailText(t, &whorlv1.Connection{})
	if n := strings.Count(got, "\n"); n != 5 {
		t.Errorf("%d lines, want 5:\n%s", n, got)
	}
}

// An answer may lack either word on an SSH session.
func TestConnectionDetailsOfHalfAnSSHSession(t *testing.T) {
	for want, c := range map[string]*whorlv1.Connection{
		"SSH File Transfer":                         {SshSessionType: "SSH File Transfer"},
		"Interactive SSH Session by the wider rule": {SshSessionHint: "Interactive SSH Session"},
		"Interactive SSH Session by the wider rule, Unknown by the published thresholds": {SshSessionHint: "Interactive SSH Session", SshSessionType: "Unknown"},
	} {
		if got := detailText(t, c); !strings.Contains(got, "ssh session  "+want+"\n") {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
