package service

import (
	"container/list"
	"sync"

	"github.com/whorl-net/whorl/internal/log"
)

// maxSessions bounds the session table. The session whose last batch is oldest
// in the log makes room; if its probe came back after that many others, it
// would start where it says it can.
const maxSessions = 1 << 16

// maxPushKeys bounds the idempotency keys that are remembered.
const maxPushKeys = 1 << 16

// sessionKey tells numberings apart. A session belongs to one network: the same
// id in another is another numbering.
type sessionKey struct {
	probe, network string
	id             [16]byte
}

// sessions remembers the last sequence of each probe session, and the keys of
// pushes. The applier changes it, in log order, so it is a function of the
// log; others only look.
type sessions struct {
	mu     sync.Mutex // guards all below
	byKey  map[sessionKey]*list.Element
	order  *list.List // of *session, least recently applied first
	pushes pushKeys
}

// session is one numbering.
type session struct {
	key sessionKey
	// last is the sequence of the newest batch that was given to the tracker.
	last uint64
	// packets were given to it, and lost were given up by the probe.
	packets, lost uint64
	// heard is the log time of that batch; 0 when nobody knows it.
	heard int64
}

func newSessions() *sessions {
	return &sessions{
		byKey:  make(map[sessionKey]*list.Element),
		order:  list.New(),
		pushes: pushKeys{byID: make(map[[16]byte]*list.Element), order: list.New()},
	}
}

// last returns the newest sequence of a session; known tells 0 of a new session
// from 0 of none.
func (s *sessions) last(key sessionKey) (sequence uint64, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byKey[key]
	if !ok {
		return 0, false
	}
	return e.Value.(*session).last, true
}

// counts returns the packets of a session that were given to the tracker, and
// those that the probe gave up, as far as batches say so.
func (s *sessions) counts(key sessionKey) (packets, lost uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byKey[key]; ok {
		known := e.Value.(*session)
		return known.packets, known.lost
	}
	return 0, 0
}

// count adds to what counts returns, for a record of this log time.
func (s *sessions) count(key sessionKey, packets, lost uint64, logTime int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byKey[key]; ok {
		known := e.Value.(*session)
		known.packets += packets
		known.lost += lost
		known.heard = max(known.heard, logTime)
	}
}

// verdict says what to do with a batch.
type verdict uint8

const (
	verdictApply verdict = iota
	verdictDuplicate
	verdictGap
)

// admit decides on the batches first to last (equal, but for a Lost record) of
// a session and, when they are to be applied, moves the session behind them. A
// session that is not known starts at first.
func (s *sessions) admit(key sessionKey, first, last uint64) verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byKey[key]
	if !ok {
		if len(s.byKey) >= maxSessions {
			oldest := s.order.Front()
			delete(s.byKey, s.order.Remove(oldest).(*session).key)
		}
		s.byKey[key] = s.order.PushBack(&session{key: key, last: last})
		return verdictApply
	}
	known := e.Value.(*session)
	v := judge(known.last, first, last)
	if v == verdictApply {
		known.last = last
		s.order.MoveToBack(e)
	}
	return v
}

// judge compares a batch with the newest sequence before it. A Lost record may
// begin before that, when the probe had not heard that part of it was applied.
func judge(newest, first, last uint64) verdict {
	switch {
	case last <= newest:
		return verdictDuplicate
	case first > newest+1:
		return verdictGap
	default:
		return verdictApply
	}
}

// close forgets nothing yet: the last Ack may have been lost, and the probe then
// asks again. It only lets the session make room before others.
func (s *sessions) close(key sessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byKey[key]; ok {
		s.order.MoveToFront(e)
	}
}

// save returns what is remembered: the sessions, least recently applied first,
// and the keys of pushes, least recently used first.
func (s *sessions) save() ([]session, [][16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]session, 0, s.order.Len())
	for e := s.order.Front(); e != nil; e = e.Next() {
		all = append(all, *e.Value.(*session))
	}
	keys := make([][16]byte, 0, s.pushes.order.Len())
	for e := s.pushes.order.Front(); e != nil; e = e.Next() {
		keys = append(keys, e.Value.([16]byte))
	}
	return all, keys
}

// restore remembers what save returned, and nothing else.
func (s *sessions) restore(all []session, keys [][16]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.byKey)
	s.order.Init()
	for i := range all {
		one := all[i]
		s.byKey[one.key] = s.order.PushBack(&one)
	}
	s.pushes = pushKeys{byID: make(map[[16]byte]*list.Element), order: list.New()}
	for _, id := range keys {
		s.pushes.add(id)
	}
}

// push reports whether a push with this key is new, and remembers it. The zero
// id is always new.
func (s *sessions) push(id [16]byte) (isNew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pushes.add(id)
}

// pushKeys is a bounded set; the key least recently used makes room.
type pushKeys struct {
	byID  map[[16]byte]*list.Element
	order *list.List // of [16]byte
}

func (p *pushKeys) add(id [16]byte) (isNew bool) {
	if id == ([16]byte{}) {
		return true
	}
	if e, ok := p.byID[id]; ok {
		p.order.MoveToBack(e)
		return false
	}
	if len(p.byID) >= maxPushKeys {
		delete(p.byID, p.order.Remove(p.order.Front()).([16]byte))
	}
	p.byID[id] = p.order.PushBack(id)
	return true
}

func keyOf(s log.Session) sessionKey { return sessionKey{probe: s.Probe, network: s.Network, id: s.ID} }
