package tracker

import "testing"

// Only the chunks that have had a connection off its clock have memory for its
// activity, and what they have is counted.
func TestActivityTakesMemoryWhereItIsNeeded(t *testing.T) {
	secret := newSecret(1)
	s := newShard(0, &Config{}, &secret, 2*chunkSlots, 1<<20)
	for len(s.chunks) < 2 {
		s.grow()
	}
	before := s.memory()
	for slot := uint32(1); slot < 10; slot++ {
		h := s.hot(slot)
		*h = hot{lastSeen: 100}
		if got := s.activity(slot, h); got != 100 {
			t.Fatalf("slot %d: activity is %d before it is off its clock, want 100", slot, got)
		}
		s.offClock(slot, h, int64(slot))
		if got := s.activity(slot, h); got != int64(slot) {
			t.Fatalf("slot %d: activity is %d, want %d", slot, got, slot)
		}
	}
	if got := s.memory() - before; got != chunkSlots*activityBytes {
		t.Errorf("nine connections of one chunk take %d bytes more, want %d", got, chunkSlots*activityBytes)
	}
	if s.late[1] != nil {
		t.Error("a chunk has memory for activities it does not have")
	}

	h := s.hot(1)
	if got := s.backOnClock(1, h, 40); got != 40 || !s.meta(1).is(offClock) {
		t.Errorf("after a packet at 40 activity is %d, off clock %v; want 40, true", got, s.meta(1).is(offClock))
	}
	h.lastSeen = 120
	if got := s.backOnClock(1, h, 120); got != 120 || s.meta(1).is(offClock) || h.state&slow != 0 {
		t.Errorf("after a packet at 120 activity is %d, off clock %v; want 120, false", got, s.meta(1).is(offClock))
	}
}
