package feed_test

import (
	"context"
	"fmt"

	"github.com/whorl-net/whorl/flow"
	"github.com/whorl-net/whorl/internal/feed"
)

// A subscriber reads what is there, keeps its cursor, and goes on from there
// with another reader.
func ExampleJournal() {
	journal, err := feed.New(feed.Config{Epoch: "7f3a9c"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for range 3 {
		if _, err := journal.Append(context.Background(), 0, &feed.Event{
			Key: &flow.Key{}, Network: flow.DefaultNetwork, Body: []byte("an encoded eviction"),
		}); err != nil {
			fmt.Println(err)
			return
		}
	}
	reader := journal.ReadOldest()
	block, err := reader.Next(context.Background(), 2, 1<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	cursor := reader.Cursor().String()
	fmt.Println(block.Len(), "events from", block.First, "resume at", cursor)

	place, err := feed.ParseCursor(cursor)
	if err != nil {
		fmt.Println(err)
		return
	}
	if reader, err = journal.ReadAfter(place); err != nil {
		fmt.Println(err)
		return
	}
	if block, err = reader.Next(context.Background(), 2, 1<<20); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(block.Len(), "event from", block.First)
	// Output:
	// 2 events from 1 resume at 7f3a9c.2
	// 1 event from 3
}
