package wire

import (
	"github.com/whorl-net/whorl/tracker"
)

// Discovery is something found out later about a connection that was recorded
// before.
type Discovery struct {
	// DiscoveredAt is when, in Unix nanoseconds.
	DiscoveredAt int64
	Anomaly      tracker.Anomaly
	Connection   tracker.Snapshot
	// EvictionSequence is that of the connection's eviction, 0 while it is live.
	EvictionSequence uint64
}

// Numbers of the fields of whorl.v1.Discovery, and where WatchResponse has it.
const (
	discoverySequence         = 1
	discoveryDiscoveredAt     = 2
	discoveryAnomaly          = 3
	discoveryConnection       = 4
	discoveryEvictionSequence = 5

	watchDiscoveries = 6
)

// AppendDiscovery appends d as a whorl.v1.Discovery without field 1, the
// sequence, which goes in front once it is known (feed.Journal.AppendDiscovery).
func AppendDiscovery(dst []byte, d *Discovery) []byte {
	return Projection{}.appendDiscovery(dst, d)
}

// AppendDiscoveryFrame appends d as p wants it, framed as field 6, which is where
// WatchResponse has its discoveries. What p leaves out is left out of the
// connection.
func (p Projection) AppendDiscoveryFrame(dst []byte, sequence uint64, d *Discovery) []byte {
	dst, frame := open(dst, watchDiscoveries, mediumRoom)
	dst = appendUint(dst, discoverySequence, sequence)
	dst = p.appendDiscovery(dst, d)
	return finish(dst, frame, mediumRoom)
}

func (p Projection) appendDiscovery(dst []byte, d *Discovery) []byte {
	dst = appendTime(dst, discoveryDiscoveredAt, d.DiscoveredAt)
	dst = appendAnomaly(dst, discoveryAnomaly, &d.Anomaly)
	dst, connection := open(dst, discoveryConnection, mediumRoom)
	dst = p.Append(dst, &d.Connection)
	dst = finish(dst, connection, mediumRoom)
	return appendUint(dst, discoveryEvictionSequence, d.EvictionSequence)
}

// DecodeDiscovery reads what AppendDiscovery wrote, with or without a sequence in
// front, into d, whose memory it uses again. Detail is that of the connection,
// and the promise about p is that of DecodeEviction; so is what it is for.
func DecodeDiscovery(p []byte, detail tracker.Detail, d *Discovery) (sequence uint64, err error) {
	d.Connection.Reset()
	d.DiscoveredAt, d.EvictionSequence = 0, 0
	d.Anomaly = tracker.Anomaly{Evidence: d.Anomaly.Evidence[:0]}
	for len(p) > 0 {
		f, rest, ok := nextField(p)
		if !ok {
			return 0, malformed("discovery", badEncoding)
		}
		p = rest
		switch {
		case f.isVarint(discoverySequence):
			sequence = f.n
		case f.isBytes(discoveryDiscoveredAt):
			if d.DiscoveredAt, ok = unixTime(f.p); !ok {
				return 0, malformed("discovered_at", badEncoding)
			}
		case f.isBytes(discoveryAnomaly):
			if !decodeAnomalyInto(f.p, &d.Anomaly) {
				return 0, malformed("anomaly", badEncoding)
			}
		case f.isBytes(discoveryConnection):
			if err := decodeConnection(f.p, detail, &d.Connection); err != nil {
				return 0, err
			}
		case f.isVarint(discoveryEvictionSequence):
			d.EvictionSequence = f.n
		}
	}
	return sequence, nil
}
