// Package bpf compiles capture filters, the words that people know from
// tcpdump, to classic BPF programs.
//
// It is small and strict: a word it does not know is an error that says where,
// never a guess, because a filter that is silently wrong is worse than none.
// What it knows means what tcpdump means by it:
//
//	[src|dst] host ADDRESS          [src|dst] net CIDR
//	[tcp|udp] [src|dst] port N      [tcp|udp] [src|dst] portrange A-B
//	ip  ip6  tcp  udp  icmp  icmp6  arp
//	vlan [ID]                       and  or  not  ( )
//
// The words after vlan look inside the tag, in the order in which they are
// written. Everything else comes as a program made by tcpdump -ddd (Parse).
//
// A program fits one link type. For a live interface the kernel has taken the
// outer VLAN tag out of the bytes: Config.Live makes programs that look at the
// kernel's copy.
package bpf
