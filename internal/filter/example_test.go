package filter_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/filter"
	"github.com/whorl-net/whorl/tracker"
)

func ExampleParse() {
	f, err := filter.Parse("dst.port:443,8443 -proto:udp bytes:>=1000", time.Now().UnixNano())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(f.Match(&tracker.Snapshot{Protocol: flow.TCP, DstPort: 8443, ByteCount: 5000}))
	fmt.Println(f.Match(&tracker.Snapshot{Protocol: flow.UDP, DstPort: 8443, ByteCount: 5000}))
	// Output:
	// true
	// false
}

// An error has the column of the mistake, so that a caret can point at it.
func ExampleError() {
	text := "proto:tcp port:443 dprt:80"
	_, err := filter.Parse(text, 0)
	var e *filter.Error
	if errors.As(err, &e) {
		fmt.Println(e)
		fmt.Println(text)
		fmt.Println(strings.Repeat(" ", e.Column-1) + "^")
	}
	// Output:
	// filter, column 20: "dprt" is not a filter word; did you mean dst.port?
	// proto:tcp port:443 dprt:80
	//                    ^
}
