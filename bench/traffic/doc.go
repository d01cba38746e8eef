// Package traffic makes network traffic for benchmarks, the same for the same
// Config: packets as a capture.Source, capture files, and batches as a probe
// would cut them.
//
// A Sample holds recorded conversations of real clients and servers. A
// Generator plays them with other addresses, ports and sequence numbers,
// puts data segments between the handshake and the end of each, and mixes many
// of them. So handshakes are what clients send, and sizes and order are known.
//
// # The mixes
//
// Mixed is web traffic, by connection: 48 % TLS 1.2 and 1.3 (21 to 24 packets
// recorded), 10 % HTTP over IPv4 and IPv6 (12), 1 % SSH (66), 32 % DNS (2),
// 4 % ping (4), 5 % refused TCP (2). Short is the edge of a resolver: 6 % TLS,
// 2 % HTTP, 80 % DNS, 4 % ping, 8 % refused. What Config.Packets leaves over
// goes into data segments of TLS, HTTP and SSH connections, by a Pareto
// distribution (shape 1.2, nobody above 2 % of all). Stats says how many of each
// there are.
//
// Packets of a connection come in trains, of 1 or 2 packets for small and up to
// 16 for large ones, from a window of an eighth of all connections that are open
// at a time.
//
// Steady is the same connections in another order: as many as Config says are
// live at any time. Each speaks once; after that trains of 1 to Config.Train
// packets come from any of them, all equally likely, however many packets they
// have. So few packets in a row find in a cache what they are about: of 1 M live
// connections each speaks once in a million packets.
//
// Addresses come from 10.0.0.0/8, 198.18.0.0/15 and 2001:db8::/32. IPv4 header
// checksums are right; those of the transport are as recorded, so wrong, as in
// the capture of a sender with checksum offload. There is no QUIC handshake, for
// want of a recording.
package traffic
