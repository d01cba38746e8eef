package spool

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// read returns the content of a segment from an offset on.
func (s *Spool) read(id uint64, offset int64) ([]byte, error) {
	f, err := os.Open(s.name(id))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := min(info.Size(), maxSegmentFile) - offset
	if size <= 0 {
		return nil, nil
	}
	p := make([]byte, size)
	n, err := f.ReadAt(p, offset)
	if errors.Is(err, io.EOF) {
		err = nil // it was cut meanwhile
	}
	return p[:n], err
}

// Read returns the records of r, as much as maxBytes of bodies and at least one,
// and the rest of r behind them, whose Last is less than its First when nothing
// is left. What cannot be read any more comes as Lost records; together they
// have the numbers, packets and bytes of r. An error says that nothing could be
// read for now.
func (s *Spool) Read(r Range, maxBytes int) (records []Record, rest Range, err error) {
	p, err := s.read(r.segment, r.offset)
	if err != nil {
		return nil, r, fmt.Errorf("spool: %w", err)
	}
	records, rest, damaged := readRange(p, r, maxBytes)
	if damaged {
		s.noteDamage(r.segment)
	}
	return records, rest, nil
}

// readRange is Read of p, which begins where r does; damaged says that something
// of r is not there.
func readRange(p []byte, r Range, maxBytes int) (records []Record, rest Range, damaged bool) {
	places, _, _ := parseRecords(p, r.offset)
	rest = r
	size := 0
	take := func(x Record) {
		records = append(records, x)
		rest.First = x.Last + 1
		rest.Packets -= min(x.Packets, rest.Packets)
		rest.Bytes -= min(x.Bytes, rest.Bytes)
		if rest.Batches > 0 {
			rest.Batches--
		}
		rest.Size -= min(int64(len(x.Body)), rest.Size)
	}
	missing := 0 // index of a record that stands for what cannot be read, plus 1
	for i := range places {
		x := &places[i]
		if x.Last < rest.First {
			continue
		}
		if x.First > r.Last {
			break
		}
		// Behind a gap the rest is read too: what the gap had is what is left over.
		if missing == 0 && size > 0 && size+len(x.Body) > maxBytes {
			rest.offset = x.offset
			return records, rest, missing > 0 || damaged
		}
		if x.First > rest.First {
			gap := Record{First: rest.First, Last: x.First - 1, Reason: ReasonDamaged}
			take(gap)
			missing = len(records)
		}
		take(x.Record)
		damaged = damaged || x.damaged
		size += max(len(x.Body), 1)
		rest.offset = x.end
	}
	if rest.First > r.Last && missing == 0 {
		return records, rest, damaged
	}
	// What is missing had what is left over.
	if missing > 0 && rest.First > r.Last {
		records[missing-1].Packets, records[missing-1].Bytes = rest.Packets, rest.Bytes
	} else {
		records = append(records, Record{First: rest.First, Last: r.Last, Packets: rest.Packets, Bytes: rest.Bytes, Reason: ReasonDamaged})
	}
	return records, Range{First: r.Last + 1, Last: r.Last}, true
}
