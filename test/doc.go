// Package test runs the real binaries against each other: a probe and a
// collector in processes of their own, queries by the command and by grpcurl.
// Everything but this page is behind the build tag e2e; make e2e runs it.
package test
