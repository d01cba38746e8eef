// Package live captures from Linux network interfaces through an AF_PACKET
// ring (TPACKET_V3), without cgo.
//
// A Ring is one kernel queue: it lends packets in place, so a packet costs no
// copy and no system call of its own. Several rings of one fan-out group share
// an interface by flow, so that both directions of a connection reach the same
// ring. The kernel counts what it had to drop because a ring was full; nothing
// else is lost between the interface and Next.
//
// The process needs CAP_NET_RAW and nothing more.
package live
