package cleartext

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/whorl-net/whorl/internal/fuzzguard"
)

func line(l label, random byte, secret string) string {
	return fmt.Sprintf("%s %s %s\n", labelNames[l], strings.Repeat(fmt.Sprintf("%02x", random), 32), secret)
}

// A key log takes what it can use and passes over the rest.
func TestKeyLogAdd(t *testing.T) {
	s32, s48 := strings.Repeat("ab", 32), strings.Repeat("cd", 48)
	text := "# a comment\n\n" +
		line(masterSecret, 1, s48) +
		strings.ReplaceAll(line(clientTraffic, 1, s32), "\n", "\r\n") +
		line(serverTraffic, 2, strings.ToUpper(s32)) +
		"EXPORTER_SECRET " + strings.Repeat("01", 32) + " " + s32 + "\n" +
		"CLIENT_RANDOM 0102 " + s48 + "\n" +
		line(masterSecret, 3, strings.Repeat("ab", 49)) +
		line(masterSecret, 3, "xy") +
		line(masterSecret, 3, "abc") +
		line(masterSecret, 3, "") +
		line(masterSecret, 3, s48+" more") +
		strings.Repeat("x", 2000) + "\n" +
		strings.TrimSuffix(line(clientHandshake, 4, s32), "\n") // the last line, without its end
	k := NewKeyLog(0)
	if n := k.Add([]byte(text)); n != 4 {
		t.Errorf("added %d secrets, want 4", n)
	}
	if n := k.Connections(); n != 3 {
		t.Errorf("%d connections, want 3", n)
	}
	s, ok := k.lookup(Random([]byte(strings.Repeat("\x01", 32))))
	if !ok || fmt.Sprintf("%x", s.get(masterSecret)) != s48 || fmt.Sprintf("%x", s.get(clientTraffic)) != s32 || s.get(clientEarly) != nil {
		t.Errorf("secrets of the first: %x, %t", s.get(masterSecret), ok)
	}
	if _, ok := k.lookup(Random{}); ok {
		t.Error("found secrets that nobody added")
	}
	if (*secrets)(nil).get(masterSecret) != nil {
		t.Error("no secrets have a secret")
	}
}

// When it is full, the oldest connection is forgotten, and counted.
func TestKeyLogIsBounded(t *testing.T) {
	k := NewKeyLog(3)
	secret := strings.Repeat("ab", 32)
	for i := range byte(10) {
		k.Add([]byte(line(clientTraffic, i, secret)))
		k.Add([]byte(line(serverTraffic, i, secret)))
	}
	if k.Connections() != 3 || k.Forgotten() != 7 || len(k.order) != 3 {
		t.Errorf("%d connections, %d forgotten; want 3 and 7", k.Connections(), k.Forgotten())
	}
	for i := range byte(10) {
		if _, ok := k.lookup(Random([]byte(strings.Repeat(string([]byte{i}), 32)))); ok != (i >= 7) {
			t.Errorf("connection %d is there: %t", i, ok)
		}
	}
}

// Secrets may be added while connections look for theirs.
func TestKeyLogConcurrently(t *testing.T) {
	k := NewKeyLog(5)
	var wg sync.WaitGroup
	for g := range byte(4) {
		wg.Go(func() {
			for i := range byte(100) {
				k.Add([]byte(line(clientTraffic, i^g, strings.Repeat("ab", 32))))
				k.lookup(Random{i})
				k.Connections()
			}
		})
	}
	wg.Wait()
	if k.Connections() != 5 {
		t.Errorf("%d connections, want 5", k.Connections())
	}
}

func FuzzKeyLog(f *testing.F) {
	f.Add([]byte(line(masterSecret, 1, strings.Repeat("ab", 48)) + "# x\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fuzzguard.Watch(t)
		k := NewKeyLog(2)
		if n := k.Add(b); n < k.Connections() || k.Connections() > 2 {
			t.Fatalf("%d secrets, %d connections", n, k.Connections())
		}
	})
}
