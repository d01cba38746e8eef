//go:build e2e

package test

import (
	"os"
	"os/exec"
	"testing"
)

// The grpcurl script of the examples runs to its end against a live collector,
// more than once.
func TestGrpcurlScript(t *testing.T) {
	grpcurl := os.Getenv("GRPCURL")
	if grpcurl == "" {
		var err error
		if grpcurl, err = exec.LookPath("grpcurl"); err != nil {
			t.Skip("no grpcurl: make e2e builds one")
		}
	}
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip("jq is not installed")
	}
	c := startCollector(t)
	for range 2 {
		cmd := exec.Command("../examples/grpcurl.sh", c.addr)
		cmd.Env = append(os.Environ(), "GRPCURL="+grpcurl)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}
