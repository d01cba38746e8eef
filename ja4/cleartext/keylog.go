package cleartext

import (
	"bytes"
	"encoding/hex"
	"sync"
)

// Random is the random of a client hello, which names a connection.
type Random [32]byte

// label says what a secret is for.
type label uint8

const (
	masterSecret label = iota // TLS 1.2 and before
	clientEarly
	clientHandshake
	serverHandshake
	clientTraffic
	serverTraffic
	labels
)

// labelNames are the labels of an SSLKEYLOGFILE.
var labelNames = [labels]string{
	masterSecret:    "CLIENT_RANDOM",
	clientEarly:     "CLIENT_EARLY_TRAFFIC_SECRET",
	clientHandshake: "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
	serverHandshake: "SERVER_HANDSHAKE_TRAFFIC_SECRET",
	clientTraffic:   "CLIENT_TRAFFIC_SECRET_0",
	serverTraffic:   "SERVER_TRAFFIC_SECRET_0",
}

const (
	// DefaultConnections is how many connections a KeyLog holds secrets of,
	// unless NewKeyLog was told otherwise.
	DefaultConnections = 100_000
	// maxLine is longer than any line that means something.
	maxLine = 512
	// maxSecret is the length of the longest secret: a hash of SHA-384.
	maxSecret = 48
)

// secrets are those of one connection.
type secrets struct {
	length [labels]uint8
	bytes  [labels][maxSecret]byte
}

// get returns a secret, nil when it is not there.
func (s *secrets) get(l label) []byte {
	if s == nil || s.length[l] == 0 {
		return nil
	}
	return s.bytes[l][:s.length[l]]
}

// complete reports whether nothing is missing to open a connection of this
// version; early data aside.
func (s *secrets) complete(version uint16) bool {
	if version != versionTLS13 {
		return s.length[masterSecret] > 0
	}
	return s.length[clientHandshake] > 0 && s.length[serverHandshake] > 0 &&
		s.length[clientTraffic] > 0 && s.length[serverTraffic] > 0
}

// KeyLog holds the secrets of connections. When it is full, the connection
// whose secrets came first is forgotten. All methods may be called at the same
// time.
type KeyLog struct {
	mu sync.RWMutex // guards what follows
	// byRandom has an entry for each random in order.
	byRandom map[Random]*secrets
	// order is a ring; next is the oldest once it is full.
	order     []Random
	next      int
	limit     int
	forgotten uint64
}

// NewKeyLog returns an empty KeyLog that holds the secrets of up to
// connections; 0 means DefaultConnections.
func NewKeyLog(connections int) *KeyLog {
	if connections <= 0 {
		connections = DefaultConnections
	}
	return &KeyLog{byRandom: make(map[Random]*secrets), limit: connections}
}

// Add reads text in the format of SSLKEYLOGFILE: whole lines, of a file or of
// the Decryption Secrets Block of a capture. It returns the number of secrets
// that it took. Comments, labels that it has no use for and lines that cannot
// be read are passed over. It does not keep text.
func (k *KeyLog) Add(text []byte) (added int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for len(text) > 0 {
		line, rest, _ := bytes.Cut(text, []byte{'\n'})
		text = rest
		if k.addLineLocked(line) {
			added++
		}
	}
	return added
}

// Connections returns the number of connections that k holds secrets of.
func (k *KeyLog) Connections() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.byRandom)
}

// Forgotten returns the number of connections that had to give way to others.
func (k *KeyLog) Forgotten() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.forgotten
}

// lookup returns a copy of the secrets of a connection.
func (k *KeyLog) lookup(r Random) (s secrets, ok bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	p, ok := k.byRandom[r]
	if ok {
		s = *p
	}
	return s, ok
}

// addLineLocked reads "LABEL random secret"; k.mu is held.
func (k *KeyLog) addLineLocked(line []byte) bool {
	if len(line) > maxLine {
		return false
	}
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return false
	}
	var l label
	for l < labels && labelNames[l] != string(fields[0]) {
		l++
	}
	var random Random
	if l == labels || len(fields[1]) != 2*len(random) || len(fields[2]) > 2*maxSecret || len(fields[2]) == 0 {
		return false
	}
	if _, err := hex.Decode(random[:], fields[1]); err != nil {
		return false
	}
	var secret [maxSecret]byte
	n, err := hex.Decode(secret[:], fields[2])
	if err != nil {
		return false
	}
	s := k.byRandom[random]
	if s == nil {
		s = k.openLocked(random)
	}
	s.length[l], s.bytes[l] = uint8(n), secret
	return true
}

// openLocked makes an entry for a random that has none; k.mu is held.
func (k *KeyLog) openLocked(r Random) *secrets {
	if len(k.order) < k.limit {
		k.order = append(k.order, r)
	} else {
		delete(k.byRandom, k.order[k.next])
		k.order[k.next] = r
		k.next = (k.next + 1) % k.limit
		k.forgotten++
	}
	s := new(secrets)
	k.byRandom[r] = s
	return s
}
