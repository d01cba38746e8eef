// Package clients checks the fingerprints of real programs.
//
// record.sh runs each program against a server in network namespaces of their
// own and keeps what was on the wire in recordings/: NAME.pcap, its TLS secrets
// in NAME.keys where the program tells them, and in NAME.want the fingerprints
// that the wire demands. Those were not computed by Whorl: the tests, behind the
// build tag e2e, work them out from tshark's dissection field by field, with
// rules of a few lines that share no code with the packages under test.
//
// Where tshark is installed both are checked again on each run: that NAME.want
// still follows from the dissection, and that whorl fp prints exactly NAME.want.
// Without tshark the second remains. To record anew, as root:
//
//	test/clients/record.sh test/clients/recordings
//	go test -tags e2e ./test/clients -update
//
// One recording cannot be had on demand: ssh-typing-again is ssh-typing of a day
// when TCP sent a segment twice, which counts once.
package clients
