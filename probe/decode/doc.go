// Package decode finds the connection a captured packet belongs to: it walks
// the headers, through tags, tunnels and IP fragments, to the innermost
// TCP, UDP, SCTP or ICMP header.
//
// A Decoder turns a capture.Packet into a Packet and a Verdict. Every packet
// gets exactly one: it is Tracked and has a Tuple, or it is Held (a fragment
// that another packet will bring along), or it says why it belongs to no
// connection. The Decoder counts each, so that nothing vanishes.
//
// The package trusts no byte it reads: all nesting, reassembly and option walks
// are bounded, and Decode neither panics nor allocates (but for buffers of
// fragments, up to a limit). What the payload means is not its business.
package decode
