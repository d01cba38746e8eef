package capture_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcapgo"

	"github.com/whorl-net/whorl/probe/capture"
)

// What a reader of gopacket's lends is what a File lends of the same bytes.
func TestGopacketLendsWhatFileDoes(t *testing.T) {
	for _, format := range []capture.Format{capture.PCAP, capture.PCAPNano} {
		var b bytes.Buffer
		w, err := capture.NewWriter(&b, format, capture.Raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			data := bytes.Repeat([]byte{byte(i)}, i)
			if err := w.Write(&capture.Packet{Data: data, Time: int64(i) * 1_000_001_000, WireLength: uint32(2 * i), LinkType: capture.Raw}); err != nil {
				t.Fatal(err)
			}
		}
		file, err := capture.Read("file", bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		reader, err := pcapgo.NewReader(&b)
		if err != nil {
			t.Fatal(err)
		}
		theirs := &capture.Gopacket{Packets: reader, LinkType: capture.Raw}
		for n := 0; ; n++ {
			var want, got capture.Packet
			wantErr, err := file.Next(&want), theirs.Next(&got)
			if wantErr != err {
				t.Fatalf("packet %d: %v, want %v", n, err, wantErr)
			}
			if err != nil {
				break
			}
			if !bytes.Equal(got.Data, want.Data) || got.Time != want.Time || got.WireLength != want.WireLength || got.LinkType != want.LinkType {
				t.Fatalf("packet %d: %+v, want %+v", n, got, want)
			}
		}
		if theirs.Stats() != file.Stats() || theirs.Stats().Packets != 300 {
			t.Errorf("%+v, want %+v", theirs.Stats(), file.Stats())
		}
	}
}

// row is a gopacket.PacketDataSource of some answers.
type row []struct {
	data []byte
	info gopacket.CaptureInfo
	err  error
}

func (r *row) ReadPacketData() ([]byte, gopacket.CaptureInfo, error) {
	a := (*r)[0]
	*r = (*r)[1:]
	return a.data, a.info, a.err
}

// What gopacket says of a packet is brought within bounds.
func TestGopacketIsNotBelieved(t *testing.T) {
	quiet, broken := errors.New("nothing came"), errors.New("broken")
	at := func(year int) time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
	g := &capture.Gopacket{LinkType: capture.SLL2, Idle: func(err error) bool { return err == quiet }, Packets: &row{
		{data: make([]byte, 10), info: gopacket.CaptureInfo{Length: -1, Timestamp: at(9999)}},
		{err: quiet},
		{data: make([]byte, 10), info: gopacket.CaptureInfo{Length: math.MaxInt}},
		{err: broken},
	}}
	var p capture.Packet
	if err := g.Next(&p); err != nil || p.WireLength != 10 || p.Time != math.MaxInt64 || p.LinkType != capture.SLL2 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := g.Next(&p); err != capture.ErrIdle {
		t.Errorf("%v, want ErrIdle", err)
	}
	if err := g.Next(&p); err != nil || p.WireLength != uint32(min(uint64(math.MaxInt), math.MaxUint32)) || p.Time != math.MinInt64 {
		t.Errorf("%+v, %v", p, err)
	}
	for range 2 {
		if err := g.Next(&p); err != broken {
			t.Errorf("%v, want %v", err, broken)
		}
	}
	if s := g.Stats(); s.TimesClamped != 2 || s.Packets != 2 {
		t.Errorf("%+v", s)
	}

	long := &capture.Gopacket{Packets: &row{{data: make([]byte, capture.MaxCaptured+1)}}}
	if err := long.Next(&p); !errors.Is(err, capture.ErrMalformed) {
		t.Errorf("%v, want ErrMalformed", err)
	}
	closed := &capture.Gopacket{Packets: &row{{err: io.EOF}}}
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	if err := closed.Next(&p); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("%v, want fs.ErrClosed", err)
	}
}
