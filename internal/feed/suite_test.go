package feed

import (
	"context"
	"testing"
	"time"

	"github.com/whorl-net/whorl/internal/jet"
	"github.com/whorl-net/whorl/internal/jet/jettest"
)

// opener makes an empty journal.
type opener func(t testing.TB, cfg Config) *Journal

// inMemory are the openers that do without a disk. The store of a journal holds
// few messages, so that readers fall out of it as well.
var inMemory = map[string]opener{
	"memory": newJournal,
	"store": func(t testing.TB, cfg Config) *Journal {
		return openStored(t, cfg, &jettest.Memory{MaxMessages: 12, DropOldest: true})
	},
}

// openStored opens the journal that messages hold.
func openStored(t testing.TB, cfg Config, messages Messages) *Journal {
	t.Helper()
	cfg.BlockEvery = time.Nanosecond
	j, err := Open(context.Background(), cfg, messages)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// jetStream makes messages on a disk.
func jetStream(t testing.TB, dir string) Messages {
	t.Helper()
	server, err := jet.Start(jet.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	stream := Stream(256<<20, time.Hour)
	stream.Share = 1
	messages, err := server.Open(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

// onEach runs a test that holds for every journal, whatever is behind it.
func onEach(t *testing.T, test func(t *testing.T, open opener)) {
	for name, open := range map[string]opener{
		"memory": newJournal,
		"store": func(t testing.TB, cfg Config) *Journal {
			return openStored(t, cfg, &jettest.Memory{})
		},
		"jetstream": func(t testing.TB, cfg Config) *Journal {
			return openStored(t, cfg, jetStream(t, t.TempDir()))
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, open) })
	}
}
