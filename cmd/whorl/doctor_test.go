package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/whorl-net/whorl/internal/output"
	"github.com/whorl-net/whorl/probe/capture"
	"github.com/whorl-net/whorl/probe/live"
	whorlv1 "github.com/whorl-net/whorl/proto/whorl/v1"
)

// Every interface that is up is named, and one whose packets nobody here can
// read is said to be so; of very many the first are named and the rest counted.
func TestInterfacesOfADoctor(t *testing.T) {
	linkType := func(name string) (capture.LinkType, error) {
		switch name {
		case "can0":
			return 0, errors.New("capture on can0: hardware type 280 is not supported")
		case "mac0":
			return 0, live.ErrUnsupported
		}
		return capture.Ethernet, nil
	}
	up := func(names ...string) (all []live.Interface) {
		for _, name := range names {
			all = append(all, live.Interface{Name: name, Up: true, Loopback: name == "lo"})
		}
		return all
	}
	var many []string
	for i := range maxNamedInterfaces + 5 {
		many = append(many, fmt.Sprintf("veth%d", i))
	}
	for _, tc := range []struct {
		all    []live.Interface
		result output.Verdict
		want   string
	}{
		{append(up("lo", "eth0", "wg0"), live.Interface{Name: "eth1"}), output.OK, "up: lo, eth0, wg0"},
		{up("lo", "eth0", "can0"), output.Warn, "up: lo, eth0; capture on can0: hardware type 280 is not supported"},
		{up("lo"), output.Warn, "no interface but the loopback is up"},
		{up("mac0"), output.OK, "up: mac0"},
		{up(many...), output.OK, "up: " + strings.Join(many[:maxNamedInterfaces], ", ") + " and 5 more"},
	} {
		if f := judgeInterfaces(tc.all, linkType); f.Result != tc.result || f.Detail != tc.want {
			t.Errorf("%v:\n%v %q, want %v %q", tc.all, f.Result, f.Detail, tc.result, tc.want)
		}
	}
}

// Packets that moved no clock are worth a line, and what to do about them.
func TestLatePacketsAreWorthALine(t *testing.T) {
	if f := checkLate(&whorlv1.GetStatusResponse{}); f.Result != output.OK {
		t.Errorf("of none: %+v", f)
	}
	if f := checkLate(&whorlv1.GetStatusResponse{PacketsLate: 1200}); f.Result != output.Warn || !strings.HasPrefix(f.Detail, "1,200 packets came later") || f.Fix == "" {
		t.Errorf("of 1200: %+v", f)
	}
}
