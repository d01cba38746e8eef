package tracker

import (
	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/ja4"
)

// Entry is a place in the log.
type Entry struct {
	// Position numbers the entries of the log; it rises with each entry, not
	// always by one. 0 stands for one more than the position before.
	Position uint64
	// LogTime is when the entry entered the log, in Unix nanoseconds; a smaller
	// one than before counts as the greatest so far.
	LogTime int64
}

// Output is what an entry of the log led to, or a part of it: see
// Config.OnOutput. It and all that it refers to is valid during the call only.
type Output struct {
	// Position and LogTime are those of the entry.
	Position uint64
	LogTime  int64
	// Items are in order: those of an earlier row of a batch first. What leaves
	// without a packet, in a sweep, a tick or a flush, comes behind the rows, by
	// shard. The order does not depend on the number of workers nor on timing;
	// it depends on the number of shards only as far as these limit what leaves
	// (see Config.Shards). How the items of an entry are cut into Outputs means
	// nothing.
	Items []Item
	// Last says that this is the last Output of the entry. Each entry has one,
	// even without Items.
	Last bool
}

// Item is one step of an Output: exactly one field is set. The events of a
// connection come before its departure.
type Item struct {
	Event     *Event
	Departure *Departure
}

// Departure is a connection that left the table.
type Departure struct {
	// Shard and Number name it: Number rises by one with each eviction of a
	// shard, from 1.
	Shard   int
	Number  uint64
	UID     UID
	Key     flow.Key
	Network string
	Cause   Cause
	// EvictedAt is as in Eviction.
	EvictedAt int64
	// Body is what Config.Encode made of it, empty without.
	Body []byte
}

// EventKind says what an Event is about.
type EventKind uint8

// The kinds.
const (
	// Opened: the packet opened a connection.
	Opened EventKind = 1
	// Fingerprinted: a fingerprint was recorded in the history of its type; not
	// when it equals the newest there, nor when there is no room for it.
	Fingerprinted EventKind = 2
)

// String returns "opened" or "fingerprinted".
func (k EventKind) String() string {
	switch k {
	case Opened:
		return "opened"
	case Fingerprinted:
		return "fingerprinted"
	}
	return "event"
}

// Event is a step in the life of a connection.
type Event struct {
	Kind EventKind
	UID  UID
	Key  flow.Key
	// Network and Probe are labels: Probe is who reported it.
	Network, Probe string
	// Src is the initiator as far as it is known by now; later packets may say
	// otherwise (see Snapshot.Src).
	Src, Dst         flow.Addr
	SrcPort, DstPort uint16
	Protocol         flow.Protocol
	// Time is the capture time of the packet, in Unix nanoseconds; of a
	// fingerprint that no packet of its batch completed, that of the newest
	// packet of the connection. Within an entry and beyond, times are not sorted:
	// packets come late.
	Time int64
	// TCPFlags are those of the packet, 0 without one and when not TCP.
	TCPFlags uint8
	// Packets and bytes of the connection so far, this packet included, by who
	// sent them; as Snapshot counts them.
	SrcPackets, DstPackets uint64
	SrcBytes, DstBytes     uint64

	// What follows is set in a Fingerprinted event.

	Type ja4.Type
	// Value, Raw (empty when unknown) and ServerName (empty unless it came with
	// the fingerprint).
	Value, Raw, ServerName string
	// Previous is the newest value of Type before it, empty if it is the first.
	Previous string
	// PacketNum is the number of the packet among those that Probe saw of the
	// connection, from 1.
	PacketNum uint64
}
