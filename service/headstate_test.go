package service

import (
	"reflect"
	"testing"
)

func someHead() *headState {
	return &headState{
		sessions: []session{
			{key: sessionKey{probe: "p1", network: "lab", id: [16]byte{1}}, last: 7, packets: 300, lost: 5},
			{key: sessionKey{probe: "p2", network: "default", id: [16]byte{2}}, last: 1 << 60},
		},
		pushes:       [][16]byte{{3}, {4}},
		origins:      []originKey{{"a", "p", false}, {"a", "p", true}, {"b", "", false}},
		counters:     []counterValue{{"probe.packets_lost.other", 5}},
		acknowledged: 99, tracker: []byte("tracker"),
	}
}

// A head comes back as it was written, and is refused wherever it is cut or made
// longer.
func TestHeadComesBack(t *testing.T) {
	data := someHead().append(nil)
	got, err := parseHead(data)
	if err != nil || !reflect.DeepEqual(got, someHead()) {
		t.Fatalf("%+v, %v; want %+v", got, err, someHead())
	}
	for n := range data {
		if _, err := parseHead(data[:n]); err == nil {
			t.Errorf("cut at byte %d of %d: accepted", n, len(data))
		}
	}
	if _, err := parseHead(append(data, 0)); err == nil {
		t.Error("with a byte more: accepted")
	}
	data[0]++
	if _, err := parseHead(data); err == nil {
		t.Error("of another version: accepted")
	}
}

// A head of version 1, without what was counted of a session, is read, too.
func TestHeadOfVersion1(t *testing.T) {
	h := &headState{sessions: []session{{key: sessionKey{probe: "p", network: "n"}, last: 7}}, tracker: []byte{}}
	data := h.append(nil)
	const counts = 1 + 1 + 2 + 2 + 16 + 1 // behind version, number, names, id and last
	if data[counts] != 0 || data[counts+1] != 0 {
		t.Fatalf("%x", data)
	}
	data[0] = 1
	got, err := parseHead(append(data[:counts:counts], data[counts+2:]...))
	if err != nil || !reflect.DeepEqual(got, h) {
		t.Errorf("%+v, %v; want %+v", got, err, h)
	}
}

// Whatever a head holds, it is refused or can be written again as it is.
func FuzzHead(f *testing.F) {
	f.Add(someHead().append(nil))
	f.Add((&headState{}).append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := parseHead(data)
		if err != nil {
			return
		}
		again, err := parseHead(h.append(nil))
		if err != nil || !reflect.DeepEqual(h, again) {
			t.Errorf("%q: %+v, then %+v, %v", data, h, again, err)
		}
	})
}

// Sessions and push keys are remembered in their order: who makes room after a
// restart is who would have without it.
func TestSessionsComeBackInOrder(t *testing.T) {
	s := newSessions()
	for i := range 5 {
		s.admit(sessionKey{probe: string(rune('a' + i))}, 1, 1)
		s.push([16]byte{byte(i + 1)})
	}
	s.admit(sessionKey{probe: "a"}, 2, 2)
	s.close(sessionKey{probe: "d"})
	s.push([16]byte{1})
	sessions, pushes := s.save()
	again := newSessions()
	again.admit(sessionKey{probe: "gone"}, 1, 1)
	again.restore(sessions, pushes)
	sessions2, pushes2 := again.save()
	if !reflect.DeepEqual(sessions, sessions2) || !reflect.DeepEqual(pushes, pushes2) {
		t.Errorf("%v %v came back as %v %v", sessions, pushes, sessions2, pushes2)
	}
	if sessions[0].key.probe != "d" || sessions[4].key.probe != "a" || pushes[4] != [16]byte{1} {
		t.Errorf("order %v %v", sessions, pushes)
	}
	if last, known := again.last(sessionKey{probe: "a"}); last != 2 || !known {
		t.Errorf("session a is at %d, %v", last, known)
	}
	if _, known := again.last(sessionKey{probe: "gone"}); known {
		t.Error("a session of the life before the restore is known")
	}
}
